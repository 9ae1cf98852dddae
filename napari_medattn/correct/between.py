"""Filling the slices between those that were drawn, from the shapes on either side.

Raya and Udupa, "Shape-based interpolation of multidimensional objects", IEEE Trans Med Imaging 9(1), 1990: the signed
distance to the outline is interpolated linearly from slice to slice, and what lies above 0 is inside. Before that the
two outlines are brought onto each other and, in between, moved on the line from one centre to the other, so that a
structure that runs askew through the slices is followed; otherwise two outlines that do not overlap leave nothing
between them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_medattn.correct.boxes import Float, Mask, bounds, chosen, grown, millimetres, propose, resolve
from napari_medattn.correct.proposal import Box, Labels, Proposal
from napari_medattn.errors import InputError


def fill_between(
    labels: Labels,
    *,
    axis: int = 0,
    box: Box = (),
    spacing: Sequence[float] | None = None,
    classes: Iterable[int] | None = None,
    slices: Iterable[int] | None = None,
    follow: bool = True,
) -> Proposal:
    """Fill background between slices that hold a class.

    Each class by itself: between two slices that hold it, with none of it in between, it is interpolated; where several
    classes claim a voxel, the one that reaches deepest has it. Foreground is left as it is.

    Args:
        labels: (Z, Y, X) mask.
        axis: Across which axis the slices lie.
        box: Where; only slices of the box are looked at.
        spacing: Voxel size along the mask's axes in mm.
        classes: Which classes; None for all.
        slices: The slices that were drawn, in the mask's own count, e.g. the confirmed ones: gaps lie between these
            alone, whatever the slices in between hold. None: for each class the slices that hold it.
        follow: Whether outlines are moved from centre to centre; False is the method as published.

    Raises:
        InputError: If the mask has no such axis, a slice is not in the box, or box or spacing do not fit.
    """
    if labels.ndim != 3 or not -3 <= axis < 3:
        raise InputError(
            f"A mask of shape {labels.shape} has no slices along axis {axis}.", "Give (Z, Y, X) and an axis 0 to 2."
        )
    box, sizes, axis = resolve(box, labels), millimetres(spacing, 3), axis % 3
    first = box[axis].start
    drawn = None if slices is None else sorted({int(n) - first for n in slices})
    stack = np.moveaxis(labels[box], axis, 0)
    if drawn and not 0 <= drawn[0] <= drawn[-1] < len(stack):
        raise InputError(f"There is no slice {drawn[-1] + first} in the box.", "Choose slices inside of it.")
    flat = tuple(size for a, size in enumerate(sizes) if a != axis)
    after = stack.copy()
    reached: Float = np.zeros(stack.shape, np.float32)
    for number in chosen(stack, classes):
        own = stack == number
        for low, high in _gaps(own, drawn):
            for index, plane, depth in _interpolated(own[low], own[high], low, high, flat, follow):
                wins = (stack[index][plane] == 0) & (depth > reached[index][plane])
                after[index][plane][wins], reached[index][plane][wins] = number, depth[wins]
    return propose(labels, box, np.moveaxis(after, 0, axis), "fill between")


def _gaps(own: Mask, drawn: list[int] | None) -> Iterator[tuple[int, int]]:
    """Neighbouring drawn slices that both hold the class and have others in between."""
    holding = np.asarray(own.any(axis=(1, 2)))
    known = np.flatnonzero(holding).tolist() if drawn is None else drawn
    for low, high in pairwise(known):
        if high - low > 1 and holding[low] and holding[high]:
            yield low, high


def _interpolated(
    below: Mask, above: Mask, low: int, high: int, spacing: Sequence[float], follow: bool
) -> Iterator[tuple[int, Box, Float]]:
    """For each slice in between: its index, the part of the plane that is reached, and the depth inside in mm."""
    around = bounds(below | above)
    assert around is not None
    around = grown(around, below.shape, (1, 1))
    shapes = below[around], above[around]
    centres = [np.array(ndimage.center_of_mass(shape)) for shape in shapes]
    # A margin, so that shapes that are moved stay on their plane.
    move = np.abs(centres[1] - centres[0]) if follow else np.zeros(2)
    padding = [(int(np.ceil(step)) + 1,) * 2 for step in move]
    distances = [_signed_distance(np.pad(shape, padding), spacing) for shape in shapes]
    inner = tuple(slice(before, -after) for before, after in padding)
    for index in range(low + 1, high):
        share = (index - low) / (high - low)
        here = (1 - share) * centres[0] + share * centres[1]
        parts = [
            _moved(distance, here - centre) if follow else distance
            for distance, centre in zip(distances, centres, strict=True)
        ]
        depth = (1 - share) * parts[0] + share * parts[1]
        yield index, around, depth[inner].astype(np.float32)


def _moved(distance: NDArray[np.float64], by: NDArray[np.float64]) -> NDArray[np.float64]:
    if not by.any():
        return distance
    return ndimage.shift(distance, by, order=1, mode="nearest")  # type: ignore[no-any-return]


def _signed_distance(shape: Mask, spacing: Sequence[float]) -> NDArray[np.float64]:
    """Distance to the outline in mm, which runs between voxels: above 0 inside, below 0 outside."""
    inside = ndimage.distance_transform_edt(shape, sampling=spacing)
    outside = ndimage.distance_transform_edt(~shape, sampling=spacing)
    half = min(spacing) / 2
    return np.asarray(np.where(shape, inside - half, half - outside))
