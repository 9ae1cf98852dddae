"""Correct: the classes of the mask, what was edited and confirmed, and saving it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from qtpy.QtCore import Qt, QTimer
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import (
    QAbstractItemView,
    QFileDialog,
    QHeaderView,
    QLabel,
    QTableWidget,
    QTableWidgetItem,
    QWidget,
)

from napari_medattn.contributions import write_mask
from napari_medattn.layerdata import KEY
from napari_medattn.widgets.case import Case
from napari_medattn.widgets.correct.keeping import Keeper
from napari_medattn.widgets.correct.offer_line import OfferLine
from napari_medattn.widgets.jobs import Job, Jobs, Steps
from napari_medattn.widgets.parts import MessageLine, button, column, fit_rows, row
from napari_medattn.widgets.session import Session

_ROW = 24  # pixels
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
        self._counting: Job | None = None
        self.table = QTableWidget(0, 3)
        self.table.setHorizontalHeaderLabels(["class", "voxels", "ml"])
        self.table.setAccessibleName("classes of the mask")
        self.table.setToolTip("Choose a class to paint with; napari's brush, eraser and fill change the mask.")
        self.table.verticalHeader().setVisible(False)
        self.table.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.verticalHeader().setDefaultSectionSize(_ROW)
        self.table.horizontalHeader().setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        for narrow in (1, 2):
            self.table.horizontalHeader().setSectionResizeMode(narrow, QHeaderView.ResizeMode.ResizeToContents)
        self.confirm = button(
            "Confirm slice", "The slice in view is right as it is: it counts as truth for Learn (Alt+C)."
        )
        self.save = button("Save mask ...", "Write the mask with the scan's exact geometry.")
        self.summary = QLabel()
        self.summary.setWordWrap(True)
        self.message = MessageLine()
        self.keeper = Keeper(session, jobs)
        self.offer = OfferLine(self.keeper)
        column(self, self.offer, self.table, row(self.confirm, self.save, stretch=0), self.summary, self.message)
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.setInterval(_REST_MS)
        self._rest.timeout.connect(self.refresh)
        self.table.cellClicked.connect(self._choose_class)
        self.confirm.clicked.connect(self.confirm_slice)
        self.save.clicked.connect(self._ask_and_save)
        session.image_changed.connect(self.refresh)
        session.viewer.dims.events.current_step.connect(self._name_confirm)
        session.viewer.dims.events.ndisplay.connect(self._name_confirm)
        session.edits_changed.connect(self._refresh_soon)
        session.mask_changed.connect(self.refresh)
        session.notice.connect(self.message.say)
        self.keeper.said.connect(self.message.say)
        self.keeper.failed.connect(self.message.fail)
        self.keeper.changed.connect(self._summarise)
        self.refresh()

    def refresh(self) -> None:
        """Bring the figures up to date."""
        case = self.session.case
        ready = case is not None and case.mask is not None
        classes = len(case.class_names) - 1 if ready and case is not None else 0
        fit_rows(self.table, self.table.horizontalHeader(), _ROW, classes)
        for widget in (self.table, self.save):
            widget.setEnabled(ready)
        self._name_confirm()
        if case is None or case.mask is None:
            self.table.setRowCount(0)
            self.summary.setText("")
            self.message.say("Needs a mask: press Segment.")
            return
        self.message.say("")
        self._list_classes(case)
        self._summarise()

    def _summarise(self) -> None:
        """What was done, and what of it is safe."""
        case = self.session.case
        if case is None or case.mask is None:
            return
        slices, safe = case.confirmed_slices(), self.keeper.status
        done = f"edited {case.edited:,} voxels, confirmed {slices} slice{'' if slices == 1 else 's'}"
        self.summary.setText(f"{done} - {safe}" if safe else done)

    def confirm_slice(self) -> None:
        """Confirm the slice in view, or take it back."""
        if self.confirm.isEnabled() and self.session.case is not None:
            self.session.case.confirm_slice()
            self.refresh()

    def save_mask(self, path: Path | str) -> Job | None:
        """Write the mask as it is now, in the background; how it ended is said in the panel."""
        if self.session.case is None or self.session.case.mask is None:
            return None
        mask = self.session.case.mask
        labels = np.array(mask.data)
        meta = {key: value for key, value in mask.metadata.get(KEY, {}).items() if key != "edits"}
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

    def _name_confirm(self, event: Any = None) -> None:
        """The button says what it will do to the slice in view; in 3-D there is none."""
        case = self.session.case
        ready = case is not None and case.mask is not None and self.session.viewer.dims.ndisplay == 2
        self.confirm.setEnabled(ready)
        done = ready and case is not None and case.slice_is_confirmed()
        self.confirm.setText("Take back confirmation" if done else "Confirm slice")

    def _refresh_soon(self) -> None:
        self._rest.start()

    def _list_classes(self, case: Case) -> None:
        """Names and colours at once; the figures follow when they have been counted in the background."""
        assert case.mask is not None
        names = case.class_names
        self.table.setRowCount(len(names) - 1)
        for number, name in enumerate(names[1:], start=1):
            item = QTableWidgetItem(name)
            item.setIcon(_swatch(case.mask.get_color(number)))
            self.table.setItem(number - 1, 0, item)
        if self._counting is not None:
            self._counting.cancel()
        labels, classes = case.mask.data, len(names)

        def steps() -> Steps:
            counts = np.zeros(classes, np.int64)
            for part in labels.reshape(-1, *labels.shape[-2:]):
                known = part[(part >= 0) & (part < classes)].astype(np.intp)  # a mask may hold any label
                counts += np.bincount(known, minlength=classes)
                yield
            return counts

        self._counting = self.jobs.start(
            "counting voxels",
            steps,
            on_done=lambda counts: self._fill(case, counts),
            on_error=self.message.fail,
            quiet=True,
        )

    def _fill(self, case: Case, counts: np.ndarray) -> None:
        if case is not self.session.case or case.mask is None or len(counts) != len(case.class_names):
            return
        grid = case.mask.metadata[KEY].get("grid")
        # A 2-D image has no volume, and lengths in pixels are no millilitres.
        has_volume = grid is not None and grid.units == "mm" and case.mask.ndim == 3
        millilitres = float(np.prod(grid.spacing)) / 1000 if has_volume else None
        for number in range(1, len(counts)):
            cells = [f"{counts[number]:,}", f"{counts[number] * millilitres:.2f}" if millilitres else "-"]
            for place, text in enumerate(cells, start=1):
                item = QTableWidgetItem(text)
                item.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
                self.table.setItem(number - 1, place, item)

    def _choose_class(self, index: int, _column: int) -> None:
        if self.session.case is not None and self.session.case.mask is not None:
            self.session.viewer.layers.selection.active = self.session.case.mask
            self.session.case.mask.selected_label = index + 1

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


def _swatch(colour: Any) -> QIcon:
    pixmap = QPixmap(12, 12)
    pixmap.fill(QColor.fromRgbF(*(float(part) for part in colour)))
    return QIcon(pixmap)
