"""Figures while working: how much was edited, and how close the mask is to a reference."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from napari.layers import Labels
from qtpy.QtCore import Qt, QTimer
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QLabel, QTableWidget, QTableWidgetItem, QWidget

from napari_medattn.correct.boxes import bounds, foreground, grown
from napari_medattn.layerdata import KEY
from napari_medattn.training.metrics import ClassScores, evaluate
from napari_medattn.widgets.case import Case
from napari_medattn.widgets.correct.classes import Classes
from napari_medattn.widgets.jobs import Job, Jobs, Steps
from napari_medattn.widgets.parts import MessageLine, choice, column, fit_rows, row
from napari_medattn.widgets.session import Session

_ROW = 22  # pixels
_REST_MS = 1000  # figures wait for a pause in painting
_NONE = "nothing"


@dataclass(frozen=True)
class Figures:
    """How things stand.

    Attributes:
        edited: Voxels that a person edited.
        of_scan: Their share of all voxels.
        of_classes: Share of the classes' voxels that a person edited; nan without any.
        scores: Agreement with the reference by label, if there is one.
    """

    edited: int
    of_scan: float
    of_classes: float
    scores: dict[int, ClassScores]


class FiguresPanel(QWidget):
    """Shares and scores, brought up to date in the background after every pause.

    Args:
        session: The dock's session.
        jobs: The dock's jobs.
        message: Where to say what went wrong.
    """

    def __init__(self, session: Session, jobs: Jobs, message: MessageLine) -> None:
        super().__init__()
        self.session, self.jobs, self.message = session, jobs, message
        self.figures: Figures | None = None
        self._job: Job | None = None
        self._listed: list[Labels] = []
        self._followed: Labels | None = None
        self.reference = choice(
            "reference",
            "Compare the mask with another labels layer of its shape: Dice, IoU and HD95 per class, while you work.",
        )
        self.reference.addItem(_NONE, None)
        self.label = QLabel()
        self.label.setWordWrap(True)
        self.table = QTableWidget(0, 4)
        self.table.setAccessibleName("agreement with the reference")
        self.table.setToolTip("HD95: 95th percentile of the distance between the surfaces.")
        self.table.verticalHeader().setVisible(False)
        self.table.verticalHeader().setDefaultSectionSize(_ROW)
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        self.table.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.table.horizontalHeader().setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        for narrow in (1, 2, 3):
            self.table.horizontalHeader().setSectionResizeMode(narrow, QHeaderView.ResizeMode.ResizeToContents)
        column(self, self.label, row(QLabel("compare with"), self.reference, stretch=1), self.table)
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.setInterval(_REST_MS)
        self._rest.timeout.connect(self.start)
        self.reference.currentIndexChanged.connect(self._chosen)
        session.edits_changed.connect(self._later)
        session.mask_changed.connect(self.refresh)
        session.image_changed.connect(self.refresh)
        session.viewer.layers.events.inserted.connect(self.refresh)
        session.viewer.layers.events.removed.connect(self.refresh)
        self.refresh()

    def close(self) -> bool:
        """Let go of the viewer."""
        self.session.viewer.layers.events.inserted.disconnect(self.refresh)
        self.session.viewer.layers.events.removed.disconnect(self.refresh)
        self._follow(None)
        return True

    @property
    def chosen(self) -> Labels | None:
        """The reference that is compared with."""
        layer: Labels | None = self.reference.currentData()
        return layer

    def refresh(self, event: Any = None) -> None:
        """List what can be compared with, and count anew after a pause."""
        case, before = self.session.case, self.chosen
        found = _candidates(case) if case is not None else []
        if found != self._listed:
            self._listed = found
            self.reference.blockSignals(True)
            self.reference.clear()
            self.reference.addItem(_NONE, None)
            for layer in found:
                self.reference.addItem(layer.name, layer)
            if before in found:
                self.reference.setCurrentIndex(found.index(before) + 1)
            self.reference.blockSignals(False)
            if self.chosen is not before:
                self._chosen()
        self.reference.setEnabled(bool(found))
        if case is None or case.mask is None:
            self.figures = None
            self._fill()
        else:
            self._rest.start()

    def start(self) -> None:
        """Count and compare now, in the background."""
        case = self.session.case
        if self._job is not None:
            self._job.cancel()
        if case is None or case.mask is None or case.watch is None:
            return
        case.watch.flush()
        reference, mask = self.chosen, case.mask
        labels, edited, count = case.watch.labels, case.watch.log.edited, case.edited
        truth = None if reference is None else np.asarray(reference.data)
        if truth is not None and truth.shape != labels.shape:
            truth = None
        spacing = tuple(float(step) for step in mask.metadata[KEY]["grid"].spacing[-labels.ndim :])

        def done(figures: Figures) -> None:
            if self._job is job and case is self.session.case and reference is self.chosen:
                self._job, self.figures = None, figures
                self._fill()

        job = self._job = self.jobs.start(
            "comparing",
            lambda: figure_steps(labels, edited, count, truth, spacing),
            on_done=done,
            on_error=self.message.fail,
            quiet=True,
        )

    def _chosen(self, event: Any = None) -> None:
        self._follow(self.chosen)
        self.figures = None
        self._fill()
        self.start()

    def _follow(self, layer: Labels | None) -> None:
        """Hear of changes of the reference too."""
        followed, self._followed = self._followed, layer
        if followed is not None:
            followed.events.data.disconnect(self._later)
            followed.events.paint.disconnect(self._later)
        if layer is not None:
            layer.events.data.connect(self._later)
            layer.events.paint.connect(self._later)

    def _later(self, event: Any = None) -> None:
        self._rest.start()

    def _fill(self) -> None:
        case, figures = self.session.case, self.figures
        scores = figures.scores if figures is not None else {}
        self.table.setVisible(bool(scores))
        self.table.setRowCount(len(scores))
        if case is None or case.mask is None or figures is None:
            self.label.setText("")
            return
        part = "" if math.isnan(figures.of_classes) else f", {_percent(figures.of_classes)} of the classes' voxels"
        self.label.setText(f"Edited {figures.edited:,} voxels: {_percent(figures.of_scan)} of the scan{part}.")
        grid = case.mask.metadata[KEY].get("grid")
        self.table.setHorizontalHeaderLabels(["class", "Dice", "IoU", f"HD95 {grid.units if grid is not None else ''}"])
        classes = Classes(case.mask)
        for at, (number, score) in enumerate(scores.items()):
            words = (classes.name(number), _score(score.dice, 3), _score(score.iou, 3), _score(score.hd95, 1))
            for place, text in enumerate(words):
                item = QTableWidgetItem(text)
                if place:
                    item.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
                self.table.setItem(at, place, item)
        fit_rows(self.table, self.table.horizontalHeader(), _ROW, len(scores))


def figure_steps(labels: Any, edited: Any, count: int, truth: Any, spacing: tuple[float, ...]) -> Steps:
    """Count and compare; looks for a reason to stop after every slice and every class.

    Args:
        labels: The mask.
        edited: Its voxels that a person edited.
        count: How many there are.
        truth: The reference, of the mask's shape, or None.
        spacing: Voxel size along the mask's axes.
    """
    inside = own = 0
    planes = (-1, *labels.shape[-2:])
    for part, mine in zip(labels.reshape(planes), edited.reshape(planes), strict=True):
        inside += int(np.count_nonzero(part > 0))
        own += int(np.count_nonzero((part > 0) & mine))
        yield
    scores = {}
    if truth is not None:
        for number in sorted({*foreground(labels), *foreground(truth)}):
            yield
            a, b = labels == number, truth == number
            around = bounds(a | b)
            if around is None:
                continue  # painted over while it was counted
            around = grown(around, labels.shape, (1,) * labels.ndim)
            pair = [part[around].astype(np.uint8) for part in (a, b)]
            scores[number] = evaluate(pair[0], pair[1], spacing=spacing, num_classes=2)[1]
    return Figures(count, count / max(1, labels.size), own / inside if inside else math.nan, scores)


def _candidates(case: Case) -> list[Labels]:
    """Labels layers of the mask's shape that are neither the mask nor something that we only show."""
    mask = case.mask
    if mask is None:
        return []
    shown = [layer for layer in case.viewer.layers if isinstance(layer, Labels) and layer != mask]
    return [
        layer
        for layer in shown
        if tuple(layer.data.shape) == tuple(mask.data.shape) and "kind" not in layer.metadata.get(KEY, {})
    ]


def _percent(share: float) -> str:
    return f"{share:.2%}" if share < 0.1 else f"{share:.0%}"


def _score(value: float, places: int) -> str:
    return "-" if math.isnan(value) else "not there" if math.isinf(value) else f"{value:.{places}f}"
