"""`Part`: what was computed for one frame of a scan, brought onto the image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_medattn.look.part_of_map import draw_part, nearest_voxels
from napari_medattn.look.scene import Scene

Float = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Part:
    """Values on a part of a site's whole map.

    Attributes:
        scene: The scan before the network.
        key: The site whose stride they have.
        frame: The frame; None if they cover the whole scan.
        values: (Z, Y, X) at the site's stride, the frame's size with its padding.
    """

    scene: Scene
    key: str
    frame: int | None
    values: Float

    def on_image(self) -> Float:
        """(Z, Y, X) on the image's grid, interpolated linearly; nan outside of the frame.

        The frame of a 2-D network is drawn on the slices of the image that are nearest to it.
        """
        scene, placement = self.scene, self.scene.placement(self.key)
        box, begin = list(placement.everything), (0, 0, 0)
        slice_of = scene.prepared if self.frame is not None and scene.flat else None
        if self.frame is not None:
            z, y, x = (span.start for span in scene.span(self.frame, self.key))
            begin = z, y, x
        if slice_of is not None:
            box[slice_of.turn.order[0]] = nearest_voxels(slice_of, 0, slice(begin[0], begin[0] + 1))
        seen = (box[0], box[1], box[2])
        whole = np.full(placement.shape, np.nan, np.float32)
        whole[seen] = draw_part(placement, self.values[None], begin, seen, slice_of)[0]
        return whole
