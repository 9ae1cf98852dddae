"""`LearnPlan`: how to learn from corrections, and what is chosen where nothing is said."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from napari_medattn.errors import TrainingError
from napari_medattn.learning.leeway import rate_for, slow_start_for, variation_for
from napari_medattn.learning.own import own_recipe
from napari_medattn.models import Recipe
from napari_medattn.store import Card
from napari_medattn.training.loop import TrainingConfig

ADAPTER_RATE = 2e-3  # an adapter starts at zero and has far to go
# Seconds by device and spatial axes of the network.
_SECONDS = {("cpu", 2): 30.0, ("cpu", 3): 60.0, ("gpu", 2): 15.0, ("gpu", 3): 20.0}
_BATCH = {"cpu": 2, "gpu": 4}


@dataclass(frozen=True)
class LearnPlan:
    """How to learn.

    Attributes:
        method: A name in `methods.METHODS`.
        seconds: Time from the call to the saved version, about; `default_seconds` if None. Preparing and scoring are
            taken off it, but half of it is always left to train.
        rehearsal: Share of the patches that come from earlier examples, 0..1; None: `rehearsal_for` chooses.
        anchor: Strength of the pull towards the parent's weights, see `anchor.anchor`; None: `anchor_for` chooses.
            benchmarks/finetune.md has what other values do.
        opinion: Strength of the pull, on voxels that nobody vouches for, towards what the parent says of them, see
            `TrainingConfig.hold`; 0: they do not count at all. None: `opinion_for` chooses.
        folds: Where no examples are held out, in how many parts the corrections are cut: a network that learned
            from the others is scored on each. 0: nothing is held back, and no verdict is given.
        batch_size: Patches per step; chosen by the device if None.
        learning_rate: Highest learning rate; chosen by the method if None.
        accept_mismatch: Learn although an image or its classes look unlike what the network was trained on.
        seed: Everything random follows from it.
        config: In place of what would be chosen: length, recipe, batches, augmentation and seed.
    """

    method: str = "whole"
    seconds: float | None = None
    rehearsal: float | None = None
    anchor: float | None = None
    opinion: float | None = None
    folds: int = 2
    batch_size: int | None = None
    learning_rate: float | None = None
    accept_mismatch: bool = False
    seed: int = 0
    config: TrainingConfig | None = None

    def __post_init__(self) -> None:
        for name, value, low, high in (
            ("seconds", self.seconds, 0.0, float("inf")),
            ("rehearsal", self.rehearsal, 0.0, 1.0),
            ("anchor", self.anchor, 0.0, float("inf")),
            ("opinion", self.opinion, 0.0, float("inf")),
            ("folds", self.folds, 0, 100),
        ):
            if value is not None and not low <= value <= high:
                raise TrainingError(f"Learning cannot go with {name} = {value}.", f"Use {low:g} to {high:g}.")
        if self.folds == 1:
            raise TrainingError("Corrections cannot be cut into one fold.", "Use 0, or 2 and more.")


def default_seconds(card: Card, device: torch.device) -> float:
    """A time budget that suits a network on a device."""
    return _SECONDS[_kind(device), card.spatial_dims]


def tuning_recipe(own: Recipe, rate: float, leeway: float = 0.0, rehearsing: bool = False) -> Recipe:
    """A recipe for a few hundred steps: the network's own terms, little warm-up, as much Dice loss as leeway."""
    return Recipe(
        learning_rate=rate,
        warm_up=0.05,
        warm_up_steps=slow_start_for(leeway, rehearsing),
        dice_weight=leeway * own.dice_weight,
        terms=own.terms,
    )


def opinion_for(agreement: float) -> float:
    """How strongly untouched voxels should be held to the parent's opinion.

    Args:
        agreement: Share of the counted voxels whose label the parent gives already. Where only wrong voxels count,
            it is near 0 and nothing else tells the network what was right; where whole slices count, it is near 1.
    """
    return 10.0 * (1 - agreement)


def tuning_config(
    plan: LearnPlan,
    card: Card,
    device: torch.device,
    seconds: float,
    agreement: float,
    leeway: float,
    rehearsing: bool = False,
) -> TrainingConfig:
    """What the training loop is told.

    Args:
        plan: The plan.
        card: The parent's.
        device: Where the training runs.
        seconds: How long it may take.
        agreement: See `opinion_for`.
        leeway: See `leeway.leeway`.
        rehearsing: Likewise.
    """
    if plan.config is not None:
        return plan.config if plan.config.seconds is None else replace(plan.config, seconds=seconds)
    own = own_recipe(card)
    usual = ADAPTER_RATE if plan.method == "adapters" else rate_for(leeway, own)
    rate = plan.learning_rate or usual
    return TrainingConfig(
        seconds=seconds,
        batch_size=plan.batch_size or _batch(device, card.spatial_dims, leeway),
        recipe=tuning_recipe(own, rate, leeway, rehearsing),
        augmentation=variation_for(leeway),
        seed=plan.seed,
        freeze_statistics=True,
        hold=opinion_for(agreement) if plan.opinion is None else plan.opinion,
    )


def _batch(device: torch.device, spatial_dims: int, leeway: float) -> int:
    """Patches per step; of small 2-D ones several take little longer than one, and there are many of them."""
    return round(_BATCH[_kind(device)] * (1 + leeway if spatial_dims == 2 else 1))


def _kind(device: torch.device) -> str:
    return "cpu" if device.type == "cpu" else "gpu"
