"""A part of a site's map on the image: what lies beyond it is unknown, and a single slice stands for its neighbours."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from napari_medattn.data import Prepared
from napari_medattn.inference.placement import Box, Placement

Float = NDArray[np.float32]


def draw_part(
    placement: Placement, values: Float, begin: tuple[int, ...], box: Box, slice_of: Prepared | None = None
) -> Float:
    """A part of a map on a box of the image.

    Args:
        placement: Where the whole map lies.
        values: (N, Z, Y, X) of the part, at the map's stride.
        begin: Where in the whole map it begins, in map positions (Z, Y, X).
        box: Slices (Z, Y, X) of the source image.
        slice_of: The scan as the network saw it, if the part is one of its slices and the others are not known. There
            is nothing to interpolate between slices then: it is drawn on those of the image that it is nearest to.

    Returns:
        (N, *box) float32; nan where the map is not known.
    """
    spans = placement.needed(box)
    block = np.zeros((len(values), *(span.stop - span.start for span in spans)), np.float32)
    have, target, source = [], [], []
    for axis, (span, first, size) in enumerate(zip(spans, begin, values.shape[1:], strict=True)):
        there = np.arange(span.start, span.stop) - first
        if axis == 0 and slice_of is not None:
            there = np.zeros_like(there)
        known = (there >= 0) & (there < size)
        have.append(known)
        target.append(np.flatnonzero(known))
        source.append(there[known])
    every = np.arange(len(block))
    block[np.ix_(every, *target)] = values[np.ix_(every, *source)]
    drawn = placement.draw(block, box, have)
    if slice_of is not None:
        across, shown = slice_of.turn.order[0], nearest_voxels(slice_of, 0, slice(begin[0], begin[0] + 1))
        at = np.arange(box[across].start, box[across].stop)
        elsewhere = (at < shown.start) | (at >= shown.stop)
        drawn[(slice(None), *(elsewhere if axis == across else slice(None) for axis in range(3)))] = np.nan
    return drawn


def nearest_voxels(prepared: Prepared, axis: int, inside: slice) -> slice:
    """The voxels along a source axis that are nearest to prepared voxels ``inside`` along ``axis``, at least one."""
    size, turned = prepared.array.shape[1 + axis], prepared.turned_shape[axis]
    nearest = ((np.arange(turned) + 0.5) * size / turned).astype(int).clip(0, size - 1)
    found = np.flatnonzero((nearest >= inside.start) & (nearest < inside.stop))
    if not found.size:
        found = np.array([min(int((inside.start + 0.5) * turned / size), turned - 1)])
    first, last = int(found[0]), int(found[-1])
    if prepared.turn.flips[axis]:
        first, last = turned - 1 - last, turned - 1 - first
    return slice(first, last + 1)
