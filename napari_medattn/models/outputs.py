"""What a network gives while it is trained: logits, and whatever else its authors put into the loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn


@dataclass(frozen=True, eq=False)
class TrainingOutputs:
    """One forward pass of a training step.

    Attributes:
        logits: (B, K, spatial), the network's answer.
        supervised: Logits of the same shape, each of which is scored against the labels; the scores are added.
        terms: Further scalars to be made small, by name; `Recipe.terms` says how much each counts.
    """

    logits: Tensor
    supervised: tuple[Tensor, ...]
    terms: Mapping[str, Tensor] = field(default_factory=dict)


def training_outputs(model: nn.Module, x: Tensor) -> TrainingOutputs:
    """Run a network for a training step.

    A network with more to score than its logits has a method ``training_outputs(x)``.

    Args:
        model: A network from `create_model`.
        x: (B, C, spatial).
    """
    own = getattr(model, "training_outputs", None)
    if own is not None:
        return own(x)  # type: ignore[no-any-return]
    logits = model(x)
    return TrainingOutputs(logits, (logits,))
