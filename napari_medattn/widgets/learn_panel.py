"""Learn: fine-tune the current network on the corrections, and watch it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyqtgraph as pg
from napari.utils.theme import get_theme
from qtpy.QtCore import QTimer, Signal
from qtpy.QtWidgets import QComboBox, QLabel, QWidget

from napari_medattn.errors import MedAttnError
from napari_medattn.events import Progress, TrainingStep
from napari_medattn.layerdata import layer_to_volume
from napari_medattn.training.examples import Example
from napari_medattn.widgets.jobs import Job, Jobs, Steps
from napari_medattn.widgets.parts import MessageLine, ProgressLine, button, column, row
from napari_medattn.widgets.session import Session

if TYPE_CHECKING:
    from napari_medattn.store import Checkpoint

# Scoring the network before and after runs it over the case, with events of its own.
_STAGES = {"segmenting": "scoring", "finishing": "scoring"}
_BUDGETS = {"15 s": 15.0, "30 s": 30.0, "1 min": 60.0, "3 min": 180.0, "10 min": 600.0}


class LearnPanel(QWidget):
    """Starts a fine-tuning in the background and draws its loss.

    Args:
        session: The dock's session.
        jobs: The dock's jobs.
    """

    wants_attention = Signal()

    def __init__(self, session: Session, jobs: Jobs) -> None:
        super().__init__()
        self.session, self.jobs = session, jobs
        self._job: Job | None = None
        self._new: Checkpoint | None = None
        self._losses: list[float] = []
        self.summary = QLabel()
        self.summary.setWordWrap(True)
        self.time = QComboBox()
        self.time.addItems(list(_BUDGETS))
        self.time.setCurrentText("30 s")
        self.time.setAccessibleName("training time")
        self.time.setToolTip("How long to train; longer fits the corrections more closely.")
        self.run = button("Learn", "Fine-tune a copy of the network on your edited and confirmed voxels (Alt+L).")
        self.stop = button("Cancel", "Stop training; no checkpoint is saved.", enabled=False)
        self.use = button("Use it", "Choose the new checkpoint for Segment.")
        self.use.setVisible(False)
        self.progress, self.message = ProgressLine(), MessageLine()
        self.plot = pg.PlotWidget()
        self.plot.setFixedHeight(110)
        self.plot.setMouseEnabled(x=False, y=False)
        self.plot.setMenuEnabled(False)
        self.plot.hideButtons()
        self.plot.setLabel("left", "loss")
        self.plot.setLabel("bottom", "step")
        self.plot.getAxis("left").enableAutoSIPrefix(False)
        self.plot.setAccessibleName("loss curve")
        self.curve = self.plot.plot([], [], pen=pg.mkPen("#56b4e9", width=2))
        self.plot.setVisible(False)
        column(
            self,
            self.summary,
            row(QLabel("time"), self.time, self.run, self.stop, stretch=2),
            self.progress,
            self.message,
            self.use,
            self.plot,
        )
        self.run.clicked.connect(self.start)
        self.stop.clicked.connect(self.cancel)
        self.use.clicked.connect(self._use)
        session.image_changed.connect(self.refresh)
        session.edits_changed.connect(self.refresh)
        session.mask_changed.connect(self.refresh)
        session.checkpoint_changed.connect(self.refresh)
        session.viewer.events.theme.connect(self._dress)
        self._dress()
        self.refresh()

    @property
    def running(self) -> bool:
        """Whether a training is under way."""
        return self._job is not None and self._job.running

    def refresh(self) -> None:
        """Say what there is to learn from, and enable what can be used."""
        case = self.session.case
        edited, slices = (case.edited, case.confirmed_slices()) if case is not None else (0, 0)
        checkpoint = self.session.checkpoint
        same = case is not None and checkpoint is not None and case.scheme == checkpoint.card.class_names
        same = same and case is not None and len(case.class_names) == len(case.scheme)
        fits = same and bool(edited or slices)
        if case is None or case.mask is None or checkpoint is None:
            self.summary.setText("Needs a mask that you corrected or confirmed.")
        elif not same:
            self.summary.setText(f"The mask has other classes than {checkpoint.name}: choose a network of its classes.")
        elif not fits:
            self.summary.setText("Nothing to learn from yet: correct the mask or confirm slices.")
        else:
            self.summary.setText(
                f"{edited:,} edited voxels, {slices} confirmed slice{'' if slices == 1 else 's'}; "
                "untouched voxels are not taken as truth."
            )
        self.run.setEnabled(fits and not self.running)
        self.stop.setEnabled(self.running)
        self.time.setEnabled(not self.running)

    def start(self) -> None:
        """Fine-tune on the current case."""
        case, checkpoint = self.session.case, self.session.checkpoint
        if case is None or checkpoint is None or not self.run.isEnabled():
            return
        try:
            labels, weights = case.vouched()
        except MedAttnError as error:
            self.message.fail(error)
            return
        device, seconds = self.session.device, _BUDGETS[self.time.currentText()]

        def steps() -> Steps:
            from napari_medattn.training.finetune import DEFAULT, finetune_steps

            example = Example(layer_to_volume(case.image), labels, weights)
            return finetune_steps(checkpoint, [example], config=replace(DEFAULT, seconds=seconds), device=device)

        self._losses = []
        self.curve.setData([], [])
        self.plot.setVisible(True)
        self.use.setVisible(False)
        self.message.say("")
        self._job = self.jobs.start(
            f"learning from {case.image.name}",
            steps,
            on_event=self._follow,
            on_done=self._done,
            on_error=self._fail,
            on_cancelled=self._cancelled,
        )
        self.refresh()
        QTimer.singleShot(0, self.wants_attention.emit)

    def cancel(self) -> None:
        """Stop the training."""
        if self._job is not None:
            self._job.cancel()
            self.message.say("Stopping after this step ...")

    def _follow(self, event: Any) -> None:
        if isinstance(event, TrainingStep):
            self._losses.append(event.loss)
            self.curve.setData(range(1, len(self._losses) + 1), self._losses)
            self.progress.follow(event.progress)
        elif isinstance(event, Progress):
            self.progress.follow(replace(event, stage=_STAGES.get(event.stage, event.stage)))

    def _done(self, checkpoint: Checkpoint) -> None:
        self._ended()
        self._new = checkpoint
        metrics = checkpoint.card.metrics
        if metrics["agreement_after"] <= metrics["agreement_before"]:
            self.message.say(
                f"{checkpoint.name} came no closer to your corrections than {checkpoint.card.parent_name}: "
                "train longer, or correct and confirm whole slices."
            )
            self.session.refresh_checkpoints()
            return
        self.message.say(
            f"Saved {checkpoint.name}: it agrees with {metrics['agreement_after']:.1%} of the corrected voxels, "
            f"{checkpoint.card.parent_name} with {metrics['agreement_before']:.1%}. "
            "How it does elsewhere is not measured by this."
        )
        self.use.setText(f"Use {checkpoint.name}")
        self.use.setVisible(True)
        self.session.refresh_checkpoints()

    def _fail(self, error: BaseException) -> None:
        self._ended()
        self.message.fail(error)

    def _cancelled(self) -> None:
        self._ended()
        self.message.say("Cancelled; no checkpoint was saved.")

    def _ended(self) -> None:
        self.progress.finish()
        self.refresh()
        QTimer.singleShot(0, self.wants_attention.emit)  # once the result has found its place

    def _use(self) -> None:
        if self._new is not None:
            self.session.refresh_checkpoints(choose=self._new.name)
            self.use.setVisible(False)
            self.message.say(f"Segment now uses {self._new.name}.")

    def _dress(self, event: Any = None) -> None:
        """Colour the plot like the window around it."""
        theme = get_theme(self.session.viewer.theme)
        self.plot.setBackground(theme.background.as_hex())
        pen = pg.mkPen(theme.text.as_hex())
        for side in ("left", "bottom"):
            axis = self.plot.getAxis(side)
            axis.setPen(pen)
            axis.setTextPen(pen)
