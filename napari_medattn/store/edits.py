"""What a person did to a mask: small boxed changes, undoable, from which the edited voxels follow.

The log is fed with what an editor reports (`Edit.from_atoms`) and held against the mask itself
(`EditLog.reconcile`), because editors undo and redo without reporting it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medattn.errors import GeometryError

Box = tuple[slice, ...]
Labels = NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class Edit:
    """One step that changed the mask.

    Attributes:
        box: Bounding box of the changed voxels.
        changed: Which voxels of the box changed.
        before: Their labels before, in the order of ``changed``.
        after: Their labels after.
        tool: What changed them, e.g. ``"paint"`` or ``"segment"``.
        human: Whether a person vouches for the new labels.
        time: Seconds since the epoch.
    """

    box: Box
    changed: NDArray[np.bool_]
    before: Labels
    after: Labels
    tool: str
    human: bool = True
    time: float = field(default_factory=time.time)

    @property
    def count(self) -> int:
        """Number of changed voxels."""
        return len(self.after)

    @classmethod
    def from_atoms(cls, atoms: Iterable[Any], shape: Sequence[int], *, tool: str, human: bool = True) -> Edit | None:
        """Merge the atoms of one editing step; None if nothing changed in the end.

        Args:
            atoms: Either objects with ``slice_key`` (a box), ``mask`` (bool in the box, None for all of it),
                ``old_values`` (under the mask, or the box) and ``new_value``, or triples (indices, old values,
                new values) with one index array per axis.
            shape: The mask's shape.
            tool: See `Edit`.
            human: See `Edit`.
        """
        parts = [part for part in (_boxed(atom, shape) for atom in atoms) if part is not None]
        if not parts:
            return None
        low = [min(box[axis].start for box, *_ in parts) for axis in range(len(shape))]
        high = [max(box[axis].stop for box, *_ in parts) for axis in range(len(shape))]
        size = [b - a for a, b in zip(low, high, strict=True)]
        changed = np.zeros(size, bool)
        before, after = (np.zeros(size, parts[0][2].dtype) for _ in range(2))
        for box, mask, old, new in parts:
            view = tuple(slice(s.start - a, s.stop - a) for s, a in zip(box, low, strict=True))
            first = mask & ~changed[view]
            before[view][first] = old[first]
            after[view][mask] = new[mask]
            changed[view] |= mask
        changed &= before != after
        if not changed.any():
            return None
        whole = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
        return cls(whole, changed, before[changed], after[changed], tool, human)

    def places(self, shape: Sequence[int]) -> NDArray[np.intp]:
        """Flat indices of the changed voxels in a mask of that shape."""
        inside = np.nonzero(self.changed)
        whole = tuple(axis + s.start for axis, s in zip(inside, self.box, strict=True))
        return np.ravel_multi_index(whole, tuple(shape))  # type: ignore[no-any-return]

    def stands_in(self, labels: Labels) -> bool:
        """Whether its new labels are what the mask holds."""
        return self._shows(labels, self.after)

    def is_undone_in(self, labels: Labels) -> bool:
        """Whether the labels from before it are what the mask holds."""
        return self._shows(labels, self.before)

    def preceded(self, later: Edit) -> bool:
        """Whether ``later`` found this step's new labels in the mask where the two overlap."""
        common = _overlap(self.box, later.box)
        if common is None:
            return False
        mine, theirs = _relative(common, self.box), _relative(common, later.box)
        both = self.changed[mine] & later.changed[theirs]
        if not both.any():
            return False
        after, before = (
            np.zeros(self.changed.shape, self.after.dtype),
            np.zeros(later.changed.shape, later.before.dtype),
        )
        after[self.changed], before[later.changed] = self.after, later.before
        return np.array_equal(after[mine][both], before[theirs][both])

    def _shows(self, labels: Labels, values: Labels) -> bool:
        inside = labels[self.box]
        first = np.unravel_index(int(np.argmax(self.changed)), self.changed.shape)
        return bool(inside[first] == values[0]) and np.array_equal(inside[self.changed], values)


class EditLog:
    """The edits of one mask in order, and the voxels that a person vouches for.

    Args:
        shape: The mask's shape.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        self.shape = tuple(shape)
        self._edits: list[Edit] = []
        self._undone: list[Edit] = []
        self._edited: NDArray[np.bool_] | None = None
        self._confirmed: NDArray[np.bool_] | None = None
        self._confirmed_as: Labels | None = None

    def __len__(self) -> int:
        return len(self._edits)

    @property
    def edits(self) -> tuple[Edit, ...]:
        """The edits that hold, oldest first."""
        return tuple(self._edits)

    @property
    def edited(self) -> NDArray[np.bool_]:
        """Voxels whose label a person set; do not write into it."""
        if self._edited is None:
            self._edited = np.zeros(self.shape, bool)
        return self._edited

    @property
    def edited_count(self) -> int:
        """Number of edited voxels."""
        return 0 if self._edited is None else int(np.count_nonzero(self._edited))

    def confirmed(self, labels: Labels, box: Box = ()) -> NDArray[np.bool_]:
        """Voxels of a box whose label a person confirmed, as far as the mask still shows that label."""
        if self._confirmed is None or self._confirmed_as is None:
            return np.zeros(labels[box].shape, bool)
        stands: NDArray[np.bool_] = labels[box] == self._confirmed_as[box]
        return stands & self._confirmed[box]

    def trusted(self, labels: Labels) -> NDArray[np.bool_]:
        """Voxels that a person edited or confirmed."""
        return self.edited | self.confirmed(labels)

    def append(self, edit: Edit) -> None:
        """Add a step; what was undone before can then no longer be redone."""
        # A step that the mask showed just before this one was never undone: it was only being painted over.
        while self._undone and self._undone[-1].preceded(edit):
            self._redo()
        self._edits.append(edit)
        self._undone.clear()
        self._mark(edit)

    def confirm(self, labels: Labels, box: Box, right: bool = True) -> None:
        """Mark the labels in a box as right as they are, or take that back."""
        if self._confirmed is None or self._confirmed_as is None:
            self._confirmed, self._confirmed_as = np.zeros(self.shape, bool), np.zeros(self.shape, labels.dtype)
        self._confirmed[box] = right
        self._confirmed_as[box] = labels[box]

    def confirmed_slices(self, labels: Labels, axis: int = 0) -> list[int]:
        """Indices along ``axis`` at which the whole slice is confirmed."""
        if self._confirmed is None:
            return []
        others = tuple(a for a in range(len(self.shape)) if a != axis)
        candidates = np.flatnonzero(self._confirmed.all(axis=others))
        before = (slice(None),) * axis
        return [int(n) for n in candidates if self.confirmed(labels, (*before, slice(n, n + 1))).all()]

    def follow(self, labels: Labels) -> bool:
        """Notice steps that were undone or redone in the mask since the last call.

        Cheap while nothing was: only the newest steps are looked at, and beyond their first voxel only if that tells.

        Returns:
            Whether anything changed in the log.
        """
        count = len(self._edits)
        while undone := self._undone_since(labels):
            for _ in range(undone):
                edit = self._edits.pop()
                self._undone.append(edit)
                self._unmark(edit)
        if len(self._edits) == count:
            while self._undone and self._undone[-1].stands_in(labels):
                self._redo()
        return len(self._edits) != count

    def _undone_since(self, labels: Labels) -> int:
        """The smallest number of newest steps that, taken back, lead to what the mask shows; 0 if none was."""
        if not self._edits or self._edits[-1].stands_in(labels):
            return 0
        places, values = np.empty(0, np.intp), np.empty(0, labels.dtype)
        for depth, edit in enumerate(reversed(self._edits), start=1):
            # Where steps overlap, the oldest of them knows what was there before: it is put last, and wins.
            places = np.concatenate([places, edit.places(self.shape)])
            values = np.concatenate([values, edit.before])
            if edit.is_undone_in(labels):
                place, newest_first = np.unique(places[::-1], return_index=True)
                if np.array_equal(labels.reshape(-1)[place], values[::-1][newest_first]):
                    return depth
        return 0

    def reconcile(self, labels: Labels) -> int:
        """Hold the log against the mask and forget what the mask no longer shows.

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
        if self._edited is None:
            return 0
        expected = np.zeros(self.shape, bool)
        settled = np.zeros(self.shape, bool)
        for edit in reversed(self._edits):
            newest = edit.changed & ~settled[edit.box]
            holds = np.zeros_like(newest)
            holds[edit.changed] = labels[edit.box][edit.changed] == edit.after
            if edit.human:
                expected[edit.box] |= newest & holds
            settled[edit.box] |= newest
        lost = int(np.count_nonzero(self._edited & ~expected))
        self._edited = expected
        return lost

    def _redo(self) -> None:
        edit = self._undone.pop()
        self._edits.append(edit)
        self._mark(edit)

    def _mark(self, edit: Edit) -> None:
        self.edited[edit.box][edit.changed] = edit.human

    def _unmark(self, undone: Edit) -> None:
        """After a step is gone, its voxels have the standing that earlier steps gave them."""
        inside = self.edited[undone.box]
        inside[undone.changed] = False
        for edit in self._edits:
            common = _overlap(edit.box, undone.box)
            if common is None:
                continue
            theirs = edit.changed[_relative(common, edit.box)]
            where = _relative(common, undone.box)
            touched = theirs & undone.changed[where]
            inside[where][touched] = edit.human


def _boxed(atom: Any, shape: Sequence[int]) -> tuple[Box, NDArray[np.bool_], NDArray[Any], NDArray[Any]] | None:
    """An atom as (box, changed, old in the box, new in the box)."""
    if hasattr(atom, "slice_key"):
        return _from_masked(atom, shape)
    indices, old, new = atom
    columns = [np.asarray(column).ravel() for column in indices]
    if not columns[0].size:
        return None
    low = [int(column.min()) for column in columns]
    box = tuple(slice(a, int(column.max()) + 1) for a, column in zip(low, columns, strict=True))
    size = tuple(s.stop - s.start for s in box)
    where = tuple(column - a for a, column in zip(low, columns, strict=True))
    old = np.asarray(old)
    mask, before, after = np.zeros(size, bool), np.zeros(size, old.dtype), np.zeros(size, old.dtype)
    mask[where], before[where], after[where] = True, old.ravel(), np.asarray(new).ravel()
    return box, mask, before, after


def _from_masked(atom: Any, shape: Sequence[int]) -> tuple[Box, NDArray[np.bool_], NDArray[Any], NDArray[Any]] | None:
    box = tuple(slice(*key.indices(n)[:2]) for key, n in zip(atom.slice_key, shape, strict=True))
    size = tuple(s.stop - s.start for s in box)
    if 0 in size:
        return None
    old = np.asarray(atom.old_values)
    mask = np.ones(size, bool) if atom.mask is None else np.asarray(atom.mask, bool).reshape(size)
    before = np.zeros(size, old.dtype)
    before[mask] = old.ravel()
    after = np.zeros(size, old.dtype)
    after[mask] = atom.new_value
    return box, mask, before, after


def _overlap(a: Box, b: Box) -> Box | None:
    common = tuple(slice(max(s.start, t.start), min(s.stop, t.stop)) for s, t in zip(a, b, strict=True))
    return common if all(s.start < s.stop for s in common) else None


def _relative(box: Box, to: Box) -> Box:
    return tuple(slice(s.start - t.start, s.stop - t.start) for s, t in zip(box, to, strict=True))
