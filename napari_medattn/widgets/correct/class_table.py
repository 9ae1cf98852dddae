"""The class table: names, colours, what is shown and locked, voxels and millilitres."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from qtpy.QtCore import QSignalBlocker, Qt
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import (
    QAbstractItemView,
    QColorDialog,
    QHeaderView,
    QInputDialog,
    QMenu,
    QTableWidget,
    QTableWidgetItem,
    QToolButton,
)

from napari_medattn.correct.proposal import Labels, Proposal
from napari_medattn.errors import MedAttnError
from napari_medattn.layerdata import KEY
from napari_medattn.widgets.case import Case
from napari_medattn.widgets.correct.classes import Classes
from napari_medattn.widgets.correct.menu_button import menu_button
from napari_medattn.widgets.jobs import Job, Jobs, Steps
from napari_medattn.widgets.parts import MessageLine, fit_rows
from napari_medattn.widgets.session import Session

_ROW = 24  # pixels
_UNNAMED = 32  # labels without a name that are listed
_TITLES = ("class", "show", "lock", "ml", "voxels")
_NAME, _SHOW, _LOCK, _ML, _VOXELS = range(len(_TITLES))


class ClassTable(QTableWidget):
    """One row per class; voxels change by nothing but merging, which is one undo step.

    Args:
        session: The dock's session.
        jobs: The dock's jobs.
        message: Where to say what happened.
    """

    def __init__(self, session: Session, jobs: Jobs, message: MessageLine) -> None:
        super().__init__(0, len(_TITLES))
        self.session, self.jobs, self.message = session, jobs, message
        self.labels: list[int] = []  # of the rows
        self.counts: dict[int, int] = {}
        self._counting: Job | None = None
        self._merging: Job | None = None
        self._counted: Case | None = None
        self.setHorizontalHeaderLabels(list(_TITLES))
        self.setAccessibleName("classes of the mask")
        self.setToolTip(
            "Choose a class to paint with. Double-click a name to change it. A locked class keeps its voxels, "
            "whoever paints or runs."
        )
        self.verticalHeader().setVisible(False)
        self.verticalHeader().setDefaultSectionSize(_ROW)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setEditTriggers(QAbstractItemView.EditTrigger.DoubleClicked)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        header = self.horizontalHeader()
        header.setMinimumSectionSize(20)
        header.setSectionResizeMode(_NAME, QHeaderView.ResizeMode.Stretch)
        for narrow in range(1, len(_TITLES)):
            header.setSectionResizeMode(narrow, QHeaderView.ResizeMode.ResizeToContents)
        self.actions_button = self._menu_button()
        self.setContextMenuPolicy(Qt.ContextMenuPolicy.CustomContextMenu)
        self.customContextMenuRequested.connect(self._show_menu)
        self.cellClicked.connect(self._clicked)
        self.itemChanged.connect(self._changed)
        self.refresh()

    def refresh(self) -> None:
        """Names and colours at once; the figures follow when they have been counted in the background."""
        case = self.session.case
        ready = case is not None and case.mask is not None
        for widget in (self, self.actions_button):
            widget.setEnabled(ready)
        if self._counting is not None:
            self._counting.cancel()
        if case is None or case.mask is None:
            self.labels = []
            self.setRowCount(0)
            fit_rows(self, self.horizontalHeader(), _ROW, 0)
            return
        if self._counted is not case:
            self._counted, self.counts = case, {}
        self._list(case)
        self._count(case)

    @property
    def counting(self) -> bool:
        """Whether voxels are being counted."""
        return self._counting is not None and self._counting.running

    @property
    def chosen(self) -> int | None:
        """The label of the row that is chosen."""
        row = self.currentRow()
        return self.labels[row] if 0 <= row < len(self.labels) else None

    def add(self, name: str) -> None:
        """Add a class, and paint with it."""

        def added(classes: Classes) -> None:
            classes.mask.selected_label = classes.add(name)

        self._with(added)

    def rename(self, label: int, name: str) -> None:
        """Call a class something else."""
        self._with(lambda classes: classes.rename(label, name))

    def move(self, label: int, by: int) -> None:
        """Show a class further up (< 0) or down."""
        self._with(lambda classes: classes.move(label, by))

    def paint(self, label: int, colour: str) -> None:
        """Give a class a colour."""
        self._with(lambda classes: classes.paint(label, colour))

    def lock(self, label: int, on: bool) -> None:
        """Lock or unlock a class."""
        case = self.session.case
        if case is not None and case.mask is not None:
            case.lock(case.locked | {label} if on else case.locked - {label})

    def merge(self, label: int, into: int) -> Job | None:
        """Give all voxels of a class to another, as one undo step; also those that a person vouches for."""
        case = self.session.case
        if case is None or case.mask is None or case.watch is None or (self._merging and self._merging.running):
            return None
        case.watch.flush()
        labels, classes = case.mask.data, Classes(case.mask)

        def steps() -> Steps:
            from napari_medattn.correct.relabel import merge

            yield from ()
            return merge(labels, [label], into)

        def done(proposal: Proposal) -> None:
            if case.mask is None or case.mask.data is not labels:
                return
            # What was painted over meanwhile is not of the class any more.
            still = replace(proposal, changes=proposal.changes & (labels[proposal.box] == label))
            changed = case.apply(still, over_trusted=True)
            self.message.say(
                f"Merged {classes.name(label)} into {classes.name(into)}: {changed.changed:,} voxels"
                + (f", {changed.locked:,} left alone: their class is locked." if changed.locked else ".")
            )

        self._merging = self.jobs.start("merging classes", steps, on_done=done, on_error=self.message.fail)
        return self._merging

    def _with(self, action: Callable[[Classes], None]) -> None:
        case = self.session.case
        if case is None or case.mask is None:
            return
        try:
            action(Classes(case.mask))
        except MedAttnError as error:
            self.message.fail(error)
            self._list(case)
            return
        self.message.say("")
        case.mask_changed.emit()

    def _list(self, case: Case) -> None:
        assert case.mask is not None
        classes = Classes(case.mask)
        unnamed = sorted(n for n, count in self.counts.items() if n >= len(classes.names) and count)
        self.labels = [*classes.order, *unnamed[:_UNNAMED]]
        more = len(unnamed) - _UNNAMED
        blocker = QSignalBlocker(self)
        chosen = case.mask.selected_label
        self.setRowCount(len(self.labels) + (more > 0))
        for row, label in enumerate(self.labels):
            self._fill(row, label, classes, label in case.locked)
        if more > 0:
            last = len(self.labels)
            for column in range(len(_TITLES)):
                self.setItem(last, column, _item("" if column else f"and {more:,} labels more"))
        fit_rows(self, self.horizontalHeader(), _ROW, self.rowCount())
        if chosen in self.labels:
            self.selectRow(self.labels.index(chosen))
        else:
            self.clearSelection()
        del blocker
        self.viewport().update()

    def _fill(self, row: int, label: int, classes: Classes, locked: bool) -> None:
        name = _item(classes.name(label), Qt.ItemFlag.ItemIsEditable)
        name.setIcon(_swatch(classes.colour(label)))
        name.setToolTip(f"{classes.name(label)}, label {label}")
        self.setItem(row, _NAME, name)
        for column, on in ((_SHOW, label not in classes.hidden), (_LOCK, locked)):
            box = _item("", Qt.ItemFlag.ItemIsUserCheckable)
            box.setCheckState(Qt.CheckState.Checked if on else Qt.CheckState.Unchecked)
            box.setData(Qt.ItemDataRole.AccessibleTextRole, f"{_TITLES[column]} {classes.name(label)}")
            self.setItem(row, column, box)
        count, size = self.counts.get(label), _voxel_ml(classes.mask)
        for column, text in (
            (_ML, "" if count is None else "-" if size is None else f"{count * size:.2f}"),
            (_VOXELS, "" if count is None else f"{count:,}"),
        ):
            figure = _item(text)
            figure.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
            self.setItem(row, column, figure)

    def _count(self, case: Case) -> None:
        assert case.mask is not None
        labels = case.mask.data

        def done(counts: dict[int, int]) -> None:
            if case is self.session.case and case.mask is not None and case.mask.data is labels:
                self.counts = counts
                if self.state() != QAbstractItemView.State.EditingState:  # a name that is being typed stays
                    self._list(case)

        self._counting = self.jobs.start(
            "counting voxels", lambda: count_steps(labels), on_done=done, on_error=self.message.fail, quiet=True
        )

    def _clicked(self, row: int, _column: int) -> None:
        case = self.session.case
        if case is not None and case.mask is not None and row < len(self.labels):
            self.session.viewer.layers.selection.active = case.mask
            case.mask.selected_label = self.labels[row]

    def _changed(self, item: QTableWidgetItem) -> None:
        case = self.session.case
        if case is None or case.mask is None or item.row() >= len(self.labels):
            return
        label, on = self.labels[item.row()], item.checkState() == Qt.CheckState.Checked
        if item.column() == _SHOW:
            Classes(case.mask).show(label, on)
        elif item.column() == _LOCK:
            self.lock(label, on)
        elif item.column() == _NAME:
            self.rename(label, item.text())

    def _menu_button(self) -> QToolButton:
        tip = "Add a class; rename, recolour, move or merge the one that is chosen."
        made = menu_button("Class", "change classes", tip)
        made.menu().aboutToShow.connect(lambda: self.fill_menu(made.menu()))
        return made

    def _show_menu(self, at: Any) -> None:
        menu = QMenu(self)
        self.fill_menu(menu)
        menu.exec(self.viewport().mapToGlobal(at))

    def fill_menu(self, menu: QMenu) -> None:
        """Offer what can be done with the class that is chosen."""
        menu.clear()
        menu.addAction("Add class ...", self._ask_and_add)
        label, case = self.chosen, self.session.case
        if label is None or case is None or case.mask is None:
            return
        classes = Classes(case.mask)
        name = classes.name(label)
        menu.addAction(f"Rename {name} ...", lambda: self._ask_and_rename(label, name))
        menu.addAction(f"Colour of {name} ...", lambda: self._ask_and_paint(label, classes.colour(label)))
        if label < len(classes.names):
            menu.addAction("Move up", lambda: self.move(label, -1))
            menu.addAction("Move down", lambda: self.move(label, 1))
        others = menu.addMenu(f"Merge {name} into")
        for other in self.labels:
            if other != label:
                others.addAction(classes.name(other), lambda into=other: self.merge(label, into))

    def _ask_and_add(self) -> None:
        name, accepted = QInputDialog.getText(self, "Add class", "Name")
        if accepted:
            self.add(name)

    def _ask_and_rename(self, label: int, name: str) -> None:
        new, accepted = QInputDialog.getText(self, f"Rename {name}", "Name", text=name)
        if accepted:
            self.rename(label, new)

    def _ask_and_paint(self, label: int, colour: str) -> None:
        chosen = QColorDialog.getColor(QColor(colour), self, "Colour of the class")
        if chosen.isValid():
            self.paint(label, chosen.name())


def count_steps(labels: Labels) -> Steps:
    """How many voxels each label above 0 has; looks for a reason to stop after every slice."""
    counts: Counter[int] = Counter()
    few = np.zeros(1 << 16, np.int64)
    for part in labels.reshape(-1, *labels.shape[-2:]):
        if part.dtype.itemsize == 1 or (part.min() >= 0 and part.max() < len(few)):
            found = np.bincount(part[part > 0].astype(np.intp))  # a mask may hold any label
            few[: len(found)] += found
        else:
            numbers, sizes = np.unique(part[part > 0], return_counts=True)
            counts.update(dict(zip(numbers.tolist(), sizes.tolist(), strict=True)))
        yield
    for number in np.flatnonzero(few):
        counts[int(number)] += int(few[number])
    return dict(counts)


def _voxel_ml(mask: Any) -> float | None:
    """A voxel's volume; a 2-D image has none, and lengths in pixels are no millilitres."""
    grid = mask.metadata[KEY].get("grid")
    has_volume = grid is not None and grid.units == "mm" and mask.ndim == 3
    return float(np.prod(grid.spacing)) / 1000 if has_volume else None


def _item(text: str, flag: Qt.ItemFlag = Qt.ItemFlag.NoItemFlags) -> QTableWidgetItem:
    item = QTableWidgetItem(text)
    item.setFlags(Qt.ItemFlag.ItemIsEnabled | Qt.ItemFlag.ItemIsSelectable | flag)
    return item


def _swatch(colour: str) -> QIcon:
    pixmap = QPixmap(12, 12)
    pixmap.fill(QColor(colour))
    return QIcon(pixmap)
