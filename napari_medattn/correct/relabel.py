"""Giving parts of a mask another label: split, merge, relabel, copy from a slice, threshold inside the brush."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_medattn.correct.boxes import (
    Float,
    Mask,
    bounds,
    check_label,
    check_voxel,
    components,
    foreground,
    grown,
    millimetres,
    propose,
    resolve,
    slice_box,
)
from napari_medattn.correct.proposal import Box, Labels, Proposal
from napari_medattn.errors import InputError


def split(labels: Labels, label: int, *, box: Box = (), first: int | None = None) -> Proposal:
    """Give the parts of a class that do not hang together labels of their own.

    The largest part keeps the label; the others take ``first``, ``first + 1``, ... from the largest to the smallest.

    Args:
        labels: (Z, Y, X) or (Y, X) mask.
        label: The class.
        box: Where.
        first: First new label; the one after the highest of the mask if None.

    Raises:
        InputError: If the box does not fit, or the mask's type cannot hold the new labels.
    """
    box = resolve(box, labels)
    before = labels[box]
    numbered, count = components(before == check_label(label, labels))
    return propose(labels, box, _by_size(before, numbered, count, labels, label, first), "split")


def split_at_waist(
    labels: Labels,
    voxel: Sequence[int],
    parts: int = 2,
    *,
    box: Box = (),
    spacing: Sequence[float] | None = None,
    first: int | None = None,
) -> Proposal:
    """Cut one part of a class at its narrowest places, by a watershed on the distance to its outline.

    Seeds are the peaks of the distance that stand out most: of all peaks, those that one must climb down furthest from
    to reach a higher one (topographic prominence). The watershed is scikit-image's (Vincent and Soille, IEEE Trans
    Pattern Anal Mach Intell 13(6), 1991).

    Args:
        labels: (Z, Y, X) or (Y, X) mask.
        voxel: A voxel of the part, one index per axis.
        parts: Into how many.
        box: Where.
        spacing: Voxel size along the mask's axes in mm.
        first: First new label; the one after the highest of the mask if None. The largest part keeps its label.

    Raises:
        InputError: If the voxel is background or not in the box, the part has no ``parts`` bulges, or box or spacing
            do not fit.
    """
    from skimage.segmentation import watershed

    box, sizes = resolve(box, labels), millimetres(spacing, labels.ndim)
    if parts < 2:
        raise InputError(f"Nothing can be split into {parts} parts.", "Use 2 or more.")
    before = labels[box]
    at = tuple(n - side.start for n, side in zip(check_voxel(voxel, labels, box), box, strict=True))
    label = int(before[at])
    if label <= 0:
        raise InputError("There is only background at the voxel.", "Click on the part to be split.")
    numbered, _ = components(before == label)
    whole = numbered == numbered[at]
    inside = bounds(whole)
    assert inside is not None
    around = grown(inside, before.shape, [1] * before.ndim)
    one = whole[around]
    # The outline runs along the mask's edge too, but not across an axis of one voxel.
    padded = np.pad(one, [(0, 0) if n == 1 else (1, 1) for n in one.shape])
    steps = [1.0 if n == 1 else size for n, size in zip(one.shape, sizes, strict=True)]
    distance = ndimage.distance_transform_edt(padded, sampling=steps).astype(np.float32)
    seeds = _bulges(distance, padded, parts)
    pieces = watershed(-distance, seeds, mask=padded)
    pieces = pieces[tuple(slice(None) if n == 1 else slice(1, -1) for n in one.shape)]
    after = before.copy()
    after[around] = _by_size(before[around], pieces, parts, labels, label, first)
    return propose(labels, box, after, "split at the waist")


def merge(labels: Labels, sources: Iterable[int], target: int, *, box: Box = ()) -> Proposal:
    """Give all voxels of some classes the label of another; 0 deletes them.

    Args:
        labels: (Z, Y, X) or (Y, X) mask.
        sources: The classes; the background is no class.
        target: The new label.
        box: Where.

    Raises:
        InputError: If a source is no foreground label, the mask cannot hold the target, or the box does not fit.
    """
    box = resolve(box, labels)
    numbers = [int(n) for n in sources]
    if any(n <= 0 for n in numbers):
        raise InputError(f"{min(numbers)} is no class that could be merged.", "Use labels above 0.")
    before = labels[box]
    return propose(labels, box, _where(np.isin(before, numbers), check_label(target, labels), before), "merge")


def relabel(labels: Labels, voxel: Sequence[int], label: int, *, box: Box = ()) -> Proposal:
    """Give the part of a class that a voxel lies in another label.

    Args:
        labels: (Z, Y, X) or (Y, X) mask.
        voxel: Its index, one per axis; nothing happens on the background.
        label: The new label; 0 deletes the part.
        box: Where; of a part that goes on outside, what is inside.

    Raises:
        InputError: If the voxel is not in the box, the mask cannot hold the label, or the box does not fit.
    """
    box = resolve(box, labels)
    before = labels[box]
    at = tuple(n - side.start for n, side in zip(check_voxel(voxel, labels, box), box, strict=True))
    check_label(label, labels)
    if before[at] <= 0:
        return propose(labels, box, before, "relabel")
    numbered, _ = components(before == before[at])
    return propose(labels, box, _where(numbered == numbered[at], label, before), "relabel")


def copy_slice(
    labels: Labels,
    source: int,
    target: int,
    *,
    axis: int = 0,
    box: Box = (),
    classes: Iterable[int] | None = None,
    background_only: bool = False,
) -> Proposal:
    """Copy the labels of one slice to another.

    Args:
        labels: (Z, Y, X) mask.
        source: Index of the slice to copy from.
        target: Index of the slice to copy to.
        axis: Across which axis the slices lie.
        box: Where within the slice; its extent along ``axis`` does not matter.
        classes: Copy these classes alone, and leave other foreground as it is; None copies everything, the background
            too.
        background_only: Whether foreground of the target stays as it is.

    Raises:
        InputError: If there is no such slice or axis, or the box does not fit.
    """
    box, axis = resolve(box, labels), axis % max(1, labels.ndim)
    there, here = (slice_box(labels.shape, axis, index) for index in (source, target))
    there, here = (tuple(s if a == axis else b for a, (s, b) in enumerate(zip(one, box, strict=True)))
                   for one in (there, here))  # fmt: skip
    wanted, before = labels[there], labels[here]
    takes = np.ones(before.shape, bool)
    if classes is not None:
        numbers = [int(n) for n in classes]
        # The classes are to look as they do there: they also give way to background.
        takes = np.isin(before, [0, *numbers])
        wanted = np.where(np.isin(wanted, numbers), wanted, 0)
    if background_only:
        takes &= before == 0
    return propose(labels, here, np.where(takes, wanted, before), "copy slice")


def threshold_in_brush(
    labels: Labels,
    image: NDArray[np.generic],
    centre: Sequence[float],
    radius: float,
    label: int,
    *,
    lower: float | None = None,
    upper: float | None = None,
    box: Box = (),
    spacing: Sequence[float] | None = None,
    background_only: bool = True,
) -> Proposal:
    """Label what is bright (or dark) enough under a round brush.

    Args:
        labels: (Z, Y, X) or (Y, X) mask.
        image: Intensities, of the mask's shape.
        centre: The brush's middle, an index with fractions per axis.
        radius: Its radius in mm (in voxels without a spacing): a ball, or a disk where the box is one slice.
        label: The label to give.
        lower: Lowest intensity that is taken; None for no limit.
        upper: Highest intensity; None for no limit. With neither, Otsu's threshold of the brush divides it, and the
            side on which its middle lies is taken.
        box: Where.
        spacing: Voxel size along the mask's axes in mm.
        background_only: Whether foreground stays as it is.

    Raises:
        InputError: If image, centre, radius, label, box or spacing do not fit.
    """
    box, sizes = resolve(box, labels), millimetres(spacing, labels.ndim)
    check_label(label, labels)
    if image.shape != labels.shape:
        raise InputError(
            f"The image has shape {image.shape}, the mask {labels.shape}.", "Give the image on the mask's own voxels."
        )
    if len(centre) != labels.ndim or not np.isfinite(centre).all() or not radius > 0:
        raise InputError(f"There is no brush of {radius} mm at {tuple(centre)}.", "Give a voxel and a radius above 0.")
    reach = tuple(
        slice(max(s.start, int(np.ceil(c - radius / size))), min(s.stop, int(c + radius / size) + 1))
        for s, c, size in zip(box, centre, sizes, strict=True)
    )
    if any(s.start >= s.stop for s in reach):
        return propose(labels, box, labels[box], "threshold")
    brush = ball(reach, centre, radius, sizes)
    values = np.asarray(image[reach], np.float32)
    under = brush & np.isfinite(values)
    before = labels[reach]
    taken = under & _between_limits(values, under, values[_nearest_voxel(centre, reach)], lower, upper)
    if background_only:
        taken &= before == 0
    return propose(labels, reach, _where(taken, label, before), "threshold")


def ball(box: Box, centre: Sequence[float], radius: float, spacing: Sequence[float]) -> Mask:
    """The voxels of a box that lie within a radius in mm of a point."""
    offsets = np.meshgrid(
        *[(np.arange(s.start, s.stop) - c) * size for s, c, size in zip(box, centre, spacing, strict=True)],
        indexing="ij",
        sparse=True,
    )
    squares = sum((offset**2 for offset in offsets), start=np.zeros(()))
    return np.asarray(squares <= radius**2 * (1 + 1e-9))


def _between_limits(values: Float, under: Mask, middle: float, lower: float | None, upper: float | None) -> Mask:
    if lower is None and upper is None:
        from skimage.filters import threshold_otsu

        some = values[under]
        if not some.size or some.min() == some.max():
            return under
        middle = middle if np.isfinite(middle) else float(np.median(some))
        divide = float(threshold_otsu(some))
        return values > divide if middle > divide else values <= divide
    above = np.ones(values.shape, bool) if lower is None else values >= lower
    return above if upper is None else above & (values <= upper)


def _nearest_voxel(centre: Sequence[float], box: Box) -> tuple[int, ...]:
    """The voxel of a box nearest to a point, counted from the box's first."""
    return tuple(min(max(round(float(c)), s.start), s.stop - 1) - s.start for c, s in zip(centre, box, strict=True))


def _where(mask: Mask, label: int, before: Labels) -> Labels:
    after = before.copy()
    after[mask] = label
    return after


def _by_size(before: Labels, pieces: Labels, count: int, labels: Labels, label: int, first: int | None) -> Labels:
    """``before`` with its pieces 1 ... ``count`` relabelled: the largest keeps ``label``, the others get new ones."""
    if count < 2:
        return before
    start = max([label, *foreground(labels)]) + 1 if first is None else check_label(first, labels)
    check_label(start + count - 2, labels)
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)[1:]
    order = np.argsort(-sizes, kind="stable")
    names = np.zeros(count + 1, labels.dtype)
    names[order[0] + 1] = label
    names[order[1:] + 1] = np.arange(start, start + count - 1, dtype=labels.dtype)
    return np.where(pieces > 0, names[pieces], before)


def _bulges(distance: Float, mask: Mask, parts: int) -> NDArray[np.int32]:
    """Seeds 1 ... ``parts``: the peaks of the distance that stand out most.

    Raises:
        InputError: If there are not that many.
    """
    from skimage.morphology import h_maxima

    low, high = 0.0, float(distance.max())
    best: NDArray[np.int32] | None = None
    # The more a peak must stand out, the fewer there are; the largest height that leaves enough of them is sought.
    for _ in range(12):
        middle = (low + high) / 2
        seeds, count = ndimage.label(h_maxima(distance, middle).astype(bool) & mask, np.ones((3,) * mask.ndim))
        if count >= parts:
            low, best = middle, seeds
            if count == parts:
                break
        else:
            high = middle
    if best is None or int(best.max()) > parts:
        best = _highest(distance, best, parts)
    if best is None:
        raise InputError(f"The part has no {parts} bulges to be split into.", "Split it into fewer parts, or by hand.")
    return best


def _highest(distance: Float, seeds: NDArray[np.int32] | None, parts: int) -> NDArray[np.int32] | None:
    """The seeds on the highest peaks, where equal ones cannot be told apart by how much they stand out."""
    if seeds is None:
        return None
    count = int(seeds.max())
    heights = np.asarray(ndimage.maximum(distance, seeds, np.arange(1, count + 1)))
    names = np.zeros(count + 1, np.int32)
    names[np.argsort(-heights, kind="stable")[:parts] + 1] = np.arange(1, parts + 1)
    return names[seeds]
