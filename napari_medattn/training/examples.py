"""Examples as a network sees them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medattn.data import Example, Preparation, Prepared, Volume, prepare
from napari_medattn.data.prepare import resample
from napari_medattn.errors import TrainingError

__all__ = ["Example", "TrainingCase", "case_of", "check_labels", "prepare_example"]


@dataclass(frozen=True, eq=False)
class TrainingCase:
    """An example as the network sees it: all arrays on the prepared grid.

    Attributes:
        name: The image's name.
        image: (C, Z, Y, X) float32.
        labels: (Z, Y, X) uint8.
        weights: (Z, Y, X) float32.
    """

    name: str
    image: NDArray[np.float32]
    labels: NDArray[np.uint8]
    weights: NDArray[np.float32]


def prepare_example(example: Example, how: Preparation, num_classes: int) -> TrainingCase:
    """Bring an example onto the prepared grid.

    Raises:
        TrainingError: If it holds a label that the network has no class for.
    """
    check_labels(example, num_classes)
    return case_of(example, prepare(example.volume, how), num_classes)


def case_of(example: Example, prepared: Prepared, num_classes: int) -> TrainingCase:
    """An example whose image is prepared already; its labels are brought to the same grid.

    Raises:
        TrainingError: If it holds a label that the network has no class for.
    """
    check_labels(example, num_classes)
    weights = np.ones(example.labels.shape) if example.weights is None else np.asarray(example.weights)
    labels = prepared.turn.apply(np.clip(example.labels, 0, num_classes - 1)[None])[0]
    on_grid = _onto_grid(labels, prepared.turn.apply(weights[None])[0], prepared.array.shape[1:])
    return TrainingCase(example.volume.name, prepared.array, *on_grid)


def check_spacing(volume: Volume, how: Preparation) -> None:
    """Refuse an image that should be resampled but has no voxel size: it would be learned at a size of its own.

    Raises:
        TrainingError: Naming the image.
    """
    if how.spacing is not None and volume.grid.units != "mm":
        raise TrainingError(
            f"{volume.name} has no voxel size in mm, so it cannot be brought to {how.spacing} mm.",
            "Leave the spacing out, or store the images with their voxel size.",
        )


def check_labels(example: Example, num_classes: int) -> None:
    """Refuse labels that a network has no class for, where they count.

    Raises:
        TrainingError: Naming one of them.
    """
    counted = example.labels[example.counts()]
    if counted.size and (counted.min() < 0 or counted.max() >= num_classes):
        wrong = int(counted.min() if counted.min() < 0 else counted.max())
        raise TrainingError(
            f"{example.volume.name} has the label {wrong}, the network only classes 0 to {num_classes - 1}.",
            "Relabel it, or train a network with more classes.",
        )


def _onto_grid(
    labels: NDArray[Any], weights: NDArray[Any], shape: tuple[int, ...]
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Labels and weights on a grid of another spacing: the nearest voxel, but none that counts gets lost."""
    z, y, x = shape
    near_labels, near_weights = (resample(part[None], (z, y, x), order=0)[0] for part in (labels, weights))
    new_labels = np.array(near_labels, np.uint8)
    new_weights = np.array(near_weights, np.float32)
    if labels.shape != tuple(shape) and not (weights > 0).all():
        counted = np.nonzero(weights > 0)
        landed = tuple(
            ((index + 0.5) * new / old).astype(np.intp)
            for index, new, old in zip(counted, shape, labels.shape, strict=True)
        )
        new_labels[landed], new_weights[landed] = labels[counted], weights[counted]
    return new_labels, new_weights
