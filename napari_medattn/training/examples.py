"""`Example`: an image, its labels and how much each voxel's label is worth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_medattn.data import Preparation, Volume, prepare
from napari_medattn.data.prepare import resample
from napari_medattn.errors import GeometryError, TrainingError


@dataclass(frozen=True, eq=False)
class Example:
    """What there is to learn from one case.

    Attributes:
        volume: The image.
        labels: (Z, Y, X) class of each voxel on the image's grid.
        weights: (Z, Y, X) >= 0: 1 where a person vouches for the label, 0 where nobody does; None: 1 everywhere.
    """

    volume: Volume
    labels: NDArray[np.integer]
    weights: NDArray[np.generic] | None = None

    def __post_init__(self) -> None:
        for what, array in (("labels", self.labels), ("weights", self.weights)):
            if array is not None and array.shape != self.volume.grid.shape:
                raise GeometryError(
                    f"The {what} of {self.volume.name} have shape {array.shape}, the image {self.volume.grid.shape}.",
                    "Give arrays on the image's own grid.",
                )


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
    counted = example.labels if example.weights is None else example.labels[np.asarray(example.weights) > 0]
    highest = int(counted.max()) if counted.size else 0
    if highest >= num_classes:
        raise TrainingError(
            f"{example.volume.name} has the label {highest}, the network only classes 0 to {num_classes - 1}.",
            "Relabel it, or train a network with more classes.",
        )
    prepared = prepare(example.volume, how)
    shape = (prepared.array.shape[1], prepared.array.shape[2], prepared.array.shape[3])

    def onto_grid(array: NDArray[np.generic], dtype: type) -> NDArray[np.generic]:
        return np.ascontiguousarray(resample(prepared.turn.apply(array[None]), shape, order=0)[0], dtype=dtype)

    weights = np.ones(shape, np.float32) if example.weights is None else onto_grid(example.weights, np.float32)
    labels = onto_grid(np.minimum(example.labels, num_classes - 1), np.uint8)
    return TrainingCase(example.volume.name, prepared.array, labels, weights)  # type: ignore[arg-type]
