"""Folds over the corrections themselves, where there are no cases to hold out.

The slices in which voxels count are cut into parts with about as many voxels each. A network that learned from the
other parts, for a share of the time, is scored on each part; the saved version learns from all of them. No voxel is
scored by a network that learned from it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from napari_medattn.learning.keep import FEWEST_VOXELS

Counts = NDArray[np.bool_]


def cut_folds(counted: Sequence[Counts], axes: Sequence[int], folds: int) -> list[list[Counts]]:
    """Cut counted voxels into folds.

    Slices that lie beside each other stay together as far as possible, because neighbours are nearly alike: a network
    that learned from one would be praised for the other. A single slice is cut into stripes.

    Args:
        counted: Of each example, (Z, Y, X): which voxels count.
        axes: Of each example, the axis across which its slices lie.
        folds: How many parts.

    Returns:
        For each fold, for each example, which voxels are held back; empty if there are too few to tell anything.
    """
    if folds < 2 or sum(int(c.sum()) for c in counted) < folds * FEWEST_VOXELS:
        return []
    axes = list(axes)
    sizes = [_per_slice(c, axis) for c, axis in zip(counted, axes, strict=True)]
    if sum(int(np.count_nonzero(s)) for s in sizes) < folds:
        index = int(np.argmax([s.sum() for s in sizes]))
        axes[index] = _longest(counted[index], axes[index])
        sizes[index] = _per_slice(counted[index], axes[index])
    total = np.cumsum(np.concatenate(sizes))
    # A slice belongs to the fold that its middle voxel falls into.
    middle = total - np.concatenate(sizes) / 2
    parts = np.minimum((middle / total[-1] * folds).astype(int), folds - 1)
    used = np.unique(parts[np.concatenate(sizes) > 0])
    if len(used) < 2:
        return []
    by_example = np.split(parts, np.cumsum([len(s) for s in sizes])[:-1])
    return [
        [_slices(c, part == fold, axis) for c, part, axis in zip(counted, by_example, axes, strict=True)]
        for fold in used
    ]


def _per_slice(counts: Counts, axis: int) -> NDArray[np.int64]:
    sizes: NDArray[np.int64] = counts.sum(axis=tuple(a for a in range(3) if a != axis), dtype=np.int64)
    return sizes


def _longest(counts: Counts, axis: int) -> int:
    """The axis inside the slices along which the voxels reach furthest."""
    reach = [0 if a == axis else int(np.ptp(np.flatnonzero(_per_slice(counts, a)))) for a in range(3)]
    return int(np.argmax(reach))


def _slices(counts: Counts, chosen: NDArray[np.bool_], axis: int) -> Counts:
    shape = [1, 1, 1]
    shape[axis] = len(chosen)
    return counts & chosen.reshape(shape)
