"""`Plane`: a slice of an image the way radiologists look at it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medattn.data import Volume
from napari_medattn.errors import InputError
from napari_medattn.geometry import Grid
from napari_medattn.inference.placement import Box

_NAMES = ("LR", "PA", "IS")  # ends of the world axes x, y, z: negative, positive
_SLANT = 0.34  # sine of 20 degrees: from there on the second direction is named too


@dataclass(frozen=True, eq=False)
class Plane:
    """A slice, and how it is turned for the eye.

    Radiological convention: the patient's right is on the left; anterior, or else superior, is on top; in a slice
    without right and left, anterior is on the left. An image that says nothing of orientation is shown as stored.

    Attributes:
        volume: The image.
        axis: The source axis (0 for Z) that the slice cuts.
        index: Which slice.
        rows: Source axis that runs downwards, and whether it does so against its own direction.
        columns: Source axis that runs to the right, and whether it does so against its own direction.
        letters: What lies to the left, right, top and bottom; empty where unknown.
    """

    volume: Volume
    axis: int
    index: int
    rows: tuple[int, bool]
    columns: tuple[int, bool]
    letters: tuple[str, str, str, str]

    @classmethod
    def of(cls, volume: Volume, axis: int = 0, index: int = 0) -> Plane:
        """The slice ``index`` across a source axis.

        Raises:
            InputError: If there is no such slice.
        """
        size = volume.grid.shape[axis]
        if not 0 <= index < size:
            raise InputError(
                f"{volume.name} has no slice {index} along {'zyx'[axis]}.", f"Its slices there are 0 to {size - 1}."
            )
        down, right = (a for a in range(3) if a != axis)
        if volume.spatial_dims == 2 or not volume.grid.oriented:
            return cls(volume, axis, index, (down, False), (right, False), ("", "", "", ""))
        codes = {a: volume.grid.orientation[2 - a] for a in (down, right)}
        if codes[down] in "RL" or (codes[down] in "AP" and codes[right] in "SI"):
            down, right = right, down
        rows, columns = (down, codes[down] not in "PI"), (right, codes[right] not in "LP")
        left, to_right = _ends(volume.grid, *columns)
        top, bottom = _ends(volume.grid, *rows)
        return cls(volume, axis, index, rows, columns, (left, to_right, top, bottom))

    @property
    def box(self) -> Box:
        """The slice as a box of the image."""
        spans = [slice(0, size) for size in self.volume.grid.shape]
        spans[self.axis] = slice(self.index, self.index + 1)
        return spans[0], spans[1], spans[2]

    @property
    def spacing(self) -> tuple[float, float]:
        """Distance between rows and between columns."""
        spacing = self.volume.grid.spacing
        return spacing[self.rows[0]], spacing[self.columns[0]]

    @property
    def size(self) -> tuple[float, float]:
        """Height and width in the units of the image."""
        shape, spacing = self.volume.grid.shape, self.spacing
        return shape[self.rows[0]] * spacing[0], shape[self.columns[0]] * spacing[1]

    def turn(self, values: NDArray[Any]) -> NDArray[Any]:
        """Values (Z, Y, X) of the box as (rows, columns)."""
        flat: NDArray[Any] = values.take(0, axis=self.axis)
        if self.rows[0] > self.columns[0]:
            flat = flat.T
        return flat[:: -1 if self.rows[1] else 1, :: -1 if self.columns[1] else 1]

    def find(self, voxel: Sequence[int]) -> tuple[int, int] | None:
        """Row and column of a voxel (Z, Y, X), or None if it lies in another slice."""
        if voxel[self.axis] != self.index:
            return None
        shape = self.volume.grid.shape
        row, column = (shape[a] - 1 - voxel[a] if flipped else voxel[a] for a, flipped in (self.rows, self.columns))
        return row, column

    def image(self) -> NDArray[Any]:
        """The image's slice, (rows, columns) or for colours (rows, columns, 3) in 0..1."""
        channels = self.volume.array[(slice(None), *self.box)]
        if self.volume.array.dtype == np.uint8 and len(channels) in (3, 4):
            return np.stack([self.turn(channel) for channel in channels[:3]], axis=-1) / 255.0
        return self.turn(channels[0])

    def window(self) -> tuple[float, float]:
        """Grey values that are shown black and white: the 1st and 99.5th percentile of the slice's finite voxels."""
        values = np.asarray(self.image(), float)
        finite = values[np.isfinite(values)]
        if not finite.size:
            return 0.0, 1.0
        low, high = (float(at) for at in np.percentile(finite, (1, 99.5)))
        return low, high if high > low else low + 1

    def describe(self) -> str:
        """Which slice it is, for people; nothing for a 2-D image."""
        if self.volume.spatial_dims == 2:
            return ""
        return f"slice {self.index}" if self.axis == 0 else f"slice {'zyx'[self.axis]} = {self.index}"


def best_slice(labels: NDArray[np.integer] | None, volume: Volume, axis: int = 0) -> int:
    """The slice across an axis with most foreground; the middle one where there is none."""
    if labels is not None and labels.any():
        others = tuple(a for a in range(3) if a != axis)
        return int(np.argmax(np.count_nonzero(labels, axis=others)))
    return volume.grid.shape[axis] // 2


def _ends(grid: Grid, axis: int, flipped: bool) -> tuple[str, str]:
    """Letters at the beginning and the end of a source axis, as it is shown."""
    direction = grid.affine[:3, 2 - axis] / np.linalg.norm(grid.affine[:3, 2 - axis])
    order = [int(world) for world in np.argsort(-np.abs(direction))]
    named = [order[0], *(world for world in order[1:] if abs(direction[world]) > _SLANT)]
    begin = "".join(_NAMES[world][int(direction[world] < 0)] for world in named)
    end = "".join(_NAMES[world][int(direction[world] > 0)] for world in named)
    return (end, begin) if flipped else (begin, end)
