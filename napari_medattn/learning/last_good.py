"""The last weights of a training that are known to work."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping

import torch
from torch import Tensor, nn


class LastGood:
    """Keeps a copy of a network's weights, at most one a second, that a later finite loss has proven good.

    Args:
        model: The network.
        every: Seconds between two copies.
    """

    def __init__(self, model: nn.Module, every: float = 1.0) -> None:
        self.model, self.every = model, every
        self.step = 0
        self._steps = 0
        self._good: Mapping[str, Tensor] | None = None
        self._candidate: tuple[int, Mapping[str, Tensor]] | None = None
        self._copied = -float("inf")

    def passed(self) -> None:
        """Say that a step was taken; its loss was a number, so the weights before it work."""
        self._steps += 1
        if self._candidate is not None:
            (self.step, self._good), self._candidate = self._candidate, None
        if time.monotonic() - self._copied >= self.every:
            self._candidate = self._steps, copy.deepcopy(self.model.state_dict())
            self._copied = time.monotonic()

    def recover(self, images: Tensor) -> int:
        """Leave the network with weights that give numbers.

        Args:
            images: A batch to try them on.

        Returns:
            The step that the weights are from; 0 if there are none that anything was learned in.
        """
        if self._steps and gives_numbers(self.model, images):
            return self._steps
        if self._good is None:
            return 0
        self.model.load_state_dict(self._good)
        return self.step if gives_numbers(self.model, images) else 0


@torch.no_grad()
def gives_numbers(model: nn.Module, images: Tensor) -> bool:
    """Whether all weights are finite, and the logits of some images are."""
    if not all(bool(t.isfinite().all()) for t in model.state_dict().values() if t.is_floating_point()):
        return False
    return bool(model.eval()(images).isfinite().all())
