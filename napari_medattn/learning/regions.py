"""The parts of an image in which voxels count, and a network's labels there."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_medattn.data import Prepared
from napari_medattn.data.tiles import Stitcher, TilePlan, cut, plan_tiles
from napari_medattn.events import Progress
from napari_medattn.inference import Predictor
from napari_medattn.inference.placement import Placement

Box = tuple[slice, slice, slice]
GAP = 2  # slices between two parts that are still taken as one
_VOXELS = 1 << 16  # of tiles that go through together


@dataclass(frozen=True, eq=False)
class Region:
    """A box of an image that holds counted voxels.

    Attributes:
        box: Slices (Z, Y, X) of the image.
        labels: (Z, Y, X) in the box.
        counts: (Z, Y, X) in the box: which voxels count.
        axis: The image axis along which the network takes slices.
        full: The image's size across that axis, as voxels in a slice.
    """

    box: Box
    labels: NDArray[np.integer]
    counts: NDArray[np.bool_]
    axis: int
    full: int

    def whole_slices(self) -> NDArray[np.bool_]:
        """Which slices of the box count as a whole, edge to edge of the image."""
        others = tuple(a for a in range(3) if a != self.axis)
        whole: NDArray[np.bool_] = self.counts.sum(axis=others) == self.full
        return whole


def find_regions(labels: NDArray[np.integer], counts: NDArray[np.bool_], axis: int) -> tuple[Region, ...]:
    """Runs of slices along an axis in which voxels count, each cut to the box of these voxels."""
    others = tuple(a for a in range(3) if a != axis)
    used = np.flatnonzero(counts.any(axis=others))
    runs = np.split(used, np.flatnonzero(np.diff(used) > GAP) + 1) if len(used) else []
    full = counts.size // counts.shape[axis]
    found = []
    for run in runs:
        spans = [slice(None)] * 3
        spans[axis] = slice(int(run[0]), int(run[-1]) + 1)
        for other in others:
            across = tuple(a for a in range(3) if a != other)
            inside = np.flatnonzero(counts[tuple(spans)].any(axis=across))
            spans[other] = slice(int(inside[0]), int(inside[-1]) + 1)
        box = spans[0], spans[1], spans[2]
        found.append(Region(box, labels[box], counts[box], axis, full))
    return tuple(found)


def region_labels(
    predictor: Predictor, prepared: Prepared, regions: Sequence[Region], overlap: float = 0.25
) -> Generator[Progress, None, list[NDArray[np.uint8]]]:
    """The labels that a network gives in some boxes of an image: those of `inference.segment`, from fewer tiles.

    Yields:
        Progress after each batch of tiles.

    Returns:
        Labels (Z, Y, X) of each region's box.
    """
    plan = plan_tiles(prepared.array.shape[1:], predictor.card.tile, predictor.stride, overlap)
    placement = Placement(prepared, plan.padded, (1, 1, 1))
    # A 2-D network has nothing to do between two runs of slices; the tiles of a 3-D one mostly reach over.
    groups = [[region] for region in regions] if predictor.card.spatial_dims == 2 else [list(regions)]
    parts = [part_of(plan, [placement.needed(region.box) for region in group]) for group in groups if group]
    total, done, began = sum(len(part.starts) for _, part in parts), 0, time.monotonic()
    found = []
    try:
        for group, (low, part) in zip(groups, parts, strict=False):
            high = [a + n for a, n in zip(low, part.shape, strict=True)]
            inside = prepared.array[(slice(None), *(slice(a, b) for a, b in zip(low, high, strict=True)))]
            stitcher = Stitcher(part, len(predictor.card.class_names))
            size = max(1, _VOXELS // int(np.prod(plan.tile)))
            for first in range(0, len(part), size):
                starts = part.starts[first : first + size]
                yield Progress("scoring", done, total, "tiles", time.monotonic() - began)
                outputs, _ = predictor.probabilities(np.stack([cut(inside, part, start) for start in starts]))
                for start, one in zip(starts, outputs, strict=True):
                    stitcher.add(start, one)
                done += len(starts)
            values = stitcher.result()
            for region in group:
                needed = placement.needed(region.box)
                there = tuple(slice(s.start - a, s.stop - a) for s, a in zip(needed, low, strict=True))
                drawn = placement.draw(values[(slice(None), *there)], region.box)
                found.append(drawn.argmax(axis=0).astype(np.uint8))
    finally:
        predictor.free()
    return found


def part_of(plan: TilePlan, boxes: Sequence[Box]) -> tuple[tuple[int, ...], TilePlan]:
    """The tiles of a plan that see any of some boxes, as a plan of their own, and where its first voxel lies."""
    first = [min(box[axis].start for box in boxes) for axis in range(3)]
    last = [max(box[axis].stop for box in boxes) for axis in range(3)]
    starts = [
        start
        for start in plan.starts
        if all(s < b and s + t > a for s, t, a, b in zip(start, plan.tile, first, last, strict=True))
    ]
    low = tuple(min(start[axis] for start in starts) for axis in range(3))
    high = tuple(max(start[axis] for start in starts) + plan.tile[axis] for axis in range(3))
    shape = tuple(min(b, n) - a for a, b, n in zip(low, high, plan.shape, strict=True))
    moved = tuple(tuple(s - a for s, a in zip(start, low, strict=True)) for start in starts)
    return low, TilePlan(shape, tuple(b - a for a, b in zip(low, high, strict=True)), plan.tile, moved)
