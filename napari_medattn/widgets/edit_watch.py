"""Feeds an `EditLog` from a napari Labels layer: whatever changes the mask, by hand or by tool, is seen.

Two payloads of ``events.paint`` are understood (boxed atoms of the brush, the filler and the polygon; index
triples of ``data_setitem``). Undo and redo announce themselves only as ``set_data``; there the log is held
against the mask.

napari gathers what happens between two mouse buttons and reports it at the end, and reports single changes just
before it makes them. Whoever needs to know where things stand calls `EditWatch.flush` first.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medattn.layerdata import KEY
from napari_medattn.store.edit import Box, common_places, fitted, overlap, put_values
from napari_medattn.store.edits import Edit, EditLog, Labels
from napari_medattn.widgets.layer_history import LayerHistory

_LOG, _LOG_OF = "edits", "edits_of"
_HANDS = ("paint", "erase", "fill", "polygon")  # napari's tools that a person draws with
_REFUSED = 100  # as many steps as napari can redo
LARGE = 2**20  # voxels; of larger steps napari's history would keep 25 bytes a voxel, and take seconds over it


class EditWatch:
    """Watches one layer until it is stopped.

    Args:
        layer: A napari Labels layer over a NumPy array.
        on_change: Called after every change of the log.
        on_refused: Called with the number of voxels that a person painted over although their class is locked.

    Attributes:
        permits: Tells of what a person draws which of its places may change; all of them while it is None. The others
            are taken back as those of a locked class are, so that the step holds what stays of it alone.
    """

    def __init__(
        self, layer: Any, on_change: Callable[[], None], on_refused: Callable[[int], None] | None = None
    ) -> None:
        self.permits: Callable[[Edit], NDArray[np.bool_]] | None = None
        self.layer = layer
        self._data = layer.data
        self.log = self._find_log()
        self._on_change, self._on_refused = on_change, on_refused
        self._tool: str | None = None
        self._known: Edit | None = None  # the step that is being written, if it is known as a whole
        self._moving = False
        self._history = LayerHistory()
        self._pending: list[Edit] = []  # refused, but not yet in the mask
        self._refused: list[tuple[Edit, Edit | None]] = []  # and what was allowed of a stroke that left its range
        self._stroke: tuple[Box, Labels] | None = None  # where the mouse draws, and what was there before
        layer.events.paint.connect(self._painted)
        layer.events.labels_update.connect(self._drawn, position="last")  # after it is on the screen
        layer.events.set_data.connect(self._redrawn)
        layer.events.data.connect(self._assigned)

    def stop(self) -> None:
        """Stop watching; a stroke that is under way counts as far as it has come."""
        self.flush()
        self.layer.events.paint.disconnect(self._painted)
        self.layer.events.labels_update.disconnect(self._drawn)
        self.layer.events.set_data.disconnect(self._redrawn)
        self.layer.events.data.disconnect(self._assigned)

    @property
    def labels(self) -> Labels:
        """The mask."""
        return np.asarray(self._data)

    def flush(self) -> None:
        """Let napari report what has been painted of a stroke so far, as a step of its own."""
        with self.layer.block_history():
            pass

    def follow_stroke(self, box: Box) -> None:
        """The mouse begins to draw in a box: what may not change is taken back while it draws, not only at the end."""
        self._stroke = (box, self.labels[box].copy())

    def end_stroke(self) -> None:
        """The mouse has drawn, and napari has reported it."""
        self._stroke = None

    @contextmanager
    def machine(self, tool: str) -> Iterator[None]:
        """Changes inside this block are a tool's, as one step; no person vouches for them."""
        self.flush()
        self._tool, self._stroke = tool, None
        try:
            with self.layer.block_history():
                yield
        finally:
            self.flush()  # after an error, what was written until then
            self._tool, self._known = None, None

    def write(self, edit: Edit) -> None:
        """Make a tool's step in the layer; a large one is kept by the log alone, and napari's history starts anew.

        Raises:
            InputError: If the mask cannot hold its labels.
        """
        if edit.count > LARGE:
            self.flush()
            self._move(edit, edit.after)
            self.log.append(edit)
            self._on_change()
            return
        with self.machine(edit.tool):
            self._known = edit
            self._put(edit, edit.after)

    def undo(self) -> Edit | None:
        """Take the newest step back, whichever slice or axes are in view; None if there is none.

        napari's own history takes this as one more change of the mask, so its undo goes on working too.

        Raises:
            InputError: If the mask cannot hold the labels from before.
        """
        self._catch_up()
        edit = self.log.next_undo
        if edit is not None:
            self._move(edit, edit.before)
            self.log.mark_undone()
            self._on_change()
        return edit

    def redo(self) -> Edit | None:
        """Bring the step undone last again; None if there is none.

        Raises:
            InputError: If the mask cannot hold its labels.
        """
        self._catch_up()
        edit = self.log.next_redo
        if edit is not None:
            self._move(edit, edit.after)
            self.log.mark_redone()
            self._on_change()
        return edit

    def _catch_up(self) -> None:
        self.flush()
        self._redrawn()

    def _move(self, edit: Edit, values: Labels) -> None:
        self._moving, self._stroke = True, None
        try:
            if edit.count > LARGE:
                self._overwrite(edit, values)
            else:
                with self.layer.block_history():
                    self._put(edit, values)
        finally:
            self._moving = False

    def _put(self, edit: Edit, values: Labels) -> None:
        self.layer.data_setitem(np.unravel_index(edit.places, edit.shape), fitted(values, self.labels.dtype))

    def _overwrite(self, edit: Edit, values: Labels) -> None:
        """Write into the array itself; what napari remembers of steps before would be wrong now, and is forgotten."""
        put_values(self.labels, edit.places, fitted(values, self.labels.dtype))
        self._pending, self._refused = [], []
        self._history.forget()
        editable, mode = self.layer.editable, self.layer.mode
        self.layer.editable = True
        self.layer.editable = False  # this is how napari forgets
        self.layer.editable = editable
        self.layer.mode = mode
        self.layer.refresh()

    def _painted(self, event: Any) -> None:
        edit = self._heard(event.value)
        self._drawn()
        self._pending = []  # what napari reported before is written by now
        if edit is None:
            return
        if self._moving:
            self._history.note(edit)
            return
        self._refused = [refused for refused in self._refused if not overlap(refused[0].box, edit.box)]
        allowed = self._allowed(edit) if edit.human else edit
        if allowed is not None:
            self._history.note(allowed)
            self.log.append(allowed)
            self._on_change()

    def _heard(self, atoms: list[Any]) -> Edit | None:
        """What napari reports, as a step."""
        known = self._known
        if known is not None and len(atoms) == 1 and len(atoms[0][0][0]) == known.count:
            return known
        mode = str(self.layer.mode)
        tool = self._tool or (mode if mode in _HANDS else "other tool")
        return Edit.from_atoms(atoms, self.log.shape, tool=tool, human=self._tool is None)

    def _allowed(self, edit: Edit) -> Edit | None:
        """The part of a person's step that leaves locked classes alone and is permitted; the rest is taken back."""
        locked, outside = self._barred(edit)
        allowed = edit.only(~locked & ~outside)
        parts = (edit.only(locked), None), (edit.only(outside), allowed)
        refused = [(part, rest) for part, rest in parts if part is not None]
        if not refused:
            return edit
        self._refused = [*self._refused[-_REFUSED:], *refused]
        if self._stroke is None:
            self._pending += [part for part, _ in refused]
            self._drawn()
        else:  # all of it is written, and most of it taken back
            self._take_back([part for part, _ in refused])
        if locked.any() and self._on_refused is not None:
            self._on_refused(int(np.count_nonzero(locked)))
        return allowed

    def _barred(self, edit: Edit) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Which places of a person's step hold a locked class, and which of the others are not permitted."""
        locked = self.log.is_locked(edit.before)
        if self.permits is None or edit.tool not in _HANDS:
            return locked, np.zeros_like(locked)
        return locked, ~locked & ~self.permits(edit)

    def _drawn(self, event: Any = None) -> None:
        """Take back what was refused, as soon as the mask shows it."""
        if self._stroke is not None and event is not None:
            box, before = self._stroke
            drawn = Edit.inside(box, before, self.labels, tool=str(self.layer.mode))
            barred = None if drawn is None else drawn.only(np.logical_or(*self._barred(drawn)))
            if barred is not None:
                self._take_back([barred])
        shown = [edit for edit in self._pending if edit.stands_in(self.labels)]
        if not shown:
            return
        self._pending = [edit for edit in self._pending if edit not in shown]
        self._take_back(shown)

    def _take_back(self, edits: list[Edit]) -> None:
        for edit in edits:
            edit.undo(self.labels)
        self.layer.refresh(thumbnail=False, extent=False)

    def _redrawn(self, event: Any = None) -> None:
        # A new array is announced here before it is announced as new data.
        if self.layer.data is not self._data:
            self._replaced()
            return
        # napari's redo brings a whole stroke again, with what was refused of it.
        again = [one for one in self._refused if one[0] not in self._pending and one[0].stands_in(self.labels)]
        for edit, rest in again:
            if self.log.is_locked(edit.before).all() if rest is None else self._history.can_bring(rest):
                self._pending.append(edit)
        self._drawn()
        if self._moving or self._tool is not None:
            return  # what is being written is reported when all of it is there
        if self._follow():
            self._on_change()

    def _follow(self) -> bool:
        """Notice what was undone or redone by somebody else; tells whether anything was."""
        count = len(self.log)
        followed = self.log.follow(self.labels)
        back = self.log.redoable[: max(0, count - len(self.log))]
        noticed = [(step.places, step.before) for step in reversed(back)]
        noticed += [(step.places, step.after) for step in self.log.edits[count:]]
        for move in self._history.moves(self.labels):
            # napari may undo what the log has forgotten, because it could not be redone any more.
            said = move.before.copy()
            for places, values in noticed:
                mine, theirs = common_places(places, move.places)
                said[theirs] = values[mine]
            whole = Edit(self.log.shape, move.places, said, move.after, "undone elsewhere", human=False)
            unnoticed = whole.only(said != move.after)
            if unnoticed is not None:
                self.log.append(unnoticed)
                followed = True
        return followed

    def _assigned(self, event: Any = None) -> None:
        """An array was assigned: a new one, or the old one because somebody had written into it."""
        self._redrawn()
        self.flush()
        self.log.reconcile(self.labels)
        self._on_change()

    def _replaced(self) -> None:
        """Somebody assigned a new array: a step of its own, or the end of this log if it has another shape."""
        self.flush()  # what was painted of a stroke lies in the old array
        old, self._data = self.labels, self.layer.data
        self._pending, self._refused, self._stroke = [], [], None
        self._history.forget()
        if self.labels.shape == self.log.shape:
            self.log.replace(old, self.labels)
        else:
            self.log = EditLog(self.labels.shape)
        self._remember(self.log)
        self._on_change()

    def _find_log(self) -> EditLog:
        """The log that lives with the layer, so that closing the dock forgets nothing.

        A duplicated layer carries the log of its original, of which it gets a copy.
        """
        meta = self.layer.metadata.get(KEY, {})
        log, owner = meta.get(_LOG), meta.get(_LOG_OF, lambda: None)()
        if log is None or log.shape != self._data.shape:
            log = EditLog(self._data.shape)
        elif owner is not None and owner is not self._data:
            log = log.copy()
        self._remember(log)
        log.reconcile(self.labels)
        return log

    def _remember(self, log: EditLog) -> None:
        # A new dictionary, because duplicated layers share the old one.
        owner = weakref.ref(self._data) if isinstance(self._data, np.ndarray) else (lambda: None)
        self.layer.metadata[KEY] = {**self.layer.metadata.get(KEY, {}), _LOG: log, _LOG_OF: owner}
