"""`Part`: what was computed for one frame of a scan, brought onto the image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
        placement = self.scene.placement(self.key)
        box = list(placement.everything)
        if self.frame is not None and self.scene.flat:
            box[self.scene.prepared.turn.order[0]] = _slices(self.scene, self.frame)
        z, y, x = box
        spans = placement.needed((z, y, x))
        begin = [0, 0, 0] if self.frame is None else [span.start for span in self.scene.span(self.frame, self.key)]
        block = np.zeros((1, *(span.stop - span.start for span in spans)), np.float32)
        have, target, source = [], [], []
        for axis, span in enumerate(spans):
            at = np.arange(span.start, span.stop) - begin[axis]
            if axis == 0 and self.frame is not None and self.scene.flat:
                at = np.zeros_like(at)  # the one slice that there is stands for its neighbours
            known = (at >= 0) & (at < self.values.shape[axis])
            have.append(known)
            target.append(np.flatnonzero(known))
            source.append(at[known])
        block[0][np.ix_(*target)] = self.values[np.ix_(*source)]
        whole = np.full(placement.shape, np.nan, np.float32)
        whole[z, y, x] = placement.draw(block, (z, y, x), have)[0]
        return whole


def _slices(scene: Scene, frame: int) -> slice:
    """The slices of the image, along the axis that a 2-D network steps through, that a frame is nearest to."""
    size, turned = scene.prepared.array.shape[1], scene.prepared.turned_shape[0]
    nearest = np.minimum(((np.arange(turned) + 0.5) * size / turned).astype(int), size - 1)
    found = np.flatnonzero(nearest == frame)
    first, last = (found[0], found[-1]) if found.size else ([int((frame + 0.5) * turned / size)] * 2)
    if scene.prepared.turn.flips[0]:
        first, last = turned - 1 - last, turned - 1 - first
    return slice(int(first), int(last) + 1)
