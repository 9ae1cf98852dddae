"""`RollingBlend`: tiles become a whole, of which only the slices that are not finished yet are kept."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from napari_medattn.data.tiles import Shape, TilePlan, shares
from napari_medattn.inference.settings import Place
from napari_medattn.inference.storage import on_disk

Batches = Sequence[Sequence[Shape]]


class RollingBlend:
    """Class probabilities of tiles, blended with Gaussian weights, slice by slice.

    Tiles come in scan order, so slices in front of a tile get nothing more; they are handed out and forgotten.

    Args:
        plan: How the volume is cut.
        batches: First voxels of the tiles that will be added, in scan order; all that touch a slice, or none.
        classes: Number of classes K.
        device: Where tiles come from.
        place: Where the slices are kept.
        half: Keep them in half precision.

    Attributes:
        origin: (Z, Y, X) first voxel, of the padded volume, that a tile reaches.
        size: (Z, Y, X) voxels from there to the last that a tile reaches.
    """

    def __init__(
        self,
        plan: TilePlan,
        batches: Batches,
        classes: int,
        device: torch.device,
        place: Place = "device",
        half: bool = False,
    ) -> None:
        starts = np.array([start for batch in batches for start in batch])
        low, high = starts.min(axis=0), starts.max(axis=0) + plan.tile
        self.plan, self.device = plan, device if place == "device" else torch.device("cpu")
        self.origin: Shape = tuple(int(n) for n in low)
        self.size: Shape = tuple(int(n) for n in high - low)
        shape = (classes, depth(plan, batches), *self.size[1:])
        dtype = torch.float16 if half else torch.float32
        if place == "disk":
            self._sum = torch.from_numpy(on_disk(shape, np.float16 if half else np.float32))
        else:
            self._sum = torch.zeros(shape, dtype=dtype, device=self.device)
        self._first = self.origin[0]
        self._shares = [
            {start: torch.from_numpy(share).to(self.device) for start, share in axis.items()} for axis in shares(plan)
        ]

    @torch.inference_mode()
    def add(self, start: Shape, values: Tensor) -> None:
        """Add the probabilities (K, *tile) of the tile that begins at ``start``."""
        values = values.to(self.device)
        self._box(start).addcmul_(values.to(self._sum.dtype), self._weight(start))

    @torch.inference_mode()
    def add_background(self, start: Shape) -> None:
        """Take a tile for background without having asked the network."""
        self._box(start)[0].add_(self._weight(start))

    def ready(self, until: int) -> tuple[int, Tensor]:
        """The slices that are finished once all tiles that begin before slice ``until`` were added.

        Returns:
            The first slice, and probabilities (K, n, Y, X) from `origin` on: a view, valid until `forget`.
        """
        return self._first, self._sum[:, : max(0, until - self._first)]

    @torch.inference_mode()
    def forget(self, until: int) -> None:
        """Make room: slices before ``until`` are not needed any more."""
        count = min(until - self._first, self._sum.shape[1])
        if count <= 0:
            return
        rest = self._sum.shape[1] - count
        for layer in self._sum:  # class by class, so that little is held twice
            layer[:rest] = layer[count:].clone()
            layer[rest:] = 0
        self._first = until

    def _box(self, start: Shape) -> Tensor:
        z = start[0] - self._first
        y, x = (a - b for a, b in zip(start[1:], self.origin[1:], strict=True))
        depth, height, width = self.plan.tile
        return self._sum[:, z : z + depth, y : y + height, x : x + width]

    def _weight(self, start: Shape) -> Tensor:
        z, y, x = (axis[first] for axis, first in zip(self._shares, start, strict=True))
        return (z[:, None, None] * (y[:, None] * x)).to(self._sum.dtype)


def depth(plan: TilePlan, batches: Batches) -> int:
    """Slices that are unfinished at once, at most."""
    return max(batch[-1][0] - batch[0][0] for batch in batches) + plan.tile[0]


def blend_bytes(plan: TilePlan, batches: Batches, classes: int, half: bool = False) -> int:
    """What a `RollingBlend` keeps."""
    starts = np.array([start[1:] for batch in batches for start in batch])
    area = math.prod(int(n) for n in starts.max(axis=0) - starts.min(axis=0) + plan.tile[1:])
    return classes * depth(plan, batches) * area * (2 if half else 4)
