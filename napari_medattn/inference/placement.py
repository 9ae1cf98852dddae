"""`Placement`: where a map that a network has at its own stride lies on the image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from napari_medattn.data import Prepared
from napari_medattn.data.linear import apply, linear, used

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
        self._matrices: list[sparse.csr_array] = []  # in the order of the map's axes: (source voxels, map positions)
        for axis, flipped in enumerate(prepared.turn.flips):
            inside = prepared.array.shape[1 + axis]
            matrix = linear(padded[axis] // stride[axis], padded[axis])[:inside]
            matrix = linear(inside, prepared.turned_shape[axis]) @ matrix
            matrix.eliminate_zeros()
            self._matrices.append(matrix[::-1] if flipped else matrix)
        self._latest: tuple[list[tuple[int, int]], Box, list[sparse.csr_array]] | None = None

    @property
    def everything(self) -> Box:
        """The box of the whole image."""
        z, y, x = (slice(0, size) for size in self.shape)
        return z, y, x

    def needed(self, box: Box) -> Box:
        """The map positions (Z, Y, X) that a box of the image shows."""
        return self._cut(box)[0]

    def _cut(self, box: Box) -> tuple[Box, list[sparse.csr_array]]:
        """`needed`, and each axis's matrix from there onto the box; the latest are kept, as many maps share them."""
        asked, latest = [(span.start, span.stop) for span in box], self._latest
        if latest is not None and latest[0] == asked:
            return latest[1], latest[2]
        spans, rows = [], []
        for axis, matrix in enumerate(self._matrices):
            some = matrix[box[self._order[axis]]]
            span = slice(*used(some))
            spans.append(span)
            rows.append(some[:, span])
        needed = spans[0], spans[1], spans[2]
        self._latest = asked, needed, rows
        return needed, rows

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
        rows = self._cut(box)[1]
        result: NDArray[np.float32] = np.asarray(values, np.float32)
        unknown: list[tuple[int, NDArray[np.bool_]]] = []
        for axis, known in enumerate(have):
            if known is not None and not known.all():
                hidden = np.expand_dims(~known, tuple(d for d in range(4) if d != axis + 1))
                result = np.where(hidden, np.float32(0), result)
                unknown.append((axis, rows[axis] @ known.astype(np.float32) < _COMPLETE))
        # The axis that shrinks most goes first, which for a slice leaves little to do for the others; of equal ones the
        # last, so that the result need not be laid out anew.
        for axis in sorted(range(3), key=lambda axis: (rows[axis].shape[0] / max(1, rows[axis].shape[1]), -axis)):
            result = apply(rows[axis], result, axis + 1)
        for axis, missing in unknown:
            result = np.array(result)
            result[(slice(None), *(missing if a == axis else slice(None) for a in range(3)))] = np.nan
        back = np.argsort(self._order)
        return np.ascontiguousarray(result.transpose(0, *(int(axis) + 1 for axis in back)), dtype=np.float32)
