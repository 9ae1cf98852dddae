"""Cut a prepared volume into overlapping tiles, and stitch what networks say about them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]
Shape = tuple[int, ...]


@dataclass(frozen=True)
class TilePlan:
    """How a volume is covered.

    Attributes:
        shape: The volume's (Z, Y, X).
        padded: Its size after padding at the end of each axis, a multiple of the stride.
        tile: The tiles' common size.
        starts: First voxel of each tile in the padded volume, in scan order.
    """

    shape: Shape
    padded: Shape
    tile: Shape
    starts: tuple[Shape, ...]

    def __len__(self) -> int:
        return len(self.starts)


def plan_tiles(shape: Shape, tile: Shape, stride: Shape, overlap: float = 0.25) -> TilePlan:
    """Cover a volume with tiles whose corners lie on multiples of the network's stride.

    Args:
        shape: (Z, Y, X) of the volume.
        tile: Largest tile; shrunk to the padded volume where that is smaller.
        stride: Multiples that the network needs along each axis.
        overlap: Share of a tile that neighbours have in common, 0 <= overlap < 1; brought to the nearest multiple of
            the stride that is at least half of it.
    """
    padded = tuple(_up(size, step) for size, step in zip(shape, stride, strict=True))
    tile = tuple(min(_up(t, step), whole) for t, step, whole in zip(tile, stride, padded, strict=True))
    axes = []
    for whole, size, step in zip(padded, tile, stride, strict=True):
        starts = list(range(0, whole - size, _advance(size, step, overlap)))
        axes.append([*starts, whole - size])
    return TilePlan(tuple(shape), padded, tile, tuple(itertools.product(*axes)))


def cut(array: Float, plan: TilePlan, start: Shape, first: int = 0) -> Float:
    """The tile (C, *tile) of (C, *shape) that begins at ``start``; outside, the edge goes on.

    Args:
        array: The volume, or some of its slices.
        plan: How the volume is cut.
        start: The tile.
        first: Number of the array's first slice in the volume.
    """
    stops = [min(begin + size, whole) for begin, size, whole in zip(start, plan.tile, plan.shape, strict=True)]
    z, y, x = (slice(a, b) for a, b in zip(start, stops, strict=True))
    inside = array[:, z.start - first : z.stop - first, y, x]
    missing = [(0, size - have) for size, have in zip(plan.tile, inside.shape[1:], strict=True)]
    return np.pad(inside, [(0, 0), *missing], mode="edge") if any(m for _, m in missing) else inside


class Stitcher:
    """Blends tiles of one output, given at its own stride, into a whole.

    Neighbouring tiles are weighted by a Gaussian of the distance to their centres, so that seams do not show.

    Args:
        plan: How the volume was cut.
        channels: Channels of the output.
        stride: Voxels per output position along each axis; must divide tiles and starts.
    """

    def __init__(self, plan: TilePlan, channels: int, stride: Shape = (1, 1, 1)) -> None:
        self.plan, self.stride = plan, stride
        size = tuple(p // s for p, s in zip(plan.padded, stride, strict=True))
        self._sum = np.zeros((channels, *size), np.float32)
        self._weight = None if len(plan) == 1 else np.zeros(size, np.float32)
        self._blend = gaussian(tuple(t // s for t, s in zip(plan.tile, stride, strict=True)))

    def add(self, start: Shape, values: Float) -> None:
        """Add the (channels, *tile / stride) output of the tile that begins at ``start``."""
        if self._weight is None:
            self._sum = values
            return
        box = tuple(
            slice(first // s, first // s + size)
            for first, s, size in zip(start, self.stride, values.shape[1:], strict=True)
        )
        self._sum[(slice(None), *box)] += values * self._blend
        self._weight[box] += self._blend

    def result(self) -> Float:
        """The blended output (channels, *padded / stride); nan where no tile was added."""
        if self._weight is not None:
            with np.errstate(invalid="ignore"):
                self._sum /= self._weight
            self._weight = None
        return self._sum


class TileMean:
    """The mean over tiles of an output that has no place in space."""

    def __init__(self) -> None:
        self._sum: Float | None = None
        self._count = 0

    def add(self, start: Shape, values: Float) -> None:
        """Add one tile's output, wherever the tile begins."""
        self._sum = values.copy() if self._sum is None else self._sum + values
        self._count += 1

    def result(self) -> Float:
        """The mean."""
        assert self._sum is not None
        return self._sum / np.float32(self._count)


def gaussian(size: Shape, relative_sigma: float = 0.125) -> Float:
    """Separable weights, 1 in the middle and never below 1e-3; sigma is a share of each side."""
    weight = np.ones((), np.float32)
    for side in size:
        offset = np.arange(side, dtype=np.float32) - (side - 1) / 2
        profile = np.exp(-0.5 * (offset / (relative_sigma * side)) ** 2)
        weight = weight[..., None] * profile.astype(np.float32)
    return np.maximum(weight, 1e-3)


def shares(plan: TilePlan) -> tuple[dict[int, Float], ...]:
    """How much of each voxel a tile decides, as one profile per axis; all tiles together decide 1.

    Tiles stand in rows, so that the Gaussian's sum over them is a product of sums along the axes, and each axis can
    be divided by its own: nothing but the blended output has to be kept for a whole volume.

    Returns:
        For each axis the profile (tile,) of the tiles that begin at an index; the share of a voxel is the product
        of its three.
    """
    found = []
    for axis, (size, whole) in enumerate(zip(plan.tile, plan.padded, strict=True)):
        profile = gaussian((size,))
        starts = sorted({start[axis] for start in plan.starts})
        total = np.zeros(whole, np.float64)
        for start in starts:
            total[start : start + size] += profile
        found.append({start: (profile / total[start : start + size]).astype(np.float32) for start in starts})
    return tuple(found)


def _advance(size: int, step: int, overlap: float) -> int:
    """Voxels from one tile to the next."""
    nearest = int(size * (1 - overlap) / step + 0.5) * step
    most = int(size * (1 - overlap / 2) + 1e-9) // step * step
    return max(step, min(nearest, most))


def _up(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple
