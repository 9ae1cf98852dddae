"""`Tap`: the named place in a network through which an attention tensor passes."""

from __future__ import annotations

from collections.abc import Callable
from threading import get_ident

import torch
from torch import Tensor, nn

Listener = Callable[[dict[str, Tensor]], None]


class Switch:
    """What the thread that made it wants switched off at a tap.

    Args:
        heads: Numbers of the heads; None for all that the site does.

    Attributes:
        reached: Whether a forward pass of that thread came by.
    """

    def __init__(self, heads: frozenset[int] | None = None) -> None:
        self.heads, self.thread, self.reached = heads, get_ident(), False


class Tap(nn.Module):
    """Hands attention tensors to whoever listens, and holds back what is switched off; else it costs nothing.

    A network asks `listened` before it computes anything that only a listener needs, so the fast
    path stays fast. What attention found goes through `heads` and `result` (or asks `off`), which hand it on
    untouched unless this very thread switched something off. The tap has no parameters and leaves no trace in a
    state dict.
    """

    def __init__(self) -> None:
        super().__init__()
        self._listeners: list[Listener] = []
        self._switches: list[Switch] = []

    def __deepcopy__(self, memo: dict[int, object]) -> Tap:
        """A copy of a network is not listened to, and nothing is switched off in it."""
        return Tap()

    @property
    def listened(self) -> bool:
        """Whether anybody wants the tensors of the coming forward pass."""
        return bool(self._listeners)

    def attach(self, listener: Listener) -> None:
        """Call ``listener(tensors)`` at each forward pass until it is detached."""
        self._listeners.append(listener)

    def detach(self, listener: Listener) -> None:
        """Stop calling ``listener``."""
        self._listeners.remove(listener)

    def emit(self, **tensors: Tensor) -> None:
        """Hand named tensors to all listeners, in the order in which they were attached."""
        for listener in tuple(self._listeners):
            listener(tensors)

    def switch_off(self, switch: Switch) -> None:
        """Hold back what ``switch`` says in forward passes of its thread, until `switch_on`."""
        self._switches.append(switch)

    def switch_on(self, switch: Switch) -> None:
        """Take ``switch`` away again."""
        self._switches.remove(switch)

    @property
    def off(self) -> bool:
        """Whether the whole site is switched off in this thread."""
        return any(switch.heads is None for switch in self._mine())

    def head(self, x: Tensor, number: int) -> Tensor:
        """What one head found, or zeros if the head is switched off."""
        return torch.zeros_like(x) if number in self._heads_off() else x

    def heads(self, x: Tensor, axis: int, count: int) -> Tensor:
        """What ``count`` heads found, side by side along ``axis``, with zeros for those that are switched off."""
        off = self._heads_off()
        if not off:
            return x
        parts = x.tensor_split(count, dim=axis)
        return torch.cat([torch.zeros_like(p) if n in off else p for n, p in enumerate(parts)], dim=axis)

    def result(self, x: Tensor) -> Tensor:
        """What the site adds to its surroundings, or zeros if the whole site is switched off."""
        return torch.zeros_like(x) if self.off else x

    def _mine(self) -> list[Switch]:
        if not self._switches:
            return []
        here = get_ident()
        found = [switch for switch in tuple(self._switches) if switch.thread == here]
        for switch in found:
            switch.reached = True
        return found

    def _heads_off(self) -> set[int]:
        return {number for switch in self._mine() for number in switch.heads or ()}
