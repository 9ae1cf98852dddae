"""`Confirmed`: what a person marked as right, and as what: a word on a label, not on a voxel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Box = tuple[slice, ...]
Labels = NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class Marks:
    """All that is confirmed at one moment: in ``box``, where ``mask`` is set, the label ``labels``."""

    box: Box
    mask: NDArray[np.bool_]
    labels: Labels


class Confirmed:
    """Voxels whose label a person confirmed; it counts as long as the mask shows that label.

    Args:
        shape: The mask's shape.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        self.shape = tuple(shape)
        self._mask: NDArray[np.bool_] | None = None
        self._labels: Labels | None = None
        # Per axis: how many voxels of each slice are marked; whether wholly marked slices still show their labels.
        self._counts = [np.zeros(size, np.int64) for size in self.shape]
        self._shown: list[dict[int, bool]] = [{} for _ in self.shape]

    def __bool__(self) -> bool:
        return bool(self.shape) and bool(self._counts[0].any())

    def set(self, labels: Labels, box: Box, right: bool = True) -> None:
        """Mark the labels in a box of the mask as right as they are, or take that back."""
        box = whole_box(box, self.shape)
        if self._mask is None or self._labels is None:
            self._mask, self._labels = np.zeros(self.shape, bool), np.zeros(self.shape, labels.dtype)
        if self._labels.dtype != labels.dtype:
            self._labels = self._labels.astype(np.promote_types(self._labels.dtype, labels.dtype))
        inside = self._mask[box]
        for axis, counts in enumerate(self._counts):
            others = tuple(other for other in range(len(self.shape)) if other != axis)
            full = inside.size // max(1, inside.shape[axis])
            counts[box[axis]] += (full if right else 0) - np.count_nonzero(inside, axis=others)
        inside[...] = right
        self._labels[box] = labels[box]
        self.touch(box)

    def put(self, marks: Marks) -> None:
        """Take over what was confirmed at another time; nothing may have been confirmed here yet."""
        self._mask, self._labels = np.zeros(self.shape, bool), np.zeros(self.shape, marks.labels.dtype)
        self._mask[marks.box], self._labels[marks.box] = marks.mask, marks.labels
        for axis, counts in enumerate(self._counts):
            others = tuple(other for other in range(len(self.shape)) if other != axis)
            counts[marks.box[axis]] = np.count_nonzero(marks.mask, axis=others)

    def marks(self) -> Marks | None:
        """A copy of all that is confirmed now; None if nothing is."""
        if not self or self._mask is None or self._labels is None:
            return None
        used = [np.flatnonzero(counts) for counts in self._counts]
        box = tuple(slice(int(found[0]), int(found[-1]) + 1) for found in used)
        return Marks(box, self._mask[box].copy(), self._labels[box].copy())

    def stands(self, labels: Labels, box: Box = ()) -> NDArray[np.bool_]:
        """Which voxels of a box are confirmed as what the mask shows."""
        if self._mask is None or self._labels is None:
            return np.zeros(labels[box].shape, bool)
        shown: NDArray[np.bool_] = labels[box] == self._labels[box]
        return shown & self._mask[box]

    def slices(self, labels: Labels, axis: int = 0) -> list[int]:
        """Indices along ``axis`` at which the whole slice is confirmed; looks only at what changed since."""
        size = int(np.prod([n for other, n in enumerate(self.shape) if other != axis]))
        shown, before = self._shown[axis], (slice(None),) * axis
        found = [int(index) for index in np.flatnonzero(self._counts[axis] == size)]
        for index in found:
            if index not in shown:
                shown[index] = bool(self.stands(labels, (*before, slice(index, index + 1))).all())
        return [index for index in found if shown[index]]

    def touch(self, box: Box) -> None:
        """Labels in a box changed."""
        for axis, shown in enumerate(self._shown):
            for index in range(box[axis].start, box[axis].stop) if shown else ():
                shown.pop(index, None)

    def forget_looks(self) -> None:
        """Labels may have changed anywhere."""
        for shown in self._shown:
            shown.clear()

    def copy(self) -> Confirmed:
        """An equal one that goes its own way."""
        twin = Confirmed(self.shape)
        marks = self.marks()
        if marks is not None:
            twin.put(marks)
        return twin


def whole_box(box: Box, shape: Sequence[int]) -> Box:
    """A box with a start and a stop for every axis of the mask."""
    missing = (slice(None),) * (len(shape) - len(box))
    ends = [s.indices(n)[:2] for s, n in zip((*box, *missing), shape, strict=True)]
    return tuple(slice(start, max(start, stop)) for start, stop in ends)
