"""`Journal`: the append-only file under an `EditLog`.

One record is one `os.write`, so a process that is killed loses at most the record at hand. The mask that the records
start from lies beside the journal, compressed, in a file named by its hash. Both are written by `begin`'s work, which
may run on another thread: what happens meanwhile is queued, and follows when `settle` is called. Painting over a mask
while it is being read does no harm, as the queued steps tell every voxel that changed.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from napari_medattn.errors import JournalError, MedAttnError, SaveError
from napari_medattn.files import atomic_write, make_folder, trouble
from napari_medattn.store.confirmed import Box, Marks
from napari_medattn.store.edit import Edit, Labels
from napari_medattn.store.edits import EditLog
from napari_medattn.store.journal_base import drop_bases, write_base
from napari_medattn.store.journal_header import Header
from napari_medattn.store.records import MAGIC, confirm_frame, marks_frame, step_frame, to_frame


class State(Enum):
    """What a journal is doing."""

    CLOSED = "closed"
    STARTING = "starting"
    OPEN = "open"
    BROKEN = "broken"  # something could not be written; `begin` makes it whole again


@dataclass(frozen=True)
class _Saved:
    """What was saved: the steps, how many confirmations had been heard, and when."""

    steps: tuple[Edit, ...] = ()
    marks: int = 0
    at: float = 0.0


class Journal:
    """Keeps one log on disk, beginning with `begin`, or going on where `resume` finds it.

    Args:
        path: The file.
        header: What it is about.
        on_trouble: Called once when something cannot be written, and not again before writing worked again.

    Attributes:
        state: What it is doing.
        written: When the last record was written, in seconds since the epoch; None before.
        synced: Whether all of it has reached the disk itself, beyond the system's cache.
    """

    def __init__(self, path: Path, header: Header, on_trouble: Callable[[MedAttnError], None] | None = None) -> None:
        self.path, self.header, self.on_trouble = path, header, on_trouble
        self.state = State.CLOSED
        self.written: float | None = None
        self.synced = True
        self._log: EditLog | None = None
        self._file: int | None = None
        self._size = 0
        self._queue: list[bytes] = []
        self._work: Callable[[], None] = _nothing
        # A lock that is taken on one thread is given back on another.
        self._lock = FileLock(path.with_suffix(".lock"), thread_local=False)
        self._told = False
        self._turn, self._busy = 0, threading.Lock()
        self._marks = 0  # confirmations heard
        self._classes: Mapping[str, Any] = {}
        self._saving = self._saved = _Saved()

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self._size

    # -- beginning and ending

    def begin(self, log: EditLog, labels: Labels) -> Callable[[], None]:
        """Keep a log from now on, all that it holds included; also makes a broken journal whole.

        Args:
            log: The log.
            labels: Its mask as it is now; read by the work, and not copied.

        Returns:
            The slow part, to be called once on any thread. It raises `SaveError` if the folder cannot be written and
            `JournalError` if the journal is open elsewhere. Then comes `settle`, or `fail`, where the log is used.
        """
        if os.name == "nt":
            self._close_file()  # an open file cannot be replaced there
        self._log, log.recorder = log, self
        self.state, self._queue = State.STARTING, []
        self._turn += 1
        turn = self._turn
        steps, undone, marks, locked = log.edits, log.redoable, log.confirmations.marks(), log.locked_classes
        saved, marks_saved = self._saved, self._saved.marks == self._marks
        classes = self._classes

        def work() -> None:
            with self._busy:
                if turn == self._turn:  # nobody has begun again meanwhile
                    write()

        def write() -> None:
            self._take()
            sha = write_base(self.path, labels)
            start = [MAGIC, to_frame("header", self.header.to_plain())]
            start += [to_frame("base", {"sha256": sha, "dtype": labels.dtype.newbyteorder("<").str})]
            start += [to_frame("classes", classes)] if classes else []
            start += _past(steps, undone, marks, locked, saved, marks_saved)
            with atomic_write(self.path) as temporary:
                temporary.write_bytes(b"".join(start))
            drop_bases(self.path, keep=sha)

        self._work = work
        return work

    def start_now(self) -> None:
        """Do what `begin` left to do at once, for want of time to do it elsewhere; nothing is kept if that fails."""
        try:
            self._work()
        except MedAttnError as error:
            self.fail(error)
        else:
            self.settle()

    def settle(self) -> None:
        """Go over from queueing to writing."""
        self._close_file()
        queue, self._queue = self._queue, []
        self.state = State.OPEN
        self._open()
        if queue:
            self._write(b"".join(queue))
        self._told = self.state is State.BROKEN

    def fail(self, error: BaseException) -> None:
        """The work did not succeed: nothing is kept for now, and that is told."""
        self._queue = []
        self._break(error if isinstance(error, MedAttnError) else SaveError(f"{error}", "Save the mask."))

    def resume(self, log: EditLog, end: int) -> None:
        """Go on after byte ``end`` of the file with a log that was replayed from it; the rest of the file is cut off.

        The lock must have been taken, see `claim`.
        """
        self._log, log.recorder = log, self
        self.state = State.OPEN
        self._open(end)

    def claim(self) -> None:
        """Take the lock.

        Raises:
            JournalError: If the journal is open elsewhere.
            SaveError: If the folder cannot be written.
        """
        self._take()

    def close(self) -> None:
        """Stop keeping the log and let others have the file; `begin` goes on where it is."""
        self._turn += 1
        self._close_file()
        self.state = State.CLOSED
        if self._lock.is_locked:
            self._lock.release()

    def sync(self) -> None:
        """Wait until all that was written has reached the disk; may be called on any thread."""
        if self._file is None or self.synced:
            return
        self.synced = True
        twin = os.dup(self._file)  # stays open when the journal is closed meanwhile
        try:
            os.fsync(twin)
        finally:
            os.close(twin)

    # -- what the log tells

    def step(self, edit: Edit) -> None:
        """See `edits.Recorder`."""
        self._write(step_frame(edit))

    def undone(self) -> None:
        """See `edits.Recorder`."""
        self._write(to_frame("undo", {"time": time.time()}))

    def redone(self) -> None:
        """See `edits.Recorder`."""
        self._write(to_frame("redo", {"time": time.time()}))

    def confirmed(self, labels: Labels, box: Box, right: bool) -> None:
        """See `edits.Recorder`."""
        self._marks += 1
        self._write(confirm_frame(labels, box, right, time.time()))

    def locked(self, classes: frozenset[int]) -> None:
        """See `edits.Recorder`."""
        self._write(to_frame("locks", {"classes": sorted(classes)}))

    def retyped(self, dtype: np.dtype[np.integer]) -> None:
        """The mask holds labels of another type from now on."""
        self._write(to_frame("type", {"dtype": dtype.newbyteorder("<").str}))

    def call_classes(self, classes: Mapping[str, Any]) -> None:
        """What a person calls the classes and how they are shown, as plain data; told again only if it is new."""
        if classes != self._classes:
            self._classes = classes
            self._write(to_frame("classes", classes))

    def saving(self) -> None:
        """The mask as it is now is about to be saved as a file."""
        self._saving = _Saved(() if self._log is None else self._log.edits, self._marks, time.time())
        self._write(to_frame("saving", {}))

    def saved(self) -> None:
        """It was saved: what `saving` found is no unsaved work any more."""
        self._saved = self._saving
        self._write(to_frame("saved", {"time": time.time()}))

    def _write(self, frame: bytes) -> None:
        if self.state is State.STARTING:
            self._queue.append(frame)
        if self._file is None or self.state is State.BROKEN:
            return
        try:
            done = os.write(self._file, frame)
            while done < len(frame):  # only where the system writes a large record in parts
                done += os.write(self._file, frame[done:])
        except OSError as error:
            self._break(trouble(self.path, error))
            return
        self._size += len(frame)
        self.written, self.synced = time.time(), False

    def _break(self, error: MedAttnError) -> None:
        """Leave whole records only, and tell."""
        if self._file is not None:
            _cut(self._file, self._size)
            self._close_file()
        self.state = State.BROKEN
        if self.on_trouble is not None and not self._told:
            self._told = True
            self.on_trouble(error)

    # -- the file

    def _take(self) -> None:
        make_folder(self.path.parent)
        if self._lock.is_locked:
            return
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise JournalError(
                "These edits are open in another window.", "Close the scan there, then bring them back here."
            ) from error
        except OSError as error:
            raise trouble(self.path, error) from error

    def _open(self, end: int | None = None) -> None:
        try:
            self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0))
            self._size = os.fstat(self._file).st_size if end is None else end
            if end is not None:
                os.ftruncate(self._file, end)
        except OSError as error:
            self._break(trouble(self.path, error))
            return
        self.written = self.path.stat().st_mtime

    def _close_file(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _past(
    steps: tuple[Edit, ...],
    undone: tuple[Edit, ...],
    marks: Marks | None,
    locked: frozenset[int],
    saved: _Saved,
    marks_saved: bool,
) -> list[bytes]:
    """What a log holds already, as records: the mask shows it, so they lead to the mask as it is.

    Args:
        steps: The steps that hold.
        undone: Those that can be redone, in that order.
        marks: What is confirmed.
        locked: The locked classes.
        saved: What of it was saved; told if the steps that hold begin with those that were.
        marks_saved: Whether nothing was confirmed since.
    """
    frames = [step_frame(edit) for edit in steps]
    confirmed = [marks_frame(marks)] if marks is not None else []
    if saved.at and steps[: len(saved.steps)] == saved.steps:
        note = [to_frame("saving", {}), to_frame("saved", {"time": saved.at})]
        if marks_saved:
            confirmed, note = [], [*confirmed, *note]
        frames[len(saved.steps) : len(saved.steps)] = note
    frames += [step_frame(edit) for edit in undone]
    frames += [to_frame("undo", {"time": edit.time}) for edit in undone]
    frames += [*confirmed, to_frame("locks", {"classes": sorted(locked)})]
    return frames


def _nothing() -> None:
    """There is nothing to do."""


def _cut(file: int, size: int) -> None:
    try:
        os.ftruncate(file, size)
    except OSError:
        return  # the reader cuts it off then
