"""``medattn bench learn``, scribbles: what a network learns from scribbles alone, beside full masks.

The same small 2-D network, patches, steps and seed throughout; only the labels, and the losses that suit them, differ.
Trained on the training patients of a set and scored on full masks of its reported patients, on which nothing was ever
chosen: recipe and budget come from its tuning patients.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from napari_medattn.bench.row import Row
from napari_medattn.bench.starting import Split
from napari_medattn.data import Preparation, write_labels
from napari_medattn.data.phantom import CLASS_NAMES, phantom, write_image
from napari_medattn.errors import InputError
from napari_medattn.events import Progress
from napari_medattn.files import make_folder
from napari_medattn.inference import Predictor
from napari_medattn.models import Recipe, get_spec
from napari_medattn.store import Checkpoint, load_checkpoint
from napari_medattn.training.folder import DataFolder
from napari_medattn.training.held_out import mean_dice, score_network
from napari_medattn.training.loop import Event, TrainingConfig
from napari_medattn.training.patches import Augmentation
from napari_medattn.training.scribbles import scribble_recipe
from napari_medattn.training.train import TrainPlan, train_on_folder

NETWORK, SCRIBBLES = "attention_unet", "scribbles"
FULL, SPARSE, PLAIN = "full masks", "scribbles", "scribbles, cross entropy alone"
TARGET = 0.9  # of the Dice that full masks give
_STRONG = Augmentation(rotate=25.0, scale=0.25, intensity=0.4, chance=0.8)  # so few cases differ too little


@dataclass(frozen=True)
class Budget:
    """The same for every way of learning.

    Attributes:
        steps: Optimiser steps.
        batch: Patches per step.
        side: Voxels along a patch.
        spacing: Voxel size within slices, in mm.
        seed: Everything random follows from it.
    """

    steps: int = 700
    batch: int = 8
    side: int = 96
    spacing: float = 2.0
    seed: int = 0


QUICK = Budget(steps=30, batch=4, side=64)


def ways() -> dict[str, tuple[str, Recipe]]:
    """Labels and recipe of each way of learning."""
    recipe = get_spec(NETWORK).variant("small").recipe
    sparse = scribble_recipe(recipe)
    return {
        FULL: ("labels", recipe),
        SPARSE: (SCRIBBLES, sparse),
        PLAIN: (SCRIBBLES, replace(sparse, crf=None)),
    }


def measure(
    quick: bool = False, data: Path | None = None, scratch: Path | None = None
) -> Generator[Any, None, list[Row]]:
    """Train from full masks and from scribbles, and compare.

    Args:
        quick: Minimal trainings, to see that it works: they are too short for the figures to mean anything.
        data: A data folder with ``labels/`` and ``scribbles/``; made-up scans if None.
        scratch: Folder for the networks; those that lie there are not trained again. Weights are under the licence
            of their data: keep them there.

    Yields:
        Progress, and what training yields.

    Returns:
        The rows of the table.

    Raises:
        InputError: If a data folder comes without a scratch folder.
    """
    if data is not None and scratch is None:
        raise InputError("The networks that are trained on the data have to be kept somewhere.", "Give --scratch.")
    with tempfile.TemporaryDirectory() as temporary:
        kept = make_folder(scratch or Path(temporary))
        root = data or _made_up(Path(temporary) / "data", 4 if quick else 14)
        budget = QUICK if quick else Budget(spacing=Budget.spacing if data is not None else 1.0)
        split = Split.of(DataFolder.open(root))
        found = {}
        for way in ways():
            if quick and way == PLAIN:
                continue
            checkpoint = yield from learned(DataFolder.open(root, ways()[way][0]), split.training, way, kept, budget)
            yield Progress(f"scoring {way}", 0, 0)
            found[way] = scores(checkpoint, DataFolder.open(root), split.reported[: 2 if quick else None])
    return _rows(found, budget, len(split.training), len(split.reported))


def learned(
    folder: DataFolder, cases: Sequence[str], way: str, scratch: Path, budget: Budget
) -> Generator[Progress | Event, None, Checkpoint]:
    """The network that some cases teach in one way; taken from the scratch folder if it was trained before.

    Yields:
        What training yields.
    """
    recipe = ways()[way][1]
    variant = get_spec(NETWORK).variant("small")
    config = TrainingConfig(
        epochs=ceil(budget.steps / ceil(len(cases) / budget.batch)),
        batch_size=budget.batch,
        recipe=recipe,
        augmentation=_STRONG,
        seed=budget.seed,
    )
    told = json.dumps([folder.name, sorted(cases), folder.labelled, config.to_json(), vars(budget)], sort_keys=True)
    name = f"{way.replace(', ', '-').replace(' ', '-')}-{hashlib.sha256(told.encode()).hexdigest()[:10]}"
    path = scratch / f"{name}.safetensors"
    if path.exists():
        return load_checkpoint(path)
    some = replace(folder, cases={case: folder.cases[case] for case in cases})
    thickness = float(np.median([some.example(case).volume.grid.spacing[0] for case in cases]))
    plan = TrainPlan(
        network=NETWORK,
        name=name,
        spatial_dims=2,
        options=dict(variant.options),
        patch=(1, budget.side, budget.side),
        preparation=Preparation(spacing=(thickness, budget.spacing, budget.spacing)),
        validation=0,
        config=config,
        limits="For benchmarks only.",
        command="medattn bench learn",
    )
    return (yield from train_on_folder(some, plan, device="cpu", out=scratch))


def scores(checkpoint: Checkpoint, folder: DataFolder, cases: Sequence[str]) -> dict[str, float]:
    """Mean Dice of each class over some cases, against full masks."""
    predictor = Predictor.load(checkpoint, "cpu")
    return mean_dice(score_network(predictor, [folder.example(case) for case in cases]), folder.class_names)


def _rows(found: dict[str, dict[str, float]], budget: Budget, training: int, reported: int) -> list[Row]:
    means = {way: float(np.mean(list(dice.values()))) for way, dice in found.items()}
    note = f"{training} scans, {budget.steps} steps of {budget.batch}; scored on {reported}"
    rows = [Row("scribbles: Dice / that of full masks", means[SPARSE] / means[FULL], TARGET, note=note)]
    if PLAIN in means:
        rows.append(Row("scribbles: Dice with cross entropy alone / that of full masks", means[PLAIN] / means[FULL]))
    for way, dice in found.items():
        rows.append(Row(f"scribbles: Dice, {way}", means[way], unit="Dice"))
        rows += [Row(f"scribbles: Dice, {way}, {name}", value, unit="Dice") for name, value in dice.items()]
    return rows


def _made_up(root: Path, count: int) -> Path:
    """A data folder of phantoms, scribbled on in straight lines well inside each class."""
    for name in ("images", "labels", SCRIBBLES):
        make_folder(root / name)
    for seed in range(count):
        volume, labels = phantom(66_000 + seed, (8, 80, 80))
        name = f"made-up{seed:02}.nii.gz"
        write_image(root / "images" / name, volume)
        write_labels(root / "labels" / name, labels, volume)
        write_labels(root / SCRIBBLES / name, scribbled(labels), volume)
    told = {str(number): name for number, name in enumerate(CLASS_NAMES)}
    sparse = {"0": "unlabelled", **{str(number + 1): name for number, name in enumerate(CLASS_NAMES)}}
    facts = {"name": "made-up scans", "labels": told, SCRIBBLES: sparse, "licence": "CC0 1.0"}
    (root / "dataset.json").write_text(json.dumps(facts), encoding="utf-8")
    return root


def scribbled(labels: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Lines inside each class of (Z, Y, X) labels: the class plus one on them, 0 elsewhere."""
    lines = np.zeros(labels.shape, np.uint8)
    on_line = np.arange(labels.shape[1])[None, :, None] % 8 == 4
    for number in np.unique(labels):
        inside = ndimage.binary_erosion(labels == number, np.ones((1, 3, 3)))
        lines[inside & on_line] = number + 1
    return lines
