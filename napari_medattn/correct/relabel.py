"""Giving parts of a mask another label: merge, relabel, copy from another slice."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from napari_medattn.correct.boxes import (
    check_label,
    check_voxel,
    components,
    propose,
    resolve,
    slice_box,
    with_label,
)
from napari_medattn.correct.proposal import Box, Labels, Proposal
from napari_medattn.errors import InputError


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
    return propose(labels, box, with_label(np.isin(before, numbers), check_label(target, labels), before), "merge")


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
    return propose(labels, box, with_label(numbered == numbered[at], label, before), "relabel")


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
