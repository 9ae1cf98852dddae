"""What the tools share: boxes of a mask, its classes, and proposals made from before and after."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_medattn.correct.proposal import Box, Labels, Proposal
from napari_medattn.errors import InputError

Mask = NDArray[np.bool_]
Float = NDArray[np.float32]


def resolve(box: Box, labels: Labels) -> Box:
    """A box with plain limits inside the mask.

    Args:
        box: Slices with step 1, one per axis; ``()`` is the whole mask.
        labels: The mask.

    Raises:
        InputError: If the mask holds no whole numbers, or the box does not lie in it or is empty.
    """
    if labels.dtype.kind not in "iu":
        raise InputError(f"A mask of type {labels.dtype} holds no classes.", "Give whole numbers.")
    if not box:
        return tuple(slice(0, size) for size in labels.shape)
    if len(box) != labels.ndim:
        raise InputError(f"A box of {len(box)} axes does not fit a mask of {labels.ndim}.", "Give a slice per axis.")
    limits = []
    for side, size in zip(box, labels.shape, strict=True):
        first = 0 if side.start is None else side.start
        last = size if side.stop is None else side.stop
        if side.step not in (None, 1) or not 0 <= first < last <= size:
            raise InputError(
                f"The box {describe(box)} does not lie in a mask of {labels.shape}, or is empty.",
                "Give slices with a start below their stop, inside of the mask.",
            )
        limits.append(slice(int(first), int(last)))
    return tuple(limits)


def slice_box(shape: Sequence[int], axis: int, index: int) -> Box:
    """The box of one slice.

    Raises:
        InputError: If there is no such axis or slice.
    """
    if not -len(shape) <= axis < len(shape) or not 0 <= index < shape[axis]:
        raise InputError(
            f"A mask of {tuple(shape)} has no slice {index} along axis {axis}.", "Choose a slice that is there."
        )
    axis %= len(shape)
    return tuple(slice(index, index + 1) if a == axis else slice(0, size) for a, size in enumerate(shape))


def grown(box: Box, shape: Sequence[int], margin: Sequence[int]) -> Box:
    """A box with a margin of voxels around it, as far as the mask goes."""
    return tuple(
        slice(max(0, side.start - more), min(size, side.stop + more))
        for side, size, more in zip(box, shape, margin, strict=True)
    )


def within(box: Box, outer: Box) -> Box:
    """A box counted from the first voxel of a box around it."""
    return tuple(slice(a.start - b.start, a.stop - b.start) for a, b in zip(box, outer, strict=True))


def bounds(mask: Mask) -> Box | None:
    """The smallest box around what is True; None if nothing is."""
    sides = []
    for axis in range(mask.ndim):
        used = np.flatnonzero(mask.any(axis=tuple(a for a in range(mask.ndim) if a != axis)))
        if not used.size:
            return None
        sides.append(slice(int(used[0]), int(used[-1]) + 1))
    return tuple(sides)


def propose(labels: Labels, box: Box, after: Labels, tool: str) -> Proposal:
    """A proposal for what differs between a mask and new labels of a box, in the smallest box that holds it.

    Args:
        labels: The mask.
        box: Where ``after`` lies, resolved.
        after: The box's new labels.
        tool: The tool's name.
    """
    changes = labels[box] != after
    inside = bounds(changes)
    if inside is None:
        return Proposal(box, after.astype(labels.dtype, copy=False), changes, tool)
    smallest = tuple(slice(b.start + a.start, b.start + a.stop) for a, b in zip(inside, box, strict=True))
    return Proposal(smallest, after[inside].astype(labels.dtype), changes[inside], tool)


def millimetres(spacing: Sequence[float] | None, ndim: int) -> tuple[float, ...]:
    """A checked voxel size; 1 along every axis if None.

    Raises:
        InputError: If it does not fit the mask's axes.
    """
    sizes = (1.0,) * ndim if spacing is None else tuple(float(size) for size in spacing)
    if len(sizes) != ndim or not all(np.isfinite(size) and size > 0 for size in sizes):
        raise InputError(
            f"The voxel size {sizes} does not fit a mask of {ndim} axes.", "Give a length above 0 per axis."
        )
    return sizes


def check_label(label: int, labels: Labels) -> int:
    """A label that the mask can hold.

    Raises:
        InputError: If it cannot.
    """
    limits = np.iinfo(labels.dtype)
    if not max(0, limits.min) <= label <= limits.max:
        raise InputError(
            f"A mask of type {labels.dtype} cannot hold the label {label}.", f"Use one from 0 to {limits.max}."
        )
    return int(label)


def check_voxel(voxel: Sequence[int], labels: Labels, box: Box) -> tuple[int, ...]:
    """A voxel (one index per axis) that lies in a box.

    Raises:
        InputError: If it does not.
    """
    at = tuple(int(index) for index in voxel)
    if len(at) != labels.ndim or not all(side.start <= n < side.stop for n, side in zip(at, box, strict=True)):
        raise InputError(f"The voxel {at} does not lie in the box {describe(box)}.", "Choose a voxel inside of it.")
    return at


def foreground(labels: Labels) -> list[int]:
    """The labels above 0 that occur, rising; huge ones too."""
    if not labels.size:
        return []
    highest = int(labels.max())
    if labels.min() >= 0 and highest < 1 << 16:
        # Layer by layer: counting makes a wide copy of what it counts.
        counts = sum(np.bincount(layer.ravel(), minlength=highest + 1) for layer in labels)
        return [int(n) for n in np.flatnonzero(counts) if n > 0]
    return [int(n) for n in np.unique(labels) if n > 0]


def chosen(labels: Labels, classes: Iterable[int] | None) -> list[int]:
    """The foreground labels that occur, of those asked for if any were."""
    present = foreground(labels)
    return present if classes is None else sorted(set(present) & {int(n) for n in classes})


def components(mask: Mask) -> tuple[NDArray[np.int32], int]:
    """Parts of a mask that hang together over voxel faces, numbered from 1, and how many there are."""
    numbered, count = ndimage.label(mask)
    return numbered, int(count)


def going_on(numbered: NDArray[np.int32], labels: Labels, label: int, box: Box) -> NDArray[np.int32]:
    """Numbers of the components of a box that go on outside of it, so that their size is not known here.

    Along an axis on which the box is one voxel thick, nothing counts as going on: there the slice is what is meant.

    Args:
        numbered: The components of ``labels[box] == label``.
        labels: The whole mask.
        label: The label.
        box: The box.
    """
    found = [np.empty(0, np.int32)]
    for axis, side in enumerate(box):
        if side.stop - side.start == 1:
            continue
        for inside, outside in ((side.start, side.start - 1), (side.stop - 1, side.stop)):
            if 0 <= outside < labels.shape[axis]:
                beyond = labels[(*box[:axis], outside, *box[axis + 1 :])] == label
                found.append(np.take(numbered, inside - side.start, axis)[beyond])
    numbers = np.unique(np.concatenate(found))
    return numbers[numbers > 0].astype(np.int32)


def nearest(values: Labels, known: Mask, spacing: Sequence[float]) -> Labels:
    """Each voxel's value, where it is not known that of the nearest voxel where it is; 0 if none is."""
    if known.all() or not known.any():
        return np.where(known, values, 0)
    where = ndimage.distance_transform_edt(~known, sampling=spacing, return_distances=False, return_indices=True)
    return values[tuple(where)]  # type: ignore[no-any-return]


def with_label(mask: Mask, label: int, before: Labels) -> Labels:
    """Labels with another one where the mask is True."""
    after = before.copy()
    after[mask] = label
    return after


def describe(box: Box) -> str:
    """A box for people, e.g. ``3:4, 0:128, 0:128``."""
    return ", ".join(f"{'' if s.start is None else s.start}:{'' if s.stop is None else s.stop}" for s in box)
