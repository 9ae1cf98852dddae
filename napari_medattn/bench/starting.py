"""Masks to start correcting from: what a small network, trained in minutes on other cases of the set, gives."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np

from napari_medattn.data import Preparation
from napari_medattn.data.prepare import AS_PICTURES
from napari_medattn.events import Progress
from napari_medattn.models import get_spec
from napari_medattn.store import Checkpoint, load_checkpoint
from napari_medattn.training.folder import DataFolder
from napari_medattn.training.loop import Event, TrainingConfig
from napari_medattn.training.patches import Augmentation
from napari_medattn.training.patients import patient_of
from napari_medattn.training.train import TrainPlan, train_on_folder

NETWORK = "attention_unet"
STEPS = 1000
_PATCH, _BATCH = 128, 8
# So few cases differ too little from each other.
_STRONG = Augmentation(rotate=25.0, scale=0.25, intensity=0.4, chance=0.8)


@dataclass(frozen=True)
class Split:
    """Which cases are for what; all scans of one patient are for the same.

    Attributes:
        training: The network learns from them.
        tuning: Whatever has to be chosen is chosen on them.
        reported: Nothing was ever chosen or learned on them.
    """

    training: tuple[str, ...]
    tuning: tuple[str, ...]
    reported: tuple[str, ...]

    @classmethod
    def of(cls, folder: DataFolder) -> Split:
        """Half of the patients, a seventh and the rest, in an order that hangs on their names alone."""
        patients = sorted(
            {patient_of(case) for case in folder.cases},
            key=lambda name: hashlib.sha256(f"0/{name}".encode()).hexdigest(),
        )
        training = ceil(len(patients) / 2)
        tuning = training + ceil(len(patients) / 7)
        parts = patients[:training], patients[training:tuning], patients[tuning:]
        return cls(*(tuple(case for case in folder.cases if patient_of(case) in part) for part in parts))


def starting_network(
    folder: DataFolder, cases: Sequence[str], scratch: Path, steps: int
) -> Generator[Progress | Event, None, Checkpoint]:
    """A small 2-D network trained on some cases; taken from the scratch folder if it was trained before.

    Args:
        folder: The data set.
        cases: What to learn from.
        scratch: Folder for the checkpoint. Weights are under the licence of their data: keep them there.
        steps: Steps of eight patches each.

    Yields:
        What training yields.
    """
    epochs = ceil(steps / ceil(len(cases) / _BATCH))
    some = replace(folder, cases={case: folder.cases[case] for case in cases})
    spacing = _spacing(some)
    told = f"{folder.name} {epochs} {spacing} {AS_PICTURES} {' '.join(sorted(cases))}"
    name = f"start-{folder.name}-{hashlib.sha256(told.encode()).hexdigest()[:10]}"
    path = scratch / f"{name}.safetensors"
    if path.exists():
        return load_checkpoint(path)
    variant = get_spec(NETWORK).variant("small")
    plan = TrainPlan(
        network=NETWORK,
        name=name,
        title="To start correcting from",
        spatial_dims=2,
        options=dict(variant.options),
        patch=(1, _PATCH, _PATCH),
        preparation=Preparation(spacing=spacing),
        validation=0,
        config=TrainingConfig(epochs=epochs, batch_size=_BATCH, recipe=variant.recipe, augmentation=_STRONG),
        limits="For benchmarks only.",
        command="medattn bench correct",
    )
    checkpoint: Checkpoint = yield from train_on_folder(some, plan, device="cpu", out=scratch)
    return checkpoint


def _spacing(folder: DataFolder) -> tuple[float, float, float] | None:
    """The cases' own distance of slices, and pixels so large that a patch shows most of the median image.

    None where images do not tell the size of their voxels.
    """
    grids: list[Any] = [folder.example(case).volume.grid for case in folder.cases]
    if any(grid.units != "mm" for grid in grids):
        return None
    z, y, x = np.median([grid.spacing for grid in grids], axis=0)
    extent = np.median([min(n * size for n, size in zip(g.shape[1:], g.spacing[1:], strict=True)) for g in grids])
    pixel = max(float(y), float(x), 0.9 * float(extent) / _PATCH)
    return float(z), round(pixel, 2), round(pixel, 2)
