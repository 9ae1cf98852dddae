"""Tidying a mask: smooth outlines, filled holes, islands gone.

Each works on the box that it is given and proposes nothing outside of it: a slice, a selection or, with ``()``, the
whole mask. A box that is one voxel thick is tidied as the 2-D slice that it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_medattn.correct.boxes import (
    Float,
    Mask,
    bounds,
    check_voxel,
    chosen,
    components,
    foreground,
    going_on,
    grown,
    millimetres,
    nearest,
    propose,
    resolve,
    within,
)
from napari_medattn.correct.proposal import Box, Labels, Proposal
from napari_medattn.errors import InputError

_REACH = 3.0  # standard deviations at which the smoothing kernel ends


def smooth(
    labels: Labels,
    sigma: float = 1.0,
    *,
    box: Box = (),
    spacing: Sequence[float] | None = None,
    classes: Iterable[int] | None = None,
) -> Proposal:
    """Smooth the outlines of all classes at once: each voxel goes to the class that is most of its surroundings.

    The indicator of every class, the background among them, is blurred with a Gaussian, and the largest wins. So no
    class grows over its neighbour, and no gap opens between two of them. What is thinner than about ``sigma`` goes.

    Args:
        labels: (Z, Y, X) or (Y, X) mask.
        sigma: Standard deviation in mm (in voxels without a spacing).
        box: Where; what lies around it counts as surroundings.
        spacing: Voxel size along the mask's axes in mm.
        classes: Foreground classes that may change, against each other and the background; None for all.

    Raises:
        InputError: If sigma is not above 0, or box or spacing do not fit.
    """
    box, sizes = resolve(box, labels), millimetres(spacing, labels.ndim)
    if not sigma > 0:
        raise InputError(f"A mask cannot be smoothed over {sigma} mm.", "Use a length above 0.")
    sigmas = [0.0 if side.stop - side.start == 1 else sigma / size for side, size in zip(box, sizes, strict=True)]
    around = grown(box, labels.shape, [int(_REACH * s + 0.5) for s in sigmas])
    before = labels[around]
    numbers = chosen(before, classes)
    used = bounds(np.isin(before, numbers)) if numbers else None
    if used is None:
        return propose(labels, box, labels[box], "smooth")
    # Beyond the reach of the kernel around the classes all is background, and stays so.
    used = grown(used, before.shape, [int(_REACH * s + 0.5) + 1 for s in sigmas])
    part = before[used]
    movable = np.isin(part, [0, *numbers])
    best: Float = np.full(part.shape, -1, np.float32)
    winner = part.copy()
    for number in (0, *numbers):
        own = part == number
        share = ndimage.gaussian_filter(own.astype(np.float32), sigmas, mode="nearest", truncate=_REACH)
        share[own] += 1e-6  # who is there stays in a tie
        better = movable & (share > best)
        best[better], winner[better] = share[better], number
    after = before.copy()
    after[used] = winner
    return propose(labels, box, after[within(box, around)], "smooth")


def fill_holes(
    labels: Labels,
    *,
    box: Box = (),
    spacing: Sequence[float] | None = None,
    classes: Iterable[int] | None = None,
    largest: float | None = None,
) -> Proposal:
    """Fill background that is enclosed by foreground; each voxel of a hole takes the nearest class.

    Background that reaches the rim of the box (but for the rim along an axis on which the box is one voxel thick) is
    not enclosed.

    Args:
        labels: (Z, Y, X) or (Y, X) mask.
        box: Where.
        spacing: Voxel size along the mask's axes in mm.
        classes: Fill only holes that these classes alone enclose; None for any.
        largest: Leave holes above this size (mm^3, mm^2 in a slice) as they are; None for no limit.

    Raises:
        InputError: If box or spacing do not fit.
    """
    box, sizes = resolve(box, labels), millimetres(spacing, labels.ndim)
    before = labels[box]
    used = bounds(before > 0)
    if used is None:
        return propose(labels, box, before, "fill holes")
    # A margin, so that all that is not enclosed reaches the rim.
    used = grown(used, before.shape, (1,) * before.ndim)
    after = before.copy()
    after[used] = _without_holes(before[used], sizes, classes, largest)
    return propose(labels, box, after, "fill holes")


def _without_holes(
    before: Labels, sizes: Sequence[float], classes: Iterable[int] | None, largest: float | None
) -> Labels:
    """See `fill_holes`."""
    numbered, count = components(before == 0)
    hole = np.ones(count + 1, bool)
    hole[0] = False
    hole[_at_the_rim(numbered)] = False
    if largest is not None:
        hole &= np.bincount(numbered.ravel(), minlength=count + 1) * _voxel(before.shape, sizes) <= largest
    if classes is not None:
        others = np.setdiff1d(foreground(before), list(classes))
        hole[_touching(numbered, np.isin(before, others))] = False
    inside = hole[numbered]
    if not inside.any():
        return before
    return np.where(inside, nearest(before, before > 0, _within_slices(before.shape, sizes)), before)


def remove_islands(
    labels: Labels,
    smallest: float,
    *,
    box: Box = (),
    spacing: Sequence[float] | None = None,
    classes: Iterable[int] | None = None,
) -> Proposal:
    """Remove parts below a size; each of their voxels takes the label of the nearest voxel around them.

    A part that goes on outside of the box stays: its size is not known there.

    Args:
        labels: (Z, Y, X) or (Y, X) mask.
        smallest: Size (mm^3, mm^2 in a slice; voxels without a spacing) from which on a part stays.
        box: Where.
        spacing: Voxel size along the mask's axes in mm.
        classes: Foreground classes to look at; None for all.

    Raises:
        InputError: If box or spacing do not fit.
    """
    box, sizes = resolve(box, labels), millimetres(spacing, labels.ndim)
    voxel = _voxel(labels[box].shape, sizes)
    return _without_parts(labels, box, sizes, classes, lambda counts: counts * voxel < smallest, "remove islands")


def remove_island(
    labels: Labels, voxel: Sequence[int], *, box: Box = (), spacing: Sequence[float] | None = None
) -> Proposal:
    """Remove the part of a class that a voxel lies in; its voxels take the label of the nearest voxel around them.

    Args:
        labels: (Z, Y, X) or (Y, X) mask.
        voxel: Its index, one per axis; nothing happens on the background.
        box: Where; of a part that goes on outside, only what is inside is removed.
        spacing: Voxel size along the mask's axes in mm.

    Raises:
        InputError: If the voxel does not lie in the box, or box or spacing do not fit.
    """
    box, sizes = resolve(box, labels), millimetres(spacing, labels.ndim)
    before = labels[box]
    at = tuple(n - side.start for n, side in zip(check_voxel(voxel, labels, box), box, strict=True))
    gone = np.zeros(before.shape, bool)
    if before[at] > 0:
        numbered, _ = components(before == before[at])
        gone = numbered == numbered[at]
    return propose(labels, box, _without(before, gone, sizes), "remove island")


def keep_largest(
    labels: Labels,
    *,
    box: Box = (),
    spacing: Sequence[float] | None = None,
    classes: Iterable[int] | None = None,
) -> Proposal:
    """Keep the largest part of each class; the voxels of the others take the label of the nearest voxel around them.

    A part that goes on outside of the box stays: its size is not known there. Of two equal ones the first stays.

    Args:
        labels: (Z, Y, X) or (Y, X) mask.
        box: Where.
        spacing: Voxel size along the mask's axes in mm.
        classes: Foreground classes to look at; None for all.

    Raises:
        InputError: If box or spacing do not fit.
    """
    box, sizes = resolve(box, labels), millimetres(spacing, labels.ndim)
    return _without_parts(
        labels, box, sizes, classes, lambda counts: np.arange(len(counts)) != counts.argmax(), "keep the largest"
    )


def _without_parts(
    labels: Labels,
    box: Box,
    sizes: Sequence[float],
    classes: Iterable[int] | None,
    goes: Callable[[NDArray[np.intp]], Mask],
    tool: str,
) -> Proposal:
    """A mask without those parts of classes that lie wholly in a box and of which ``goes`` says so.

    Args:
        labels: The mask.
        box: Where, resolved.
        sizes: Voxel size along the mask's axes.
        classes: Foreground classes to look at; None for all.
        goes: Of the sizes of a class's parts in voxels, which parts go.
        tool: The tool's name.
    """
    before = labels[box]
    gone = np.zeros(before.shape, bool)
    for number in chosen(before, classes):
        view, numbered, counts, unknown = _parts(labels, box, number)
        lost = np.concatenate([[False], goes(counts[1:])])
        lost[unknown] = False
        gone[view] |= lost[numbered]
    return propose(labels, box, _without(before, gone, sizes), tool)


def _parts(labels: Labels, box: Box, number: int) -> tuple[Box, NDArray[np.int32], NDArray[np.intp], NDArray[np.int32]]:
    """The parts of a class that occurs in a box.

    Returns:
        Where in the box they lie; there their numbers from 1 on; the voxels of each, from number 0 on; and the numbers
        of those that go on outside of the box.
    """
    inside = bounds(labels[box] == number)
    assert inside is not None
    view = grown(inside, [side.stop - side.start for side in box], (1,) * len(box))
    here = tuple(slice(b.start + v.start, b.start + v.stop) for b, v in zip(box, view, strict=True))
    numbered, count = components(labels[here] == number)
    counts = np.bincount(numbered.ravel(), minlength=count + 1)
    return view, numbered, counts, going_on(numbered, labels, number, here)


def _without(before: Labels, gone: Mask, sizes: Sequence[float]) -> Labels:
    """Labels where ``gone`` voxels took the nearest other one, background where all are gone."""
    inside = bounds(gone)
    if inside is None:
        return before
    spacing = _within_slices(before.shape, sizes)
    # What is nearest to a voxel of an island is never farther than the island is long.
    diagonal = np.linalg.norm([(s.stop - s.start) * size for s, size in zip(inside, spacing, strict=True)])
    around = grown(inside, before.shape, [int(diagonal / size) + 1 for size in spacing])
    after = before.copy()
    part = gone[around]
    after[around] = np.where(part, nearest(before[around], ~part, spacing), before[around])
    return after


def _at_the_rim(numbered: Labels) -> Labels:
    """Numbers of the components at the box's faces, those of axes of one voxel left out."""
    faces = [np.take(numbered, (0, -1), axis).ravel() for axis, size in enumerate(numbered.shape) if size > 1]
    return np.unique(np.concatenate(faces)) if faces else np.unique(numbered)


def _touching(numbered: Labels, other: Mask) -> Labels:
    """Numbers of the components that have a face in common with ``other``."""
    return np.unique(numbered[ndimage.binary_dilation(other)])


def _voxel(shape: Sequence[int], sizes: Sequence[float]) -> float:
    """Size of a voxel: without the axes on which there is one voxel only."""
    return float(np.prod([size for count, size in zip(shape, sizes, strict=True) if count > 1]))


def _within_slices(shape: Sequence[int], sizes: Sequence[float]) -> tuple[float, ...]:
    """The voxel size for distances; along an axis of one voxel it does not matter."""
    return tuple(1.0 if count == 1 else size for count, size in zip(shape, sizes, strict=True))
