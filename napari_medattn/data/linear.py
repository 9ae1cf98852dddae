"""Linear interpolation between grids that cover the same extent, one sparse matrix per axis."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

Float = NDArray[np.float32]


def linear(size: int, target: int) -> sparse.csr_array:
    """Weights (target, size) of linear interpolation between voxel centres; the outermost voxels go on outside."""
    if size == target:
        return sparse.eye_array(size, dtype=np.float32, format="csr")
    at = np.clip((np.arange(target) + 0.5) * size / target - 0.5, 0, size - 1)
    low = np.minimum(at.astype(int), max(size - 2, 0))
    high = np.minimum(low + 1, size - 1)
    weights = np.stack([1 - (at - low), at - low if size > 1 else np.zeros(target)], axis=1).astype(np.float32)
    columns, ends = np.stack([low, high], axis=1), 2 * np.arange(target + 1)
    found = sparse.csr_array((weights.ravel(), columns.ravel(), ends), shape=(target, size))
    found.eliminate_zeros()
    return found


def apply(rows: sparse.csr_array, values: Float, axis: int) -> Float:
    """Interpolate along one axis; a row of weights has few that are not zero, so dense algebra would be a waste."""
    if rows.shape[0] == rows.shape[1] == rows.nnz and (rows.indices == np.arange(rows.nnz)).all():
        return values
    ahead = np.moveaxis(values, axis, 0)
    found = rows @ ahead.reshape(len(ahead), -1)
    return np.moveaxis(found.reshape(-1, *ahead.shape[1:]), 0, axis)


def used(rows: sparse.csr_array) -> tuple[int, int]:
    """The columns, from the first to after the last, on which rows of weights rest; (0, 0) for none."""
    columns = rows.indices
    return (int(columns.min()), int(columns.max()) + 1) if columns.size else (0, 0)
