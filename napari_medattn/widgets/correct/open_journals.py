"""`OpenJournals`: the journals that masks are under: begun, brought to the disk, begun anew after trouble, let go."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from napari.layers import Labels
from psygnal import Signal
from qtpy.QtCore import QTimer

from napari_medattn.errors import MedAttnError, SaveError
from napari_medattn.store.edits import EditLog
from napari_medattn.store.journal import Journal, State
from napari_medattn.widgets.correct.classes import Classes
from napari_medattn.widgets.jobs import Jobs, Steps

_LOOK_MS = 5000  # how often to bring what was written to the disk itself, and to try again what could not be written
_LARGE = 100  # a journal larger than this part of its mask is written anew when the mask is saved


@dataclass(frozen=True, eq=False)
class Kept:
    """A mask, its journal, and the log whose edits go there."""

    mask: Labels
    journal: Journal
    log: EditLog


class OpenJournals:
    """Keeps journals that are open in step with their masks.

    Args:
        jobs: The dock's jobs.
    """

    changed = Signal()  # what is safe
    said = Signal(str)
    failed = Signal(object)  # an error, told once

    def __init__(self, jobs: Jobs) -> None:
        self.jobs = jobs
        self._open: list[Kept] = []
        self._timer = QTimer()
        self._timer.setInterval(_LOOK_MS)
        self._timer.timeout.connect(self.look_after)
        self._timer.start()

    def of(self, log: EditLog) -> Journal | None:
        """The journal of a log."""
        return next((kept.journal for kept in self._open if kept.log is log), None)

    def begin(self, mask: Labels, journal: Journal, log: EditLog) -> None:
        """Put a mask under a journal."""
        journal.on_trouble = self.trouble
        kept = Kept(mask, journal, log)
        self._open.append(kept)
        self._write(kept)

    def resume(self, mask: Labels, journal: Journal, log: EditLog, end: int) -> None:
        """Go on with a journal that leads to a mask already; ``end`` is where it goes on in the file."""
        journal.resume(log, end)
        self._open.append(Kept(mask, journal, log))

    def saving(self, log: EditLog) -> Callable[[], None]:
        """To be called when a log's mask is about to be saved; what it returns, when that is done."""
        kept = next((kept for kept in self._open if kept.log is log), None)
        if kept is None:
            return lambda: None
        kept.journal.saving()

        def saved() -> None:
            kept.journal.saved()
            if kept in self._open and kept.journal.size > kept.mask.data.nbytes // _LARGE:
                self._write(kept)

        return saved

    def let_go(self, gone: Callable[[Kept], bool]) -> bool:
        """Close those of which it holds; what they hold stays. Says whether there were any."""
        leaving = [kept for kept in self._open if gone(kept)]
        # What is flushed is an edit: whoever hears of it must still find the mask under its journal.
        for kept in leaving:
            _flush(kept.mask)
        self._open = [kept for kept in self._open if kept not in leaving]
        for kept in leaving:
            _finish(kept.journal)
        return bool(leaving)

    def look_after(self) -> None:
        """Now and then: bring what was written to the disk itself, and try again what could not be written."""
        for kept in self._open:
            if kept.journal.state is State.BROKEN:
                self._write(kept)
            elif not kept.journal.synced:
                self.jobs.start(
                    "keeping edits safe",
                    _syncing(kept.journal),
                    on_done=_nothing,
                    on_error=self.failed.emit,
                    quiet=True,
                )

    def trouble(self, error: MedAttnError) -> None:
        """Tell that a journal could not be written."""
        self.failed.emit(
            SaveError(
                f"Your edits are not safe on disk for now: {error.problem}", "You can go on; save the mask to be safe."
            )
        )
        self.changed.emit()

    def close(self) -> None:
        """Let go of all."""
        self._timer.stop()
        self.let_go(lambda kept: True)

    def _write(self, kept: Kept) -> None:
        """Write where a journal starts from: the mask as it is now."""
        journal = kept.journal
        was_broken = journal.state is State.BROKEN
        journal.call_classes(Classes(kept.mask).to_plain())
        labels = np.asarray(kept.mask.data)
        _flush(kept.mask)
        kept.log.reconcile(labels)
        work = journal.begin(kept.log, labels)

        def steps() -> Steps:
            yield
            work()

        def done(_: Any) -> None:
            if journal.state is State.STARTING:
                journal.settle()
                if was_broken:
                    self.said.emit("Your edits are safe on disk again.")
            self.changed.emit()

        def failed(error: BaseException) -> None:
            journal.fail(error)
            self.changed.emit()

        self.jobs.start("keeping edits safe", steps, on_done=done, on_error=failed, quiet=True)
        self.changed.emit()


def _finish(journal: Journal) -> None:
    """Close a journal, whole if that is possible."""
    if journal.state is State.STARTING:
        journal.start_now()  # nobody will be called back any more
    journal.close()


def _flush(mask: Labels) -> None:
    """Let napari report what has been painted of a stroke so far."""
    with mask.block_history():
        pass


def _syncing(journal: Journal) -> Callable[[], Steps]:
    def steps() -> Steps:
        yield
        journal.sync()

    return steps


def _nothing(_: Any) -> None:
    """Nothing is to be done."""
