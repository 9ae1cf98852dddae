"""What a person did to a mask: steps that can be undone, from which the edited voxels follow.

The log is fed with what an editor reports (`Edit.from_atoms`) and held against the mask itself
(`EditLog.follow`, `EditLog.reconcile`), because editors undo and redo without reporting it. Whatever it hears, it
tells its recorder, which keeps it on disk (see `store.journal`). A step costs as much as it changes, never as much
as the mask.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from napari_medattn.errors import GeometryError
from napari_medattn.store.confirmed import Confirmed, whole_box
from napari_medattn.store.edit import Box, Edit, Labels, as_places, common_places, overlap, values_at

__all__ = ["Box", "Edit", "EditLog", "Labels", "Recorder"]

_UNDONE_AT_ONCE = 100  # as many steps as napari can undo


class Recorder(Protocol):
    """Hears of every change of a log, in order."""

    def step(self, edit: Edit) -> None:
        """A step was added; what was undone before cannot be redone any more."""

    def undone(self) -> None:
        """The newest step was undone."""

    def redone(self) -> None:
        """The step undone last was redone."""

    def confirmed(self, labels: Labels, box: Box, right: bool) -> None:
        """The labels in a box were confirmed, or that was taken back."""

    def locked(self, classes: frozenset[int]) -> None:
        """These classes are locked from now on, and no others."""

    def retyped(self, dtype: np.dtype[np.integer]) -> None:
        """The mask holds labels of another type from now on."""


class EditLog:
    """The edits of one mask in order, and the voxels that a person vouches for.

    Args:
        shape: The mask's shape.

    Attributes:
        recorder: Who keeps the log, if anybody does.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        self.shape = tuple(shape)
        self.recorder: Recorder | None = None
        self._edits: list[Edit] = []
        self._undone: list[Edit] = []
        self._edited: NDArray[np.bool_] | None = None
        self._edited_count = 0
        self._confirmed = Confirmed(self.shape)
        self._locked: frozenset[int] = frozenset()

    def __len__(self) -> int:
        return len(self._edits)

    def __deepcopy__(self, memo: dict[int, Any]) -> EditLog:
        return self.copy()

    def copy(self) -> EditLog:
        """An equal log of another mask, which nobody records."""
        twin = EditLog(self.shape)
        twin._edits, twin._undone = list(self._edits), list(self._undone)
        twin._edited = None if self._edited is None else self._edited.copy()
        twin._edited_count, twin._locked = self._edited_count, self._locked
        twin._confirmed = self._confirmed.copy()
        return twin

    @property
    def edits(self) -> tuple[Edit, ...]:
        """The edits that hold, oldest first."""
        return tuple(self._edits)

    @property
    def redoable(self) -> tuple[Edit, ...]:
        """The edits that were undone, in the order in which they can be redone."""
        return tuple(reversed(self._undone))

    @property
    def next_undo(self) -> Edit | None:
        """The step that undoing would take back."""
        return self._edits[-1] if self._edits else None

    @property
    def next_redo(self) -> Edit | None:
        """The step that redoing would bring again."""
        return self._undone[-1] if self._undone else None

    @property
    def edited(self) -> NDArray[np.bool_]:
        """Voxels whose label a person set; do not write into it."""
        if self._edited is None:
            self._edited = np.zeros(self.shape, bool)
        return self._edited

    @property
    def edited_count(self) -> int:
        """Number of edited voxels."""
        return self._edited_count

    @property
    def confirmations(self) -> Confirmed:
        """What was confirmed; it is changed by `confirm` only."""
        return self._confirmed

    def confirmed(self, labels: Labels, box: Box = ()) -> NDArray[np.bool_]:
        """Voxels of a box whose label a person confirmed, as far as the mask still shows that label."""
        return self._confirmed.stands(labels, box)

    def trusted(self, labels: Labels, box: Box = ()) -> NDArray[np.bool_]:
        """Voxels of a box that a person edited or confirmed."""
        return self.edited[box] | self.confirmed(labels, box)

    @property
    def locked_classes(self) -> frozenset[int]:
        """Classes whose voxels are to stay what they are."""
        return self._locked

    def lock(self, classes: Iterable[int]) -> None:
        """Lock these classes and no others."""
        self._locked = frozenset(int(one) for one in classes)
        if self.recorder is not None:
            self.recorder.locked(self._locked)

    def is_locked(self, values: Labels) -> NDArray[np.bool_]:
        """Which of some labels are of a locked class."""
        if not self._locked:
            return np.zeros(values.shape, bool)
        return np.isin(values, np.array(sorted(self._locked), np.int64))

    def replace(self, old: Labels, new: Labels) -> None:
        """Note that somebody put another mask of the same shape in the place of the old one, as one step."""
        if old.dtype != new.dtype and self.recorder is not None:
            self.recorder.retyped(new.dtype)
        edit = Edit.between(old, new, tool="replaced")
        if edit is not None:
            self.append(edit)
        self.reconcile(new)

    def append(self, edit: Edit) -> None:
        """Add a step; what was undone before can then no longer be redone.

        Raises:
            GeometryError: If it is a step of a mask of another shape.
        """
        if edit.shape != self.shape:
            raise GeometryError(
                f"The step changed a mask of shape {edit.shape}, this one has {self.shape}.",
                "Keep the mask of this image, or start a new one.",
            )
        # A step that the mask showed just before this one was never undone: it was only being painted over.
        while self._undone and self._undone[-1].preceded(edit):
            self.mark_redone()
        self._edits.append(edit)
        self._undone.clear()
        self._mark(edit)
        if self.recorder is not None:
            self.recorder.step(edit)

    def mark_undone(self) -> Edit:
        """Note that the mask no longer shows the newest step."""
        edit = self._edits.pop()
        self._undone.append(edit)
        self._unmark(edit)
        if self.recorder is not None:
            self.recorder.undone()
        return edit

    def mark_redone(self) -> Edit:
        """Note that the mask shows the step undone last again."""
        edit = self._undone.pop()
        self._edits.append(edit)
        self._mark(edit)
        if self.recorder is not None:
            self.recorder.redone()
        return edit

    def confirm(self, labels: Labels, box: Box, right: bool = True) -> None:
        """Mark the labels in a box as right as they are, or take that back."""
        box = whole_box(box, self.shape)
        self._confirmed.set(labels, box, right)
        if self.recorder is not None:
            self.recorder.confirmed(labels, box, right)

    def confirmed_slices(self, labels: Labels, axis: int = 0) -> list[int]:
        """Indices along ``axis`` at which the whole slice is confirmed."""
        return self._confirmed.slices(labels, axis)

    def follow(self, labels: Labels) -> bool:
        """Notice steps that were undone or redone in the mask since the last call.

        Cheap while nothing was: only the newest steps are looked at, and beyond their first voxel only if that tells.

        Returns:
            Whether anything changed in the log.
        """
        count = len(self._edits)
        while undone := self._undone_since(labels):
            for _ in range(undone):
                self.mark_undone()
        if len(self._edits) == count:
            while self._undone and self._undone[-1].stands_in(labels):
                self.mark_redone()
        return len(self._edits) != count

    def _undone_since(self, labels: Labels) -> int:
        """The smallest number of newest steps that, taken back, lead to what the mask shows; 0 if none was."""
        if not self._edits or self._edits[-1].stands_in(labels):
            return 0
        if self._edits[-1].is_undone_in(labels):
            return 1
        places, values = np.empty(0, np.int64), np.empty(0, labels.dtype)
        for depth, edit in enumerate(reversed(self._edits[-_UNDONE_AT_ONCE:]), start=1):
            # Where steps overlap, the oldest of them knows what was there before: it is put last, and wins.
            places = np.concatenate([places, edit.places])
            values = np.concatenate([values, edit.before])
            if edit.is_undone_in(labels):
                place, newest_first = np.unique(places[::-1], return_index=True)
                if np.array_equal(values_at(labels, place), values[::-1][newest_first]):
                    return depth
        return 0

    def reconcile(self, labels: Labels) -> int:
        """Hold the log against the mask; what the mask no longer shows becomes a step of nobody's.

        Whoever replaced labels behind the log's back has taken the person's word off them.

        Returns:
            Number of voxels that lost their standing.

        Raises:
            GeometryError: If the mask has another shape.
        """
        if labels.shape != self.shape:
            raise GeometryError(
                f"The mask now has shape {labels.shape}, its edits {self.shape}.",
                "Keep the mask of this image, or start a new one.",
            )
        self.follow(labels)
        self._confirmed.forget_looks()
        before = self._edited_count
        drift = self._drift(labels)
        if drift is not None:
            self.append(drift)
        return before - self._edited_count

    def _drift(self, labels: Labels) -> Edit | None:
        """The step from what the log says the mask shows, where it says anything, to what the mask shows."""
        settled: NDArray[np.bool_] | None = None
        found = []
        for edit in reversed(self._edits):
            if settled is None:
                settled = np.zeros(int(np.prod(self.shape)), bool)
            shown = values_at(labels, edit.places)
            wrong = ~settled[edit.places] & (shown != edit.after)
            settled[edit.places] = True
            if wrong.any():
                found.append((edit.places[wrong], edit.after[wrong], shown[wrong]))
        if not found:
            return None
        places, before, after = (np.concatenate(parts) for parts in zip(*found, strict=True))
        order = np.argsort(places)
        parts = as_places(places[order], self.shape), before[order], after[order]
        return Edit(self.shape, *parts, tool="written elsewhere", human=False)

    def _mark(self, edit: Edit) -> None:
        edited = self.edited.reshape(-1)
        self._edited_count -= int(np.count_nonzero(edited[edit.places]))
        edited[edit.places] = edit.human
        self._edited_count += edit.count if edit.human else 0
        self._confirmed.touch(edit.box)

    def _unmark(self, undone: Edit) -> None:
        """After a step is gone, its voxels have the standing that earlier steps gave them."""
        standing = np.zeros(undone.count, bool)
        for edit in self._edits:
            if overlap(edit.box, undone.box):
                theirs = common_places(edit.places, undone.places)[1]
                standing[theirs] = edit.human
        edited = self.edited.reshape(-1)
        self._edited_count -= int(np.count_nonzero(edited[undone.places]))
        edited[undone.places] = standing
        self._edited_count += int(np.count_nonzero(standing))
        self._confirmed.touch(undone.box)
