"""What an editor reports of one step, merged: which voxels changed, from what, to what.

napari reports a stroke as many atoms, one for each dab of the brush; where dabs overlap, the first of them knows
what was there before, and the last what is there now.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Bounds = tuple[tuple[int, ...], tuple[int, ...]]  # low, high


class _Part(Protocol):
    @property
    def bounds(self) -> Bounds: ...
    @property
    def old(self) -> Array: ...
    @property
    def new(self) -> Any: ...
    def write(self, array: Array, low: tuple[int, ...], values: Any) -> None: ...


class _Boxed(NamedTuple):
    """Voxels under a mask in a box; all of it if the mask is None."""

    bounds: Bounds
    mask: NDArray[np.bool_] | None
    old: Array
    new: Any

    def write(self, array: Array, low: tuple[int, ...], values: Any) -> None:
        start, stop = self.bounds
        view = array[tuple(slice(a - c, b - c) for a, b, c in zip(start, stop, low, strict=True))]
        if self.mask is None:
            view[...] = values
        else:
            view[self.mask] = values


class _Scattered(NamedTuple):
    """Voxels by their indices, one array per axis."""

    bounds: Bounds
    columns: list[NDArray[np.intp]]
    old: Array
    new: Any

    def write(self, array: Array, low: tuple[int, ...], values: Any) -> None:
        array[tuple(column - start for column, start in zip(self.columns, low, strict=True))] = values


def merge_atoms(atoms: Iterable[Any], shape: tuple[int, ...]) -> tuple[Array, Array, Array] | None:
    """One step out of its atoms; None if nothing changed in the end.

    Args:
        atoms: Either objects with ``slice_key`` (a box), ``mask`` (bool in the box, None for all of it),
            ``old_values`` (under the mask, or the box) and ``new_value``, or triples (indices, old values,
            new values) with one index array per axis.
        shape: The mask's shape.

    Returns:
        Flat indices of the changed voxels in the mask, ascending; their labels before; their labels after.
    """
    parts = [part for part in (_part(atom, shape) for atom in atoms) if part is not None]
    if not parts:
        return None
    if len(parts) == 1 and isinstance(parts[0], _Scattered):
        ordered = _ordered(parts[0], shape)
        if ordered is not None:
            return ordered if ordered[0].size else None
    low = tuple(min(part.bounds[0][axis] for part in parts) for axis in range(len(shape)))
    high = tuple(max(part.bounds[1][axis] for part in parts) for axis in range(len(shape)))
    size = [b - a for a, b in zip(low, high, strict=True)]
    before = np.zeros(size, parts[0].old.dtype)
    after, touched = np.zeros_like(before), np.zeros(size, bool)
    for part in reversed(parts):  # the first atom is written last, and wins
        part.write(before, low, part.old)
    for part in parts:
        part.write(after, low, part.new)
        part.write(touched, low, True)
    changed = np.nonzero(touched & (before != after))
    if not changed[0].size:
        return None
    places = np.ravel_multi_index(tuple(axis + a for axis, a in zip(changed, low, strict=True)), shape)
    return _narrow(places, shape), before[changed], after[changed]


def _ordered(part: _Scattered, shape: tuple[int, ...]) -> tuple[Array, Array, Array] | None:
    """Many voxels that come in ascending order, as those that a tool writes: no box around them is needed."""
    places = np.ravel_multi_index(tuple(part.columns), shape)
    if not (places[1:] > places[:-1]).all():
        return None
    new = np.broadcast_to(np.asarray(part.new).astype(part.old.dtype, copy=False).ravel(), part.old.shape)
    changed = part.old != new
    return _narrow(places[changed], shape), part.old[changed], new[changed]


def _narrow(places: NDArray[np.intp], shape: tuple[int, ...]) -> Array:
    return places.astype(np.int32) if np.prod(shape, dtype=np.int64) < 2**31 else places


def _part(atom: Any, shape: tuple[int, ...]) -> _Part | None:
    if hasattr(atom, "slice_key"):
        return _boxed(atom, shape)
    indices, old, new = atom
    return _scattered(indices, old, new, shape)


def _boxed(atom: Any, shape: tuple[int, ...]) -> _Boxed | None:
    ends = [key.indices(n) for key, n in zip(atom.slice_key, shape, strict=True)]
    low, high = tuple(end[0] for end in ends), tuple(end[1] for end in ends)
    size = tuple(b - a for a, b in zip(low, high, strict=True))
    if min(size) <= 0:
        return None
    mask = None if atom.mask is None else np.asarray(atom.mask, bool).reshape(size)
    old = np.asarray(atom.old_values)
    return _Boxed((low, high), mask, old.reshape(size) if mask is None else old.ravel(), atom.new_value)


def _scattered(indices: Any, old: Any, new: Any, shape: tuple[int, ...]) -> _Scattered | None:
    columns = [np.asarray(column).ravel() for column in indices]
    if not columns[0].size:
        return None
    low = [int(column.min()) for column in columns]
    for axis, size in enumerate(shape):
        if low[axis] < 0:  # counted from the end
            columns[axis] = np.where(columns[axis] < 0, columns[axis] + size, columns[axis])
            low[axis] = int(columns[axis].min())
    high = tuple(int(column.max()) + 1 for column in columns)
    new = np.asarray(new)
    return _Scattered((tuple(low), high), columns, np.asarray(old).ravel(), new.ravel() if new.ndim else new)
