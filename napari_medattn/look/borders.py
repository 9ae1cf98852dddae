"""Where the borders of patches and tiles lie on the image: no attention passes them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_medattn.inference.placement import Box
from napari_medattn.look.scene import Scene


@dataclass(frozen=True, eq=False)
class Borders:
    """Straight lines on a slice of the image.

    Attributes:
        lines: (N, 2, 3) both ends (Z, Y, X) of each line in voxels of the image; whole numbers are voxel centres.
        tiles: (N,) bool, whether a line is the border of a tile and not only of a patch.
    """

    lines: NDArray[np.float64]
    tiles: NDArray[np.bool_]


def borders(scene: Scene, patches: Iterable[int], box: Box) -> Borders:
    """The borders that a slice of the image shows.

    Tiles form a regular grid, and so do the patches in them; every border thus goes through the whole image.

    Args:
        scene: The scan before the network.
        patches: For each site, how many patches a side its tiles are cut into, see `AttentionSite.patches`.
        box: Slices (Z, Y, X) of the source image, one of them a single voxel; for any other box there are no lines.
    """
    counts = set(patches)
    thick = [axis for axis in range(3) if box[axis].stop - box[axis].start > 1]
    lines, of_tiles = [], []
    for axis in (1, 2) if scene.flat else (0, 1, 2):
        across = scene.prepared.turn.order[axis]
        if len(thick) != 2 or across not in thick:
            continue
        for at, is_tile in _along(scene, axis, counts):
            if not box[across].start - 0.5 < at < box[across].stop - 0.5:
                continue
            first, last = ([float(span.start) for span in box] for _ in range(2))
            for other in thick:
                first[other], last[other] = box[other].start - 0.5, box[other].stop - 0.5
            first[across] = last[across] = at
            lines.append((first, last))
            of_tiles.append(is_tile)
    return Borders(np.array(lines, float).reshape(-1, 2, 3), np.array(of_tiles, bool))


def _along(scene: Scene, axis: int, counts: set[int]) -> list[tuple[float, bool]]:
    """Borders inside the image along a prepared axis: where on the source image, and whether it is a tile's."""
    side, inside = scene.plan.tile[axis], scene.plan.shape[axis]
    starts = {start[axis] for start in scene.plan.starts}
    edges = {start + part * side / count: False for start in starts for count in counts for part in range(1, count)}
    edges |= {edge: True for start in starts for edge in (start, start + side)}
    turned, flipped = scene.prepared.turned_shape[axis], scene.prepared.turn.flips[axis]
    found = []
    for edge in sorted(edge for edge in edges if 0 < edge < inside):
        at = edge * turned / inside
        found.append(((turned - at if flipped else at) - 0.5, edges[edge]))
    return found
