"""Which scan this is, told from its geometry and voxels, so that no name needs to be kept."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from napari_medattn.geometry import Grid

_BYTES = 64 * 2**20  # of a volume are read at most, so that a large one is told apart as quickly as a small one
_SLABS = 16  # are read at least


def scan_id(array: Any, grid: Grid) -> str:
    """A name for a scan that stays the same wherever its file lies.

    Args:
        array: The image as it is shown, sliced along its first axis; may be lazy.
        grid: Where it lies.

    Returns:
        32 hexadecimal digits.
    """
    digest = hashlib.blake2b(digest_size=16)
    affine = np.round(grid.affine, 5) + 0.0  # no -0.0
    digest.update(f"{tuple(array.shape)} {np.dtype(array.dtype).str} {grid.shape} {affine.tolist()}".encode())
    slab = np.dtype(array.dtype).itemsize * int(np.prod(array.shape[1:]))
    count = min(array.shape[0], max(_SLABS, _BYTES // max(1, slab)))
    for index in np.unique(np.linspace(0, array.shape[0] - 1, count).round().astype(int)):
        digest.update(np.ascontiguousarray(array[int(index)]).tobytes())
    return digest.hexdigest()
