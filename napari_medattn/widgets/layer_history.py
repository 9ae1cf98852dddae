"""`LayerHistory`: what napari's own undo and redo would do next to a Labels layer, known without asking it.

napari reports every change that it takes into its history, but not when somebody undoes or redoes one. As undoing
changes all voxels of a change, it shows in the mask.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from napari_medattn.store.edit import Edit, Labels, Places

_LIMIT = 100  # changes that napari remembers


class Moved(NamedTuple):
    """A change that was undone or redone: the labels before and after that at ``places``."""

    places: Places
    before: Labels
    after: Labels


class LayerHistory:
    """The changes of one layer in both of napari's stacks."""

    def __init__(self) -> None:
        self._done: deque[Edit] = deque(maxlen=_LIMIT)
        self._undone: deque[Edit] = deque(maxlen=_LIMIT)

    def note(self, change: Edit) -> None:
        """A change was made."""
        # What the mask showed just before was never undone: it was only being painted over.
        while self._undone and self._undone[-1].preceded(change):
            self._done.append(self._undone.pop())
        self._done.append(change)
        self._undone.clear()

    def forget(self) -> None:
        """The layer shows another array."""
        self._done.clear()
        self._undone.clear()

    def can_bring(self, change: Edit) -> bool:
        """Whether napari's redo would bring a change again."""
        return any(change is one for one in self._undone)

    def moves(self, labels: Labels) -> Iterator[Moved]:
        """Changes that were undone or redone since the last call, as the mask shows."""
        moved = False
        while self._done and self._done[-1].is_undone_in(labels):
            change = self._done.pop()
            self._undone.append(change)
            moved = True
            yield Moved(change.places, change.after, change.before)
        while not moved and self._undone and self._undone[-1].stands_in(labels):
            change = self._undone.pop()
            self._done.append(change)
            yield Moved(change.places, change.before, change.after)
