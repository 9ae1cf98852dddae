"""Who trains: one process, or several that share every batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from napari_medattn.models import TrainingOutputs, training_outputs
from napari_medattn.training.losses import alone

Forward = Callable[[Tensor], TrainingOutputs]


class Workers(Protocol):
    """The processes of one training, seen from one of them.

    Attributes:
        rank: Which this is; 0 scores, saves and logs.
        count: How many there are.
        device: Where this one computes; None if that is not given by which process it is.
    """

    rank: int
    count: int
    device: torch.device | None

    def wrap(self, model: nn.Module) -> Forward:
        """The network's forward pass for training, so that gradients become those of the whole batch."""

    def backward(self, loss: Tensor) -> None:
        """Compute gradients."""

    def pool(self, sums: Tensor) -> Tensor:
        """Sums over this process's part of a batch -> sums over the batch, with gradients."""

    def mean(self, value: Tensor) -> float:
        """A number's mean over the processes."""

    def from_first(self, value: Any) -> Any:
        """What process 0 holds."""


class Alone:
    """One process."""

    rank, count = 0, 1
    device: torch.device | None = None

    def wrap(self, model: nn.Module) -> Forward:
        """The network's own forward pass."""
        return lambda images: training_outputs(model, images)

    def backward(self, loss: Tensor) -> None:
        """Compute gradients."""
        loss.backward()  # type: ignore[no-untyped-call]

    def pool(self, sums: Tensor) -> Tensor:
        """They are complete."""
        return alone(sums)

    def mean(self, value: Tensor) -> float:
        """The number."""
        return float(value)

    def from_first(self, value: Any) -> Any:
        """The value."""
        return value
