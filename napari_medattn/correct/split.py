"""Splitting a class into the parts that it consists of, or that it is grown together from."""

from __future__ import annotations

from collections.abc import Sequence

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
    grown,
    millimetres,
    propose,
    resolve,
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


def _by_size(before: Labels, pieces: Labels, count: int, labels: Labels, label: int, first: int | None) -> Labels:
    """``before`` with its pieces 1 ... ``count`` relabelled: the largest keeps ``label``, the others get new ones."""
    if count < 2:
        return before
    start = int(labels.max()) + 1 if first is None else check_label(first, labels)
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
