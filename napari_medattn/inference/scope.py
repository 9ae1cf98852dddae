"""Which part of an image is wanted, and which tiles that takes."""

from __future__ import annotations

from collections.abc import Sequence

from napari_medattn.data.linear import linear, used
from napari_medattn.data.tiles import Shape, TilePlan
from napari_medattn.errors import InputError
from napari_medattn.geometry import Reorientation

Box = tuple[slice, slice, slice]


def resolve_box(box: Sequence[slice] | None, shape: Sequence[int]) -> Box:
    """A box of an image with all its ends; the whole image for None.

    Raises:
        InputError: If it is empty or has steps.
    """
    asked = [slice(None)] * 3 if box is None else list(box)
    if len(asked) != 3 or any(side.step not in (None, 1) for side in asked):
        raise InputError(f"{box} is no box of an image.", "Give three slices (Z, Y, X) without steps.")
    spans = [slice(*side.indices(size)[:2]) for side, size in zip(asked, shape, strict=True)]
    if any(side.stop <= side.start for side in spans):
        raise InputError(f"The region {told(spans)} lies outside of the image, {tuple(shape)}.", "Choose another.")
    z, y, x = spans
    return z, y, x


def told(box: Sequence[slice]) -> list[list[int]]:
    """A box as plain data: [start, stop] of each axis."""
    return [[int(side.start), int(side.stop)] for side in box]


def turned(box: Box, turn: Reorientation, shape: Sequence[int]) -> Box:
    """A box of an image of ``shape`` in the axes that ``turn`` leads to."""
    sides = []
    for axis, flipped in zip(turn.order, turn.flips, strict=True):
        side, size = box[axis], shape[axis]
        sides.append(slice(size - side.stop, size - side.start) if flipped else side)
    z, y, x = sides
    return z, y, x


def turned_back(box: Box, turn: Reorientation, shape: Sequence[int]) -> Box:
    """A box in the axes that ``turn`` leads to as one of the image of ``shape``."""
    sides = [slice(0)] * 3
    for side, axis, flipped in zip(box, turn.order, turn.flips, strict=True):
        size = shape[axis]
        sides[axis] = slice(size - side.stop, size - side.start) if flipped else side
    z, y, x = sides
    return z, y, x


def before_resampling(box: Box, prepared: Sequence[int], whole: Sequence[int]) -> Box:
    """The prepared voxels, of ``prepared``, on which a box of the turned image, of ``whole``, rests."""
    z, y, x = (slice(*used(linear(have, size)[side])) for side, have, size in zip(box, prepared, whole, strict=True))
    return z, y, x


def touching(plan: TilePlan, box: Box) -> tuple[Shape, ...]:
    """The tiles, in scan order, that a box of the prepared volume has a voxel in."""
    return tuple(
        start
        for start in plan.starts
        if all(a < side.stop and side.start < a + n for a, n, side in zip(start, plan.tile, box, strict=True))
    )
