"""`ModelSpec`: what the registry knows of a network without building it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor, nn

State = Mapping[str, Tensor]
BASE_ARGUMENTS = ("in_channels", "num_classes", "spatial_dims")


@dataclass(frozen=True)
class Recipe:
    """How a network is trained, as data that the training loop obeys.

    Attributes:
        optimiser: ``"adamw"`` or ``"sgd"`` (Nesterov, momentum 0.9).
        learning_rate: Peak learning rate.
        weight_decay: Decoupled (adamw) or L2 (sgd) weight decay.
        dice_weight: Weight of the soft Dice term of the loss.
        cross_entropy_weight: Weight of the cross entropy term of the loss.
        warm_up: Share of the run over which the rate rises linearly.
        decay_power: The rate then falls as ``(1 - progress) ** decay_power``.
    """

    optimiser: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    dice_weight: float = 1.0
    cross_entropy_weight: float = 1.0
    warm_up: float = 0.03
    decay_power: float = 0.9


@dataclass(frozen=True)
class ModelSpec:
    """A registered network.

    Attributes:
        name: Name in the registry.
        title: Name for people.
        paper: Link to the paper.
        build: The network's class; called with ``in_channels, num_classes, spatial_dims`` and options.
        dims: Supported numbers of spatial axes; the first is the default.
        from_authors: Turns a state dict with the authors' key names into ours, given the network.
        recipe: How it is trained unless told otherwise.
        notes: What a user should know, e.g. that it is a reconstruction.
    """

    name: str
    title: str
    paper: str
    build: Callable[..., nn.Module]
    dims: tuple[int, ...]
    from_authors: Callable[[nn.Module, State], dict[str, Tensor]]
    recipe: Recipe = field(default_factory=Recipe)
    notes: str = ""

    @property
    def options(self) -> dict[str, Any]:
        """The network's own options with their defaults."""
        parameters = inspect.signature(self.build).parameters.values()
        return {p.name: p.default for p in parameters if p.name not in BASE_ARGUMENTS}
