"""What tests of training share: tiny scans in a folder, a tiny network, a plan that takes a second."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from napari_medattn.data import Volume, write_labels
from napari_medattn.data.phantom import write_image
from napari_medattn.geometry import Grid
from napari_medattn.models import Recipe
from napari_medattn.training.examples import TrainingCase
from napari_medattn.training.loop import TrainingConfig
from napari_medattn.training.patches import Augmentation, PatchSampler
from napari_medattn.training.train import TrainPlan

CPU = torch.device("cpu")
SHAPE = (2, 32, 32)
NAMES = ("a_frame01", "a_frame09", "b_frame01", "b_frame07", "c_frame01")


def make_folder(root: Path, names: Sequence[str] = NAMES, **facts: Any) -> Path:
    """Bright squares on noise, at another place in each case."""
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    for number, name in enumerate(names):
        square = np.zeros(SHAPE, np.uint8)
        square[:, 6 + number : 18 + number, 8:22] = 1
        values = np.random.default_rng(number).normal(0, 0.3, SHAPE) + 2 * square
        volume = Volume(values[None].astype(np.float32), Grid.from_spacing(SHAPE, (1, 1, 1)), name=name)
        write_image(root / "images" / f"{name}.nii.gz", volume)
        write_labels(root / "labels" / f"{name}.nii.gz", square, volume)
    told = {"name": "squares", "labels": {"0": "background", "1": "square"}, "licence": "CC0", **facts}
    (root / "dataset.json").write_text(json.dumps(told), encoding="utf-8")
    return root


def make_plan(epochs: int = 4, network: str = "attention_unet", **config: Any) -> TrainPlan:
    """One patient held out, two validations."""
    return TrainPlan(
        network,
        "mine",
        spatial_dims=2,
        options={"feature_scale": 32},
        patch=(1, 32, 32),
        validation=2,
        config=TrainingConfig(epochs=epochs, batch_size=2, validations=2, **config),
    )


def make_cases(count: int = 3) -> list[TrainingCase]:
    made = []
    for number in range(count):
        image = np.random.default_rng(number).normal(size=(1, 1, 24, 24)).astype(np.float32)
        made.append(
            TrainingCase(f"case {number}", image, (image[0] > 0).astype(np.uint8), np.ones((1, 24, 24), np.float32))
        )
    return made


def make_sampler(augmentation: Augmentation | None = None, count: int = 3) -> PatchSampler:
    return PatchSampler(make_cases(count), (1, 16, 16), 2, augmentation or Augmentation(flip_axes=(-1,)), seed=3)


def tiny_network() -> torch.nn.Module:
    """Two layers, with numbers that it draws itself."""
    torch.manual_seed(5)
    return torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3, padding=1),
        torch.nn.BatchNorm2d(4),
        torch.nn.Dropout(0.3),
        torch.nn.Conv2d(4, 2, 1),
    )


RECIPES = {
    "adamw": Recipe(learning_rate=1e-2),
    "sgd": Recipe(optimiser="sgd", learning_rate=1e-2, halve_after=1),
}
