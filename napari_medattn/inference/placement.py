"""`Placement`: where a map that a network has at its own stride lies on the image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from napari_medattn.data import Prepared

Float = NDArray[np.float32]
Box = tuple[slice, slice, slice]
_COMPLETE = 1 - 1e-6


class Placement:
    """Linear interpolation from a map's grid onto the source image's grid, one matrix per axis.

    The way is the one of `Prepared.restore`: from the map's grid to the prepared voxels, the padding cut off, from
    there to the source's voxels, turned and mirrored. Because it is separable, a single slice of the image, in any
    direction, costs only that slice.

    Args:
        prepared: The volume that the network saw.
        padded: (Z, Y, X) of the prepared volume with its padding, a multiple of the stride.
        stride: Prepared voxels per map position along (Z, Y, X).
    """

    def __init__(self, prepared: Prepared, padded: Sequence[int], stride: Sequence[int]) -> None:
        self.shape: tuple[int, int, int] = prepared.source.grid.shape
        self._order = prepared.turn.order
        self._matrices: list[Float] = []  # in the order of the map's axes: (source voxels, map positions)
        for axis, flipped in enumerate(prepared.turn.flips):
            inside = prepared.array.shape[1 + axis]
            matrix = _linear(padded[axis] // stride[axis], padded[axis])[:inside]
            matrix = _linear(inside, prepared.turned_shape[axis]) @ matrix
            self._matrices.append(matrix[::-1] if flipped else matrix)

    @property
    def everything(self) -> Box:
        """The box of the whole image."""
        z, y, x = (slice(0, size) for size in self.shape)
        return z, y, x

    def needed(self, box: Box) -> Box:
        """The map positions (Z, Y, X) that a box of the image shows."""
        spans = []
        for axis, matrix in enumerate(self._matrices):
            used = np.flatnonzero(matrix[box[self._order[axis]]].any(axis=0))
            spans.append(slice(int(used[0]), int(used[-1]) + 1) if used.size else slice(0, 0))
        return spans[0], spans[1], spans[2]

    def draw(self, values: Float, box: Box, have: Sequence[NDArray[np.bool_] | None] = (None, None, None)) -> Float:
        """The map on a box of the image.

        Args:
            values: (N, *needed(box)) the map there.
            box: Slices (Z, Y, X) of the source image, with step 1.
            have: For each axis of ``values`` after N, which positions are known; None for all. What rests on
                unknown ones becomes nan.

        Returns:
            (N, *box) float32.
        """
        spans = self.needed(box)
        result: NDArray[np.float32] = np.asarray(values, np.float32)
        unknown: list[tuple[int, NDArray[np.bool_]]] = []
        for axis in range(3):
            rows = self._matrices[axis][box[self._order[axis]], spans[axis]]
            known = have[axis]
            if known is not None and not known.all():
                hidden = np.expand_dims(~known, tuple(d for d in range(4) if d != axis + 1))
                result = np.where(hidden, np.float32(0), result)
                unknown.append((axis, rows @ known.astype(np.float32) < _COMPLETE))
        # The axis that shrinks most goes first, which for a slice leaves little to do for the others.
        ratio = [
            self._matrices[axis][box[self._order[axis]]].shape[0] / max(1, result.shape[axis + 1]) for axis in range(3)
        ]
        for axis in np.argsort(ratio):
            rows = self._matrices[axis][box[self._order[axis]], spans[axis]]
            if rows.shape[0] != rows.shape[1] or not np.array_equal(rows, np.eye(len(rows), dtype=rows.dtype)):
                result = np.moveaxis(np.tensordot(rows, result, axes=(1, axis + 1)), 0, axis + 1)
        for axis, missing in unknown:
            result = np.array(result)
            result[(slice(None), *(missing if a == axis else slice(None) for a in range(3)))] = np.nan
        back = np.argsort(self._order)
        return np.ascontiguousarray(result.transpose(0, *(int(axis) + 1 for axis in back)), dtype=np.float32)


def _linear(size: int, target: int) -> Float:
    """Weights (target, size) of linear interpolation between voxel centres; the outermost voxels go on outside."""
    if size == target:
        return np.eye(size, dtype=np.float32)
    at = np.clip((np.arange(target) + 0.5) * size / target - 0.5, 0, size - 1)
    low = np.minimum(at.astype(int), max(size - 2, 0))
    weights = np.zeros((target, size), np.float32)
    rows = np.arange(target)
    weights[rows, low] = 1 - (at - low)
    if size > 1:
        weights[rows, low + 1] = at - low
    return weights
