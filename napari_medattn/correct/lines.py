"""Lines that a simulated hand draws: along the middle of an error, with a brush that stays inside the true class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_medattn.correct.boxes import Mask, bounds, grown
from napari_medattn.correct.proposal import Labels

_CORNERS_TOO = np.ones((3, 3), bool)


@dataclass(frozen=True, eq=False)
class Line:
    """One stroke of a round brush in a slice.

    Attributes:
        path: (Y, X) where the brush's middle goes.
        radius: The brush's radius in voxels.
        label: What it paints.
        error: (Y, X) the error that it is drawn for.
        mends: How many wrong voxels it puts right.
    """

    path: Mask
    radius: int
    label: int
    error: Mask
    mends: int

    def covers(self, off: Sequence[int] = (0, 0)) -> Mask:
        """What it paints if the whole line is drawn ``off`` by some voxels; beyond the slice there is nothing."""
        moved = [at + step for at, step in zip(np.nonzero(self.path), off, strict=True)]
        inside = np.all([(at >= 0) & (at < n) for at, n in zip(moved, self.path.shape, strict=True)], axis=0)
        path = np.zeros(self.path.shape, bool)
        path[tuple(at[inside] for at in moved)] = True
        return brushed(path, self.radius)


def errors(labels: Labels, truth: Labels, smallest: int = 1) -> list[Mask]:
    """Connected sets of wrong voxels of one true class with at least ``smallest`` voxels, from the largest on.

    Args:
        labels: (Y, X) mask.
        truth: (Y, X).
        smallest: In voxels.
    """
    wrong = labels != truth
    found: list[tuple[int, NDArray[np.int32], int]] = []
    for label in np.unique(truth[wrong]):
        numbered, _ = ndimage.label(wrong & (truth == label))
        counts = np.bincount(numbered.ravel())
        found += [(int(counts[n]), numbered, n) for n in range(1, len(counts)) if counts[n] >= smallest]
    found.sort(key=lambda entry: -entry[0])
    return [numbered == number for _, numbered, number in found]


def best_line(labels: Labels, truth: Labels, error: Mask, radii: Sequence[int]) -> Line | None:
    """The stroke that puts right most, among those that leave the true class nowhere.

    Args:
        labels: (Y, X) mask.
        truth: (Y, X).
        error: Where it is wrong, of one true class.
        radii: Radii to choose from, in voxels.

    Returns:
        None if no brush fits.
    """
    around = bounds(error)
    assert around is not None
    label = int(truth[error][0])
    window = grown(around, labels.shape, (2 * max(radii) + 2,) * 2)
    room = ndimage.distance_transform_edt(np.pad(truth[window] == label, 1))[1:-1, 1:-1]  # none beyond the image
    away = ndimage.distance_transform_edt(~error[window])
    wrong = (labels != truth)[window]
    best: Line | None = None
    for radius in radii:
        numbered, count = ndimage.label((room > radius) & (away <= radius), _CORNERS_TOO)
        if not count:
            continue
        path = middle_line(numbered == 1 + int(np.bincount(numbered.ravel())[1:].argmax()))
        mends = int(np.count_nonzero(brushed(path, radius) & wrong))
        if best is None or mends > best.mends:
            whole = np.zeros(labels.shape, bool)
            whole[window] = path
            best = Line(whole, radius, label, error, mends)
    return best


def brushed(path: Mask, radius: float) -> Mask:
    """What a round brush covers whose middle follows a path: voxels up to ``radius`` from it."""
    if not path.any():
        return path
    return np.asarray(ndimage.distance_transform_edt(~path) <= radius)


def middle_line(region: Mask, trim: float = 0.0) -> Mask:
    """The longest way along the skeleton of a region that hangs together, less a share of it at either end."""
    from skimage.morphology import skeletonize

    around = bounds(region)
    assert around is not None
    bones = skeletonize(region[around])
    path = _longest_path(bones if bones.any() else region[around])
    cut = int(trim * len(path))
    line = np.zeros(region.shape, bool)
    line[around][tuple(np.array(path[cut : len(path) - cut] or path).T)] = True
    return line


def _longest_path(bones: Mask) -> list[tuple[int, ...]]:
    """From the voxel farthest from any to the voxel farthest from that, along the bones."""
    from skimage.graph import MCP_Geometric

    end = tuple(np.argwhere(bones)[0])
    path: list[tuple[int, ...]] = []
    for _ in range(2):
        ways = MCP_Geometric(np.where(bones, 1.0, -1.0))
        costs, _ = ways.find_costs([end])
        end = np.unravel_index(int(np.where(np.isfinite(costs) & bones, costs, -1).argmax()), bones.shape)
        path = ways.traceback(end)
    return path
