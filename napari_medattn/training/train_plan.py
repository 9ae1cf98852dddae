"""`TrainPlan`: what to train, on which part of the data, and for how long."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from torch import nn

from napari_medattn.data import Preparation
from napari_medattn.errors import TrainingError
from napari_medattn.models import get_spec
from napari_medattn.store import Checkpoint
from napari_medattn.training.folder import DataFolder
from napari_medattn.training.loop import TrainingConfig
from napari_medattn.training.sides import Sides

LARGEST_PATCH = {2: (1, 256, 256), 3: (32, 48, 48)}
Triple = tuple[int, int, int]


@dataclass(frozen=True)
class TrainPlan:
    """What to train.

    Attributes:
        network: Name in the model registry.
        name: Name of the checkpoint.
        title: One line for people.
        spatial_dims: 2 or 3; None for the network's default.
        options: The network's own options.
        patch: Training patch (Z, Y, X), Z = 1 for a 2-D network; if None, about the median size of the cases,
            but not more than `LARGEST_PATCH`.
        tile: Tile (Z, Y, X) that `segment` will use; the patch if None.
        preparation: How images are prepared.
        start: Checkpoint of the same network to go on from; random weights if None.
        validation: Cases held out for scoring, where no fold is given.
        fold: Which fold is held out instead, from 0.
        folds: How many there are.
        split_seed: Which patients are held out together.
        sides: What to do where mirroring would turn left organs into right ones, see `sides.mirrored_safely`.
        balance: Weigh the classes in the cross entropy by how rare they are, see `scribbles.balanced_weights`.
        config: How long and with what.
        limits: What the checkpoint must not be used for.
        command: The command line, for the card.
    """

    network: str
    name: str
    title: str = ""
    spatial_dims: int | None = None
    options: dict[str, Any] = field(default_factory=dict)
    patch: Triple | None = None
    tile: Triple | None = None
    preparation: Preparation = field(default_factory=Preparation)
    start: Checkpoint | None = None
    validation: int = 30
    fold: int | None = None
    folds: int = 5
    split_seed: int = 0
    sides: Sides = "refuse"
    balance: bool = False
    config: TrainingConfig = field(default_factory=lambda: TrainingConfig(epochs=100))
    limits: str = "For research only, not for diagnosis."
    command: str = ""

    @property
    def dims(self) -> Literal[2, 3]:
        """Spatial axes of the network."""
        return 2 if (self.spatial_dims or get_spec(self.network).dims[0]) == 2 else 3

    def split(self, folder: DataFolder) -> tuple[list[str], list[str]]:
        """Training and held-out cases."""
        if self.fold is None:
            return folder.split(self.validation, self.split_seed)
        return folder.fold(self.fold, self.folds, self.split_seed)

    def check(self, held_out: Sequence[str], class_names: Sequence[str], processes: int = 1) -> None:
        """See that the plan can be carried out.

        Raises:
            TrainingError: If it cannot.
        """
        for what, size in (("patches", self.patch), ("tiles", self.tile)):
            if self.dims == 2 and size is not None and size[0] != 1:
                raise TrainingError(f"A 2-D network cannot work on {what} of {size}.", "Use 1,Y,X.")
        if self.dims == 3 and self.preparation.neighbours:
            raise TrainingError("A 3-D network sees neighbouring slices anyway.", "Leave out the neighbours.")
        config = self.config
        if config.patience is not None and not held_out:
            raise TrainingError("A run cannot end early where nothing is held out.", "Hold out cases or a fold.")
        if config.class_weights is not None and len(config.class_weights) != len(class_names):
            raise TrainingError(
                f"{len(config.class_weights)} weights do not fit the classes {', '.join(class_names)}.",
                "Give one for each.",
            )
        if processes > 1 and config.seconds is not None:
            raise TrainingError("Processes that train together need a budget in epochs.", "Use --epochs.")
        if config.batch % processes:
            raise TrainingError(
                f"{processes} processes cannot share batches of {config.batch} evenly.", "Choose another --batch."
            )


def go_on_from(start: Checkpoint, plan: TrainPlan, arguments: dict[str, Any]) -> nn.Module:
    """The network of a checkpoint, if it is the one that the plan asks for."""
    card, wanted = start.card, json.loads(json.dumps(arguments))  # a card has lists where options have tuples
    have = json.loads(json.dumps(card.arguments))
    differing = sorted(name for name in {*have, *wanted} if have.get(name) != wanted.get(name))
    if card.network != plan.network or differing:
        what = ", ".join(differing) if card.network == plan.network else f"network ({card.network})"
        raise TrainingError(
            f"{start.name} cannot be the start of this training: it differs in {what}.",
            "Choose a checkpoint of the same network and options, or begin with random weights.",
        )
    return start.build()


def choose_patch(shapes: Sequence[tuple[int, ...]], stride: tuple[int, ...]) -> Triple:
    """A patch that suits cases of (Z, Y, X) shapes: their median size, up to a multiple of the stride."""
    dims = len(stride)
    steps = (1,) * (3 - dims) + stride
    sizes = zip(np.median(shapes, axis=0), LARGEST_PATCH[dims], steps, strict=True)
    z, y, x = (-(-int(min(median, largest)) // step) * step for median, largest, step in sizes)
    return z, y, x
