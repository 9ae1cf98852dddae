"""Correct: the classes of the mask, tools, what was edited and confirmed, what to look at next, and saving it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from napari.layers import Labels
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QFileDialog, QLabel, QWidget

from napari_medattn.contributions import record_of, write_mask
from napari_medattn.layerdata import KEY
from napari_medattn.widgets.case import belongs
from napari_medattn.widgets.correct.class_table import ClassTable
from napari_medattn.widgets.correct.confirming import Confirming
from napari_medattn.widgets.correct.figures import FiguresPanel
from napari_medattn.widgets.correct.keeping import Keeper
from napari_medattn.widgets.correct.offer_line import OfferLine
from napari_medattn.widgets.correct.range_brush import RangeBrush
from napari_medattn.widgets.correct.review import Review
from napari_medattn.widgets.correct.tools import Tools
from napari_medattn.widgets.jobs import Job, Jobs, Steps
from napari_medattn.widgets.parts import MessageLine, Section, button, column, row
from napari_medattn.widgets.session import Session

_NEEDS = "Needs a mask: press Segment."
_REST_MS = 250  # figures follow painting after this pause, so that strokes stay smooth


class CorrectPanel(QWidget):
    """Shows the classes and the state of the edits; painting itself is napari's own.

    Args:
        session: The dock's session.
        jobs: The dock's jobs.
    """

    def __init__(self, session: Session, jobs: Jobs) -> None:
        super().__init__()
        self.session, self.jobs = session, jobs
        self.message = MessageLine()
        self.table = ClassTable(session, jobs, self.message)
        self.range_brush = RangeBrush(session, self.message)
        self.tools = Tools(session, jobs, self.message)
        self.confirming = Confirming(session, self.message)
        self.confirm = self.confirming.slice
        self.review = Review(session, jobs, self.message)
        self.figures = FiguresPanel(session, jobs, self.message)
        self.save = button("Save mask ...", "Write the mask with the scan's exact geometry.")
        self.summary = QLabel()
        self.summary.setWordWrap(True)
        self.keeper = Keeper(session, jobs)
        self.offer = OfferLine(self.keeper)
        column(
            self,
            self.offer,
            self.table,
            row(self.table.actions_button, self.save, stretch=1),
            self.range_brush,
            self.tools,
            self.confirming,
            self.review,
            self.summary,
            self.message,
            Section("figures", self.figures),
        )
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.setInterval(_REST_MS)
        self._rest.timeout.connect(self.refresh)
        self.save.clicked.connect(self._ask_and_save)
        session.image_changed.connect(self.refresh)
        session.edits_changed.connect(self._refresh_soon)
        session.mask_changed.connect(self.refresh)
        session.notice.connect(self.message.say)
        self.keeper.said.connect(self.message.say)
        self.keeper.failed.connect(self.message.fail)
        self.keeper.changed.connect(self._summarise)
        session.viewer.layers.selection.events.active.connect(self._selected)
        self.refresh()

    def refresh(self) -> None:
        """Bring the figures up to date."""
        case = self.session.case
        ready = case is not None and case.mask is not None
        self.save.setEnabled(ready)
        self.table.refresh()
        self.confirming.refresh()
        if not ready:
            self.summary.setText("")
            self.message.say(_NEEDS)
            return
        if self.message.text == _NEEDS:
            self.message.say("")
        self._summarise()

    def _summarise(self) -> None:
        """What was done, and what of it is safe."""
        case = self.session.case
        if case is None or case.mask is None:
            return
        slices, safe = case.confirmed_slices(), self.keeper.status
        done = f"edited {case.edited:,} voxels, confirmed {slices} slice{'' if slices == 1 else 's'}"
        self.summary.setText(f"{done} - {safe}" if safe else done)

    def close(self) -> bool:
        """Let go of the viewer, and take away what was only shown."""
        self.session.viewer.layers.selection.events.active.disconnect(self._selected)
        for part in (self.keeper, self.range_brush, self.tools, self.confirming, self.review, self.figures):
            part.close()
        return True

    def confirm_slice(self) -> None:
        """Confirm the slice in view, or take it back."""
        self.confirming.confirm_slice()
        self.refresh()

    def save_mask(self, path: Path | str) -> Job | None:
        """Write the mask as it is now, in the background; how it ended is said in the panel."""
        if self.session.case is None or self.session.case.mask is None:
            return None
        mask = self.session.case.mask
        labels = np.array(mask.data)
        meta = {key: value for key, value in mask.metadata.get(KEY, {}).items() if key != "edits"}
        record = record_of({"metadata": mask.metadata}, labels.size)  # as it is now: painting goes on while it is saved
        meta |= {"record": record} if record is not None else {}
        attributes = {"name": mask.name, "scale": mask.scale, "metadata": {KEY: meta}}
        saved = self.keeper.saving()

        def done(_: Any) -> None:
            saved()
            self.message.say(f"Saved {path}.")

        def steps() -> Steps:
            yield from ()
            return write_mask(str(path), labels, attributes)

        return self.jobs.start(
            f"saving {mask.name}",
            steps,
            on_done=done,
            on_error=self.message.fail,
        )

    def _refresh_soon(self) -> None:
        self._rest.start()

    def _selected(self, event: Any = None) -> None:
        """A copy of the mask is chosen: it becomes the mask where that is gone; else edits in it would not count."""
        case, layer = self.session.case, self.session.viewer.layers.selection.active
        if case is None or not isinstance(layer, Labels) or not belongs(layer, case.image):
            return
        if any(layer == mask for mask, _ in case.masks.values()):
            return
        if case.mask is None:
            case.adopt(layer)
        else:
            self.message.say(f"{layer.name} is a copy: what you paint in it does not count. Go on in {case.mask.name}.")

    def _ask_and_save(self) -> None:
        assert self.session.case is not None and self.session.case.mask is not None
        source = self.session.case.image.metadata.get(KEY, {}).get("path")
        folder = Path(source).parent if source else Path.home()
        start = folder / f"{self.session.case.image.name}_mask.nii.gz"
        path, _ = QFileDialog.getSaveFileName(
            self, "Save mask", str(start), "NIfTI (*.nii.gz *.nii);;TIFF (*.tif *.tiff)"
        )
        if path:
            self.save_mask(path)
