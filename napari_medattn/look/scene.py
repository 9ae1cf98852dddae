"""`Scene`: a scan as one network sees it, cut into frames that one forward pass each can answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from napari_medattn.attention import Record
from napari_medattn.data import Volume, prepare
from napari_medattn.data.tiles import Stitcher, TileMean, TilePlan, cut, plan_tiles
from napari_medattn.errors import InputError
from napari_medattn.inference import Predictor
from napari_medattn.inference.placement import Box, Placement
from napari_medattn.inference.predictor import to_numpy
from napari_medattn.models import AttentionSite

Float = NDArray[np.float32]
Shape = tuple[int, int, int]


@dataclass(frozen=True)
class Spot:
    """A voxel of the image, found in the network's input.

    Attributes:
        frame: The frame that shows it.
        tile: Which of the frame's tiles has it nearest to its centre.
        position: Voxel (Z, Y, X) in that tile.
    """

    frame: int
    tile: int
    position: Shape

    def on_grid(self, site: AttentionSite) -> tuple[int, ...]:
        """The position on a site's grid, ([Z,] Y, X)."""
        inside = self.position[-len(site.stride) :]
        return tuple(at // step for at, step in zip(inside, site.stride, strict=True))


@dataclass(frozen=True, eq=False)
class Glance:
    """What one forward pass over a frame, or over some of its tiles, gave.

    Attributes:
        frame: The frame.
        probabilities: (B, K, Z, Y, X), one for each of the tiles.
        records: What there is to ask the sites that were listened to, by key; a batch item for each tile.
        first: Which of the frame's tiles is the first of them.
    """

    frame: int
    probabilities: Float
    records: Mapping[str, Record]
    first: int = 0

    def shows(self, spot: Spot) -> bool:
        """Whether the tile that shows a spot is among these."""
        return spot.frame == self.frame and self.first <= spot.tile < self.first + len(self.probabilities)


class Scene:
    """A scan before one network.

    A frame is what one forward pass covers: all tiles of one prepared slice for a 2-D network, one tile for a 3-D
    network. Frames are numbered in scan order.

    Args:
        volume: The scan.
        predictor: The network.
        overlap: Share of a tile that neighbouring tiles have in common.

    Raises:
        InputError: If the network cannot take the scan.

    Attributes:
        prepared: The scan as the network was trained to see it.
        plan: All tiles.
    """

    def __init__(self, volume: Volume, predictor: Predictor, overlap: float = 0.25) -> None:
        predictor.check(volume)
        self.volume, self.predictor, self.overlap = volume, predictor, overlap
        self.prepared = prepare(volume, predictor.card.preparation)
        self.plan = plan_tiles(self.prepared.array.shape[1:], predictor.card.tile, predictor.stride, overlap)
        self.flat = predictor.card.spatial_dims == 2
        self._tiles_per_frame = len(self.plan) // self.plan.padded[0] if self.flat else 1
        self._placements: dict[Shape, Placement] = {}

    @property
    def frames(self) -> int:
        """How many frames there are."""
        return len(self.plan) // self._tiles_per_frame

    def starts(self, frame: int) -> tuple[tuple[int, ...], ...]:
        """First voxel (Z, Y, X) of each tile of a frame."""
        first = frame * self._tiles_per_frame
        return self.plan.starts[first : first + self._tiles_per_frame]

    def tiles(self, frame: int, which: range | None = None) -> Float:
        """The network's input (B, C, Z, Y, X) for a frame, or for some of its tiles."""
        starts = self.starts(frame)
        chosen = starts if which is None else starts[which.start : which.stop]
        return np.stack([cut(self.prepared.array, self.plan, start) for start in chosen])

    def site(self, key: str) -> AttentionSite:
        """A site of the network.

        Raises:
            InputError: If it has no such site.
        """
        if key not in self.predictor.sites:
            raise InputError(
                f"{self.predictor.card.name} has no attention site {key!r}.",
                f"It has {', '.join(self.predictor.sites) or 'none'}.",
            )
        return self.predictor.sites[key]

    def glance(self, frame: int, sites: Sequence[str] = (), which: range | None = None) -> Glance:
        """One forward pass over a frame that feeds all the given sites.

        Args:
            frame: The frame.
            sites: Their keys.
            which: Which of the frame's tiles; all for None.
        """
        probabilities, records = self.predictor.run(self.tiles(frame, which), list(sites))
        return Glance(frame, probabilities, records, which.start if which is not None else 0)

    @torch.inference_mode()
    def map_of(self, glance: Glance, key: str) -> Float:
        """A site's map of a frame, the frame's tiles blended as for the whole volume.

        Args:
            glance: A forward pass over all of the frame.
            key: The site.

        Returns:
            (heads, Z, Y, X) at the site's stride, covering the frame's padded size; for channel attention the mean
            matrix (heads, 1, C, C).
        """
        return self.blend(glance.frame, key, to_numpy(glance.records[key].maps()))

    def frame_plan(self, frame: int) -> TilePlan:
        """A frame as a plan of its own, starting at its first voxel."""
        z, y, x = self.starts(frame)[0] if not self.flat else (frame, 0, 0)
        moved = tuple((a - z, b - y, c - x) for a, b, c in self.starts(frame))
        padded = (1, *self.plan.padded[1:]) if self.flat else self.plan.tile
        shape = (1, *self.plan.shape[1:]) if self.flat else self.plan.tile
        return TilePlan(shape, padded, self.plan.tile, moved)

    def stride(self, key: str) -> Shape:
        """Voxels per map position of a site along (Z, Y, X)."""
        stride = self.site(key).stride
        z, y, x = (1,) * (3 - len(stride)) + tuple(stride)
        return z, y, x

    def placement(self, key: str) -> Placement:
        """Where a site's maps lie on the image."""
        return self._placement(self.stride(key))

    def planes(self, box: Box) -> range:
        """The prepared slices that a box (Z, Y, X) of the image shows."""
        span = self._placement((1, 1, 1)).needed(box)[0]
        return range(span.start, span.stop)

    def _placement(self, stride: Shape) -> Placement:
        if stride not in self._placements:
            self._placements[stride] = Placement(self.prepared, self.plan.padded, stride)
        return self._placements[stride]

    def span(self, frame: int, key: str) -> Box:
        """The part of a site's whole map, in map positions (Z, Y, X), that a frame covers."""
        begin = (frame, 0, 0) if self.flat else self.starts(frame)[0]
        size = self.frame_plan(frame).padded
        z, y, x = (slice(a // step, (a + n) // step) for a, n, step in zip(begin, size, self.stride(key), strict=True))
        return z, y, x

    def locate(self, voxel: Sequence[float]) -> Spot:
        """Find a voxel of the image in the network's input.

        Args:
            voxel: Index (Z, Y, X) in the source image.

        Raises:
            InputError: If it lies outside the image.
        """
        shape = self.volume.grid.shape
        if not all(-0.5 <= at < size - 0.5 for at, size in zip(voxel, shape, strict=True)):
            where = ", ".join(f"{at:.0f}" for at in voxel)
            raise InputError(f"The voxel ({where}) lies outside {self.volume.name}.", f"Its size is {shape}.")
        at = [self._prepared_index(axis, voxel) for axis in range(3)]
        frame = at[0] if self.flat else self._nearest(self.plan.starts, at)
        starts = self.starts(frame)
        tile = self._nearest(starts, at)
        z, y, x = (a - start for a, start in zip(at, starts[tile], strict=True))
        return Spot(frame, tile, (z, y, x))

    def _prepared_index(self, axis: int, voxel: Sequence[float]) -> int:
        """The prepared voxel along a prepared axis that holds a source voxel."""
        source = voxel[self.prepared.turn.order[axis]]
        turned = self.prepared.turned_shape[axis]
        if self.prepared.turn.flips[axis]:
            source = turned - 1 - source
        size = int(self.prepared.array.shape[1 + axis])
        return min(max(int((source + 0.5) * size / turned), 0), size - 1)

    def _nearest(self, starts: Sequence[tuple[int, ...]], at: Sequence[int]) -> int:
        """The tile that has a voxel nearest to its centre."""
        centres = np.array(starts) + np.array(self.plan.tile) / 2 - 0.5
        distances = np.abs(centres - np.array(at)) / np.array(self.plan.tile)
        return int(np.argmin(distances.max(axis=1)))

    def blend(self, frame: int, key: str, values: Float) -> Float:
        """A site's maps (B, heads, Z, Y, X) of all tiles of a frame as one, see `map_of`."""
        plan = self.frame_plan(frame)
        site = self.site(key)
        blender = Stitcher(plan, values.shape[1], self.stride(key)) if site.spatial else TileMean()
        for start, one in zip(plan.starts, values, strict=True):
            blender.add(start, one)
        return blender.result()
