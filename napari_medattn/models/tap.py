"""`Tap`: the named place in a network through which an attention tensor passes."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

Listener = Callable[[dict[str, Tensor]], None]


class Tap(nn.Module):
    """Hands attention tensors to whoever listens; costs nothing while nobody does.

    A network asks `listened` before it computes anything that only a listener needs, so the fast
    path stays fast. The tap has no parameters and leaves no trace in a state dict.
    """

    def __init__(self) -> None:
        super().__init__()
        self._listeners: list[Listener] = []

    def __deepcopy__(self, memo: dict[int, object]) -> Tap:
        """A copy of a network is not listened to."""
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
