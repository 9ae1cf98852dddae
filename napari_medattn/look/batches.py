"""A scan's frames as batches of tiles, of a size that keeps memory bounded and Cancel quick."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_medattn.data.tiles import cut
from napari_medattn.look.scene import Scene

Float = NDArray[np.float32]
Starts = Sequence[tuple[int, ...]]
VOXELS = 1 << 16  # of tiles that go through the network together


def starts_of(scene: Scene, frames: Iterable[int] | None) -> list[tuple[int, ...]]:
    """First voxel (Z, Y, X) of every tile of some frames, of the whole scan for None."""
    if frames is None:
        return list(scene.plan.starts)
    return [start for frame in frames for start in scene.starts(frame)]


def tiles_at_once(scene: Scene) -> int:
    """How many tiles go through the network together."""
    return max(1, VOXELS // math.prod(scene.plan.tile))


def batches(scene: Scene, starts: Starts) -> Iterator[tuple[Starts, Float]]:
    """Tiles that begin at ``starts``, a few at a time, as the network's input (B, C, Z, Y, X)."""
    size = tiles_at_once(scene)
    for first in range(0, len(starts), size):
        some = starts[first : first + size]
        yield some, np.stack([cut(scene.prepared.array, scene.plan, start) for start in some])


def inside(scene: Scene, starts: Starts, key: str) -> Tensor | None:
    """Which positions of a site's grid lie on the scan and not only on its padding.

    Returns:
        (B, [Z,] Y, X) bool for the tiles that begin at ``starts``; None for channel attention.
    """
    stride = scene.site(key).stride
    if not stride:
        return None
    found = []
    for start in starts:
        mask = torch.ones((), dtype=torch.bool)
        sizes = zip(start, scene.plan.shape, scene.plan.tile, strict=True)
        for (first, whole, side), step in zip(list(sizes)[-len(stride) :], stride, strict=True):
            mask = mask[..., None] & (torch.arange(first, first + side, step) < whole)
        found.append(mask)
    return torch.stack(found)


def steps_of(scene: Scene, key: str) -> tuple[tuple[float, ...], str]:
    """Distance on the image between neighbouring positions of a site's grid.

    Returns:
        The distance along each axis of the grid, ([Z,] Y, X), and its unit: mm, or voxels of the image where their
        size is not known.
    """
    prepared, grid = scene.prepared, scene.volume.grid
    known = grid.units == "mm"
    voxel = prepared.turn.reorder(grid.spacing) if known else (1.0, 1.0, 1.0)
    sizes = zip(voxel, prepared.turned_shape, prepared.array.shape[1:], scene.stride(key), strict=True)
    steps = tuple(size * have / made * step for size, have, made, step in sizes)
    return steps[-len(scene.site(key).stride) :] if scene.site(key).stride else (), "mm" if known else "voxels"
