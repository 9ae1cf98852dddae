"""Attention rollout on a scan: what a voxel, or the mean of all, takes from where through several blocks."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from napari_medattn.attention import Record
from napari_medattn.attention.rollout import Stream, find_stream, rollout
from napari_medattn.data.tiles import Stitcher
from napari_medattn.events import Progress
from napari_medattn.look.part import Part
from napari_medattn.look.scene import Scene

Float = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Rollout:
    """A rollout of one frame.

    Attributes:
        stream: The blocks that were multiplied.
        part: In multiples of an even share, with its place on the image. Zero outside of the tile of the voxel, from
            which nothing can be taken.
        voxel: The voxel (Z, Y, X) of the image that was asked about; None for the mean of all.
    """

    stream: Stream
    part: Part
    voxel: tuple[float, ...] | None

    @property
    def legend(self) -> str:
        """One line that says what the numbers mean."""
        return self.stream.legend


def rollout_steps(
    scene: Scene, stream: str, *, voxel: Sequence[float] | None = None, frame: int = 0
) -> Generator[Progress, None, Rollout]:
    """Attention rollout through one stream of the network.

    A voxel costs one forward pass of one tile, the mean one of each tile of the frame.

    Args:
        scene: The scan before the network.
        stream: Name of a stream, or key of a site in it, see `attention.rollout.streams`.
        voxel: Index (Z, Y, X) in the source image; the mean over all positions of ``frame`` for None.
        frame: Which frame, where no voxel is given.

    Yields:
        Progress, before each tile of the frame.

    Raises:
        InputError: If rollout is not defined there, or the voxel lies outside the image.
    """
    through = find_stream(scene.predictor.sites.values(), stream)
    spot = None if voxel is None else scene.locate(voxel)
    frame = frame if spot is None else spot.frame
    key, plan = through.site.key, scene.frame_plan(frame)
    stitcher = Stitcher(plan, 1, scene.stride(key))
    size = tuple(n // step for n, step in zip(plan.padded, scene.stride(key), strict=True))
    values = np.zeros((1, *size), np.float32)
    tiles = scene.tiles(frame)
    for number, start in enumerate(plan.starts):
        yield Progress("rolling out", number, len(plan), "tiles")
        if spot is not None and number != spot.tile:
            continue
        _, records = scene.predictor.run(tiles[number : number + 1], through.keys)
        one = _of_tile(scene, records, through, None if spot is None else spot.on_grid(through.site))
        if spot is None:
            stitcher.add(start, one)
        else:
            first = [at // step for at, step in zip(start, scene.stride(key), strict=True)]
            box = (slice(at, at + n) for at, n in zip(first, one.shape[1:], strict=True))
            values[(slice(None), *box)] = one
    found = stitcher.result() if spot is None else values
    return Rollout(through, Part(scene, key, frame, found[0]), None if voxel is None else tuple(voxel))


@torch.inference_mode()
def _of_tile(scene: Scene, records: Mapping[str, Record], stream: Stream, position: tuple[int, ...] | None) -> Float:
    """(1, Z, Y, X) of one tile, in multiples of an even share."""
    grid = records[stream.site.key].grid
    if position is None:
        start = torch.full((1, *grid), 1 / math.prod(grid))
    else:
        start = torch.zeros(1, *grid)
        start[(0, *position)] = 1
    tile, site = scene.plan.tile[-len(grid) :], stream.site
    reach = math.prod(tile[axis - 2] // site.stride[axis - 2] // site.patches for axis in stream.even_axes)
    # What one position takes is shared among those in its reach, what all take among all.
    among = math.prod(grid) if position is None else reach
    found: Float = rollout(records, stream, start).float().cpu().numpy()
    return found.reshape(1, *((1,) * (3 - len(grid))), *grid) * np.float32(among)
