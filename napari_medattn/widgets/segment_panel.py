"""Segment: run the chosen network on the chosen scan, and show the mask."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from magicgui.widgets import CheckBox
from qtpy.QtCore import Qt, QTimer, Signal
from qtpy.QtWidgets import QApplication, QWidget

from napari_medattn.device import leaving_a_core
from napari_medattn.errors import InputError
from napari_medattn.events import for_people
from napari_medattn.layerdata import layer_to_volume
from napari_medattn.widgets.case import Case
from napari_medattn.widgets.jobs import Job, Jobs, Steps
from napari_medattn.widgets.parts import MessageLine, ProgressLine, Section, button, choice, column, row
from napari_medattn.widgets.segment_more import SegmentMore
from napari_medattn.widgets.segment_where import REGION, SLICE, VOLUME, segment_box
from napari_medattn.widgets.session import Session

_STROKE_MS = 50  # how often to look whether a stroke has ended
_WHERE_TIP = (
    "Volume: all of the scan. Slice: the one in view. Region: the selection drawn in Correct, else what the window "
    "shows of the slice. What lies outside stays as it is."
)


class SegmentPanel(QWidget):
    """Starts and cancels a run, and hands its result to the case.

    Args:
        session: The dock's session.
        jobs: The dock's jobs.
    """

    segmented = Signal(object)  # the case

    def __init__(self, session: Session, jobs: Jobs) -> None:
        super().__init__()
        self.session, self.jobs = session, jobs
        self._job: Job | None = None
        self._case: Case | None = None
        self._later: Callable[[], None] | None = None
        self._stroke = QTimer(self)  # a child, so that a closed dock shows nothing any more
        self._stroke.setSingleShot(True)
        self._stroke.setInterval(_STROKE_MS)
        self._stroke.timeout.connect(self._show_later)
        self.keep_edits = CheckBox(value=True, text="keep my edits")
        self.keep_edits.tooltip = "Voxels that you painted or confirmed stay as they are."
        self.where = choice(
            "where to segment", _WHERE_TIP, {"volume": VOLUME, "slice in view": SLICE, "region": REGION}
        )
        self.more = SegmentMore()
        self.more_section = Section("more", self.more, open_=False)
        self.run = button("Segment", "Run the network and show the mask, as one undo step (Alt+S).")
        self.stop = button("Cancel", "Stop after the tile at hand; nothing is changed.", enabled=False)
        self.progress, self.message = ProgressLine(), MessageLine()
        column(
            self,
            row(self.where, self.keep_edits.native, stretch=0),
            row(self.run, self.stop, stretch=0),
            self.progress,
            self.message,
            self.more_section,
        )
        self.run.clicked.connect(self.start)
        self.stop.clicked.connect(self.cancel)
        session.image_changed.connect(self.refresh)
        session.images_changed.connect(self._scan_gone)
        session.checkpoint_changed.connect(self.refresh)
        self.refresh()

    @property
    def running(self) -> bool:
        """Whether a run is under way."""
        return self._job is not None and self._job.running

    def refresh(self) -> None:
        """Enable what can be used, and say in one line why the rest cannot."""
        session = self.session
        ready = session.image is not None and session.checkpoint is not None
        self.run.setEnabled(ready and not self.running)
        self.stop.setEnabled(self.running)
        if not self.running:
            self.message.say("" if ready else "Needs a scan and a network.")

    def start(self) -> None:
        """Segment the current scan."""
        case, checkpoint = self.session.case, self.session.checkpoint
        if case is None or checkpoint is None or self.running:
            return
        loaded, device = self.session.predictor, self.session.device
        more = self.more.chosen()
        try:
            box = segment_box(case, self.where.currentData())
        except InputError as error:
            self.message.fail(error)
            return

        def steps() -> Steps:
            from napari_medattn.inference import Predictor, segment_steps

            predictor = loaded or Predictor.load(checkpoint, device)
            volume = layer_to_volume(case.image)
            # Gates are small and come along; maps of many heads, or of a part, are made when somebody asks for one.
            gates = [site.key for site in predictor.sites.values() if site.kind == "gate" and box is None]
            with leaving_a_core():
                prediction = yield from segment_steps(volume, predictor, attention=gates, box=box, **more.arguments())
            return prediction, predictor

        self._case = case
        self._job = self.jobs.start(
            f"segmenting {case.image.name}",
            steps,
            on_event=lambda event: self.progress.follow(event, case.image.name),
            on_done=lambda found: self._show(case, *found),
            on_error=self._fail,
            on_cancelled=self._cancelled,
        )
        self.message.say("")
        self.refresh()

    def cancel(self) -> None:
        """Stop the run."""
        if self._job is not None:
            self._job.cancel()
            self.message.say("Stopping after this tile ...")

    def _scan_gone(self) -> None:
        if self.running and self._case is not None and self._case.image not in self.session.images:
            self.cancel()

    def _show(self, case: Case, prediction: Any, predictor: Any) -> None:
        if QApplication.mouseButtons() != Qt.MouseButton.NoButton:
            # In the middle of a stroke the mask would change under the brush, and into the stroke's undo step.
            self._later = lambda: self._show(case, prediction, predictor)
            self._stroke.start()
            return
        self._ended()
        if case.image not in self.session.viewer.layers:
            return
        kept = case.show(prediction, predictor, keep_edits=self.keep_edits.value)
        case.show_uncertainty()
        record = prediction.record
        notes = [f"Mask by {record['checkpoint']} on {record['device']} in {for_people(record['seconds'])}."]
        if record["trained_on"] == "untrained":
            notes.append("This network was never trained: the mask means nothing.")
        if kept:
            notes.append(f"{kept} voxels kept as you edited or confirmed them.")
        notes += [f"Memory did not suffice: {step['step']}." for step in record["ladder"]]
        self.message.say(" ".join([*notes, *record["notes"]]))
        self.segmented.emit(case)

    def _show_later(self) -> None:
        """The result that waited for the end of a stroke; what goes wrong is said as if it had not waited."""
        show, self._later = self._later, None
        if show is None or self.jobs.closed:
            return
        try:
            show()
        except Exception as error:  # noqa: BLE001 - a result that cannot be shown is an error like any other
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        self._ended()
        self.message.fail(error)

    def _cancelled(self) -> None:
        self._ended()
        self.message.say("Cancelled; nothing was changed.")

    def _ended(self) -> None:
        self.progress.finish()
        self.refresh()
