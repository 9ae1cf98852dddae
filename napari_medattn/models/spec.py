"""`ModelSpec`: what the registry knows of a network without building it."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor, nn

from napari_medattn.errors import ModelError

State = Mapping[str, Tensor]
BASE_ARGUMENTS = ("in_channels", "num_classes", "spatial_dims")


@dataclass(frozen=True)
class GatedCRF:
    """The pairs of voxels that a gated CRF loss compares (Obukhov et al., arXiv 1906.04651), see `training.crf`.

    Attributes:
        weight: Weight of the term.
        radius: Largest distance of a pair along each axis, in voxels.
        position: Standard deviation of the kernel over distance, in voxels.
        intensity: Standard deviation of the kernel over prepared intensities.
    """

    weight: float = 0.1
    radius: int = 5
    position: float = 6.0
    intensity: float = 0.2


@dataclass(frozen=True)
class Recipe:
    """How a network is trained, as data that the training loop obeys.

    Attributes:
        optimiser: ``"adamw"``, ``"adam"`` (weight decay as an L2 term) or ``"sgd"``.
        learning_rate: Peak learning rate.
        weight_decay: Decoupled (adamw) or L2 (adam, sgd) weight decay.
        betas: Adam's decay rates of the two moments.
        momentum: Momentum of sgd.
        nesterov: Whether sgd looks ahead, as Nesterov's does.
        batch_size: Patches per step.
        epochs: Passes over the cases.
        dice_weight: Weight of the Dice term of the loss.
        dice_form: ``"soft"`` (plain sums in the denominator, foreground classes, pooled over the batch),
            ``"squared"`` (sums of squares in the denominator, all classes, pooled) or ``"per_image"`` (plain
            sums, all classes, each image by itself).
        cross_entropy_weight: Weight of the cross entropy term of the loss.
        crf: Compares neighbours where labels are sparse; None if all voxels are labelled.
        terms: Weights of the terms that the network itself adds, see `TrainingOutputs.terms`.
        warm_up: Share of the run over which the rate rises linearly.
        warm_up_steps: Steps over which it rises at least; a shorter run never comes to the full rate.
        decay_power: The rate then falls as ``(1 - progress) ** decay_power``; 0 keeps it.
        halve_every: Epochs after which the rate is halved, again and again; None for never.
        halve_after: Epochs without a better held-out score after which the rate is halved; None for never, and
            never where nothing is held out.
        gates_frozen: Epochs during which parameters that a network creates frozen stay so, but at most half of
            the run.
    """

    optimiser: Literal["adamw", "adam", "sgd"] = "adamw"
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    betas: tuple[float, float] = (0.9, 0.999)
    momentum: float = 0.9
    nesterov: bool = True
    batch_size: int = 4
    epochs: int = 100
    dice_weight: float = 1.0
    dice_form: Literal["soft", "squared", "per_image"] = "soft"
    cross_entropy_weight: float = 1.0
    crf: GatedCRF | None = None
    terms: Mapping[str, float] = field(default_factory=dict)
    warm_up: float = 0.03
    warm_up_steps: int = 0
    decay_power: float = 0.9
    halve_every: int | None = None
    halve_after: int | None = None
    gates_frozen: int = 0


@dataclass(frozen=True)
class Variant:
    """A named choice of a network's options, with the recipe that suits it.

    Attributes:
        options: Values of the network's own options.
        recipe: How this variant is trained.
    """

    options: Mapping[str, Any] = field(default_factory=dict)
    recipe: Recipe = field(default_factory=Recipe)


@dataclass(frozen=True)
class ModelSpec:
    """A registered network.

    Attributes:
        name: Name in the registry.
        title: Name for people.
        paper: Link to the paper.
        build: The network's class; called with ``in_channels, num_classes, spatial_dims`` and options.
        dims: Supported numbers of spatial axes; the first is the default.
        from_authors: Turns a state dict with the authors' key names into ours, given the network, leaving out
            what they never use; None if they published no code.
        recipe: How its authors train it.
        variants: Named choices of options beside the paper's own, e.g. ``"small"``.
        notes: What a user should know, e.g. that it is a reconstruction.
    """

    name: str
    title: str
    paper: str
    build: Callable[..., nn.Module]
    dims: tuple[int, ...]
    from_authors: Callable[[nn.Module, State], dict[str, Tensor]] | None
    recipe: Recipe = field(default_factory=Recipe)
    variants: Mapping[str, Variant] = field(default_factory=dict)
    notes: str = ""

    def variant(self, name: str) -> Variant:
        """The options and the recipe called ``name``; ``"paper"`` is the network as published.

        Raises:
            ModelError: If the network has no such variant.
        """
        if name == "paper":
            return Variant(recipe=self.recipe)
        if name not in self.variants:
            known = ", ".join(("paper", *self.variants))
            raise ModelError(f"{self.title} has no variant {name!r}.", f"Its variants are {known}.")
        return self.variants[name]

    @property
    def options(self) -> dict[str, Any]:
        """The network's own options with their defaults."""
        parameters = inspect.signature(self.build).parameters.values()
        return {p.name: p.default for p in parameters if p.name not in BASE_ARGUMENTS}
