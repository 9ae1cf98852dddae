"""`Edit`: one step that changed a mask, kept voxel by voxel, so that its size goes with the change alone."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medattn.errors import InputError
from napari_medattn.store.atoms import merge_atoms

Box = tuple[slice, ...]
Labels = NDArray[np.integer]
Places = NDArray[np.integer]

_DENSE = 32  # a step that changed more than this part of the mask is dense
_PROBES = 1024  # voxels of a large step that are looked at to tell whether it stands


@dataclass(frozen=True, eq=False)
class Edit:
    """One step that changed the mask.

    Attributes:
        shape: The mask's shape.
        places: Flat indices of the changed voxels in the mask, ascending.
        before: Their labels before.
        after: Their labels after; each differs from the one before.
        tool: What changed them, e.g. ``"paint"`` or ``"segment"``.
        human: Whether a person vouches for the new labels.
        time: Seconds since the epoch.
    """

    shape: tuple[int, ...]
    places: Places
    before: Labels
    after: Labels
    tool: str
    human: bool = True
    time: float = field(default_factory=time.time)

    @classmethod
    def from_atoms(cls, atoms: Iterable[Any], shape: Sequence[int], *, tool: str, human: bool = True) -> Edit | None:
        """Merge the atoms of one editing step, see `atoms.merge_atoms`; None if nothing changed in the end."""
        merged = merge_atoms(atoms, tuple(shape))
        return None if merged is None else cls(tuple(shape), *merged, tool, human)

    @classmethod
    def between(cls, old: Labels, new: Labels, *, tool: str, human: bool = False) -> Edit | None:
        """What leads from one mask to another of its shape; None if they are the same."""
        places = as_places(np.flatnonzero(old != new), old.shape)
        if not places.size:
            return None
        return cls(old.shape, places, values_at(old, places), values_at(new, places), tool, human)

    @classmethod
    def inside(cls, box: Box, before: Labels, labels: Labels, *, tool: str) -> Edit | None:
        """What a person changed in a box of a mask since it held ``before``; None if nothing."""
        now = labels[box]
        changed = now != before
        if not changed.any():
            return None
        found = tuple(axis + side.start for axis, side in zip(np.nonzero(changed), box, strict=True))
        places = as_places(np.ravel_multi_index(found, labels.shape), labels.shape)
        return cls(labels.shape, places, before[changed], now[changed], tool)

    @property
    def count(self) -> int:
        """Number of changed voxels."""
        return len(self.places)

    @cached_property
    def box(self) -> Box:
        """Bounding box of the changed voxels."""
        if self.count * _DENSE > np.prod(self.shape, dtype=np.int64):
            return self._box_of_many()
        found = np.unravel_index(self.places, self.shape)
        return tuple(slice(int(axis.min()), int(axis.max()) + 1) for axis in found)

    def _box_of_many(self) -> Box:
        """The bounding box, quicker where a good part of the mask changed."""
        touched = np.zeros(self.shape, bool)
        touched.reshape(-1)[self.places] = True
        sides = []
        for axis in range(touched.ndim):
            used = np.flatnonzero(touched.any(axis=tuple(other for other in range(touched.ndim) if other != axis)))
            sides.append(slice(int(used[0]), int(used[-1]) + 1))
        return tuple(sides)

    @property
    def changed(self) -> NDArray[np.bool_]:
        """Which voxels of the box changed."""
        found = np.unravel_index(self.places, self.shape)
        changed = np.zeros([s.stop - s.start for s in self.box], bool)
        changed[tuple(axis - s.start for axis, s in zip(found, self.box, strict=True))] = True
        return changed

    def only(self, chosen: NDArray[np.bool_]) -> Edit | None:
        """The part of the step at the chosen ones of its places; None if there is none."""
        if not chosen.any():
            return None
        parts = self.places[chosen], self.before[chosen], self.after[chosen]
        return Edit(self.shape, *parts, self.tool, self.human, self.time)

    def do(self, labels: Labels) -> None:
        """Write the new labels into a mask."""
        put_values(labels, self.places, self.after)

    def undo(self, labels: Labels) -> None:
        """Write the old labels into a mask."""
        put_values(labels, self.places, self.before)

    def stands_in(self, labels: Labels) -> bool:
        """Whether its new labels are what the mask holds; of a large step only a part is looked at.

        Undoing a step changes all of its voxels, so a part tells.
        """
        return self._probe(labels, self.after)

    def is_undone_in(self, labels: Labels) -> bool:
        """Whether the labels from before it are what the mask holds."""
        return self._probe(labels, self.before) and np.array_equal(values_at(labels, self.places), self.before)

    def preceded(self, later: Edit) -> bool:
        """Whether ``later`` found this step's new labels in the mask where the two overlap."""
        if not overlap(self.box, later.box):
            return False
        mine, theirs = common_places(self.places, later.places)
        return bool(mine.size) and np.array_equal(self.after[mine], later.before[theirs])

    def _probe(self, labels: Labels, values: Labels) -> bool:
        if values_at(labels, self.places[:1]) != values[:1]:
            return False
        step = max(1, len(self.places) // _PROBES)
        return np.array_equal(values_at(labels, self.places[::step]), values[::step])


def fitted(values: Labels, dtype: np.dtype[Any]) -> Labels:
    """Labels in a mask's type.

    Raises:
        InputError: If the type cannot hold them.
    """
    limits = np.iinfo(dtype)
    if values.size and (values.min() < limits.min or values.max() > limits.max):
        raise InputError(
            f"The mask's type {dtype} cannot hold the labels {values.min()} to {values.max()}.",
            "Convert the mask to a larger integer type first.",
        )
    return values.astype(dtype, copy=False)


def as_places(flat: NDArray[np.integer], shape: Sequence[int]) -> Places:
    """Flat indices in the smallest type that holds those of a mask."""
    return flat.astype(np.int32 if np.prod(shape, dtype=np.int64) < 2**31 else np.int64, copy=False)


def values_at(labels: Labels, places: Places) -> Labels:
    """The labels at flat indices, without copying the mask however it lies in memory."""
    if labels.flags.c_contiguous:
        return labels.reshape(-1)[places]
    return labels[np.unravel_index(places, labels.shape)]


def put_values(labels: Labels, places: Places, values: Labels) -> None:
    """Write labels at flat indices."""
    if labels.flags.c_contiguous:
        labels.reshape(-1)[places] = values
    else:
        labels[np.unravel_index(places, labels.shape)] = values


def common_places(a: Places, b: Places) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Where ascending indices that both hold are found in the one and in the other."""
    if len(a) > len(b):
        theirs, mine = common_places(b, a)
        return mine, theirs
    if not len(b):
        return np.empty(0, np.intp), np.empty(0, np.intp)
    at = np.minimum(np.searchsorted(b, a), len(b) - 1)
    both = np.flatnonzero(b[at] == a)
    return both, at[both]


def overlap(a: Box, b: Box) -> bool:
    """Whether two boxes share a voxel."""
    return all(max(s.start, t.start) < min(s.stop, t.stop) for s, t in zip(a, b, strict=True))
