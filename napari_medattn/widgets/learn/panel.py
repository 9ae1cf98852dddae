"""Learn: fine-tune the current network on corrections, see whether it got better, and keep its versions apart."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QLabel, QMessageBox, QWidget

from napari_medattn.errors import MedAttnError
from napari_medattn.events import Progress, TrainingStep, Validation
from napari_medattn.store.checkpoints import Checkpoint
from napari_medattn.store.versions import Versions
from napari_medattn.widgets.jobs import Job, Jobs, Steps
from napari_medattn.widgets.learn.beside import SideBySide
from napari_medattn.widgets.learn.cases import Cases
from napari_medattn.widgets.learn.choices import Choices
from napari_medattn.widgets.learn.curves import REDRAW_MS, Curves
from napari_medattn.widgets.learn.lesson import Lesson, Question, lesson_steps
from napari_medattn.widgets.learn.result import ResultView, in_words
from napari_medattn.widgets.learn.versions_panel import VersionsPanel
from napari_medattn.widgets.parts import MessageLine, ProgressLine, Section, button, column, row
from napari_medattn.widgets.session import Session

if TYPE_CHECKING:
    from napari_medattn.learning.learned import Learned


class LearnPanel(QWidget):
    """Starts a training in the background, draws it, and says what came of it.

    Args:
        session: The dock's session.
        jobs: The dock's jobs.
    """

    wants_attention = Signal()
    ended = Signal()

    def __init__(self, session: Session, jobs: Jobs) -> None:
        super().__init__()
        self.session, self.jobs = session, jobs
        self._job: Job | None = None
        self._parent: Checkpoint | None = None
        self._keep = False  # whether to stop and keep what was learned so far
        self._shown = 0.0
        self.learned: Learned | None = None
        self.message, self.progress = MessageLine(), ProgressLine()
        self.cases = Cases(session, jobs, self.message)
        self.choices = Choices()
        self.run = button("Learn", "Fine-tune a copy of the network on the corrections; yours stays as it is (Alt+L).")
        self.stop = button("Cancel", "Stop learning; nothing is saved.", enabled=False)
        self.keep = button(
            "Stop and keep", "Stop learning now, and score and save what was learned so far.", enabled=False
        )
        self.curves = Curves(session.viewer)
        self.result = ResultView()
        self.beside = SideBySide(session, jobs)
        self.versions = VersionsPanel(session, jobs, self.message)
        column(
            self,
            self.cases,
            self.choices,
            row(self.run, self.keep, self.stop, stretch=0),
            self.progress,
            self.curves,
            self.message,
            self.result,
            self.beside,
            Section("versions", self.versions),
        )
        self.run.clicked.connect(self.start)
        self.stop.clicked.connect(self.cancel)
        self.keep.clicked.connect(self.stop_and_keep)
        self.result.decided.connect(self.decide)
        self.versions.wants_comparison.connect(self.beside.offer)
        self.cases.changed.connect(self._enable)
        self._enable()

    def close(self) -> bool:
        """Let go of the viewer."""
        self.curves.leave()
        return True

    @property
    def running(self) -> bool:
        """Whether a training is under way."""
        return self._job is not None and self._job.running

    @property
    def summary(self) -> QLabel:
        """What there is to learn from."""
        return self.cases.summary

    def refresh(self) -> None:
        """Say what there is to learn from, and enable what can be used."""
        self.cases.refresh()

    def _enable(self) -> None:
        self.run.setEnabled(not self.cases.blocked and not self.running)
        self.stop.setEnabled(self.running)
        self.keep.setEnabled(self.running and not self._keep)
        self.choices.setEnabled(not self.running)

    def start(self) -> None:
        """Learn from the stored cases and the open one."""
        checkpoint = self.session.checkpoint
        if self.running:
            self.message.say("The network is learning already: wait for its end, or cancel it.")
            return
        self.refresh()
        if checkpoint is None or self.cases.blocked:
            return
        try:
            present = self.cases.present
        except MedAttnError as error:
            self.message.fail(error)
            return
        self._begin(Lesson(checkpoint, self.session.device, self.choices.plan(), present, self.cases.store))

    def cancel(self) -> None:
        """Stop the training; nothing is saved."""
        if self._job is not None and self.running:
            self._job.cancel()
            self.message.say("Stopping after this step ...")

    def stop_and_keep(self) -> None:
        """Stop the training early, and keep what was learned so far."""
        if self.running:
            self._keep = True
            self.message.say("Stopping after this step, and scoring what was learned ...")
            self._enable()

    def decide(self, use: bool) -> None:
        """Use the new version from now on, or go on with the old one."""
        learned, parent = self.learned, self._parent
        if learned is None or parent is None:
            return
        self.result.settle()
        if not use:
            self.message.say(f"Segment goes on with {parent.name}; {learned.checkpoint.name} stays in the tree.")
            return

        def steps() -> Steps:
            yield
            return Versions().make_current(learned.checkpoint)

        def done(checkpoint: Checkpoint) -> None:
            self.session.refresh_checkpoints(choose=checkpoint.name)
            self.message.say(f"Segment now uses {checkpoint.name}.")

        self.jobs.start("choosing a version", steps, on_done=done, on_error=self.message.fail, quiet=True)

    def _begin(self, lesson: Lesson) -> None:
        self._keep, self._shown = False, 0.0
        self._parent = lesson.checkpoint
        self.curves.begin()
        self.result.setVisible(False)
        self.beside.withdraw()
        self.message.say("")
        self._job = self.jobs.start(
            f"{lesson.checkpoint.name} learns",
            lambda: lesson_steps(lesson, lambda: self._keep),
            on_event=self._follow,
            on_done=self._done,
            on_error=self._fail,
            on_cancelled=self._cancelled,
        )
        self._enable()
        QTimer.singleShot(0, self.wants_attention.emit)

    def _follow(self, event: Any) -> None:
        if isinstance(event, TrainingStep | Validation):
            self.curves.add(event)
        told = event.progress if isinstance(event, TrainingStep) else event
        if isinstance(told, Progress) and self._is_due(told):
            # A stage that counts seconds has taken as many as it is far.
            self.progress.follow(replace(told, seconds=float(told.done)) if told.unit == "s" else told)

    def _is_due(self, progress: Progress) -> bool:
        """Steps may come much more often than anybody reads."""
        now = time.monotonic()
        if progress.done and now - self._shown < REDRAW_MS / 1000:
            return False
        self._shown = now
        return True

    def _done(self, found: Learned | Question) -> None:
        self._ended()
        if isinstance(found, Question):
            self._ask(found)
            return
        parent, new = self._parent, found.checkpoint
        assert parent is not None
        self.learned = found
        follows = found.verdict.may_become_current and self.session.checkpoint == parent
        self.session.refresh_checkpoints(choose=new.name if follows else None)
        self.cases.read()
        used = f" Segment now uses {new.name}." if follows else ""
        self.message.say(in_words(found) + used)
        self.result.show_result(found, parent.name)
        self.beside.offer(parent, new)

    def _ask(self, question: Question) -> None:
        """Learn all the same, if that is meant."""
        asked = f"{question.problem} Learn from it all the same?"
        self.message.say(question.problem)
        if QMessageBox.question(self, "Learn", asked) == QMessageBox.StandardButton.Yes:
            self._begin(replace(question.lesson, anyway=True))

    def _fail(self, error: BaseException) -> None:
        self._ended()
        self.message.fail(error)

    def _cancelled(self) -> None:
        self._ended()
        self.curves.setVisible(False)
        self.message.say("Cancelled; nothing was saved.")

    def _ended(self) -> None:
        self.progress.finish()
        self.curves.draw()
        self.refresh()
        self.ended.emit()
        QTimer.singleShot(0, self.wants_attention.emit)  # once the result has found its place
