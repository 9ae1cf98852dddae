"""A table of frozen rows that sorts by number and jumps to what a row is about."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from qtpy.QtCore import QAbstractTableModel, QModelIndex, QSortFilterProxyModel, Qt, Signal
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableView

_NUMBER = int(Qt.ItemDataRole.UserRole)
_RIGHT = int(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        title: Its header.
        tip: What its numbers mean.
        value: What rows are sorted by; None where a row has no such value.
        text: What is shown.
        width: In pixels; 0 for the column that takes the room that is left.
    """

    title: str
    tip: str
    value: Callable[[Any], Any]
    text: Callable[[Any], str]
    width: int = 0


class RowTable(QTableView):
    """Shows rows; a click on a header sorts, Enter or a double click on a row activates it.

    Args:
        columns: What is shown of each row.
        tip: The tooltip of a row.
        name: For those who hear the window instead of seeing it.
    """

    row_activated = Signal(object)

    def __init__(self, columns: Sequence[Column], tip: Callable[[Any], str], name: str) -> None:
        super().__init__()
        self._rows = _Rows(columns, tip)
        self._sorted = _KnownFirst()
        self._sorted.setSourceModel(self._rows)
        self._sorted.setSortRole(_NUMBER)
        self.setModel(self._sorted)
        self.setSortingEnabled(True)
        self._sorted.sort(-1)  # as they come, until a header is clicked
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setMinimumHeight(160)
        self.setTabKeyNavigation(False)  # Tab leaves the table, arrows move in it
        self.setShowGrid(False)
        self.setAccessibleName(name)
        self.verticalHeader().hide()
        self.verticalHeader().setMinimumSectionSize(self.fontMetrics().height() + 4)
        self.verticalHeader().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)  # long names take two lines
        header = self.horizontalHeader()
        header.setSortIndicatorShown(True)
        header.setSortIndicator(-1, Qt.SortOrder.AscendingOrder)
        header.setMinimumSectionSize(24)
        for number, column in enumerate(columns):
            if column.width:
                self.setColumnWidth(number, column.width)
            else:
                header.setSectionResizeMode(number, QHeaderView.ResizeMode.Stretch)
        self.activated.connect(self._activate)

    @property
    def rows(self) -> list[Any]:
        """The rows in the order in which they are shown."""
        order = range(self._sorted.rowCount())
        return [self._row(self._sorted.index(number, 0)) for number in order]

    @property
    def current(self) -> Any:
        """The chosen row, or None."""
        index = self.currentIndex()
        return self._row(index) if index.isValid() else None

    def fill(self, rows: Sequence[Any]) -> None:
        """Show other rows, in the order that was chosen."""
        self._rows.fill(rows)

    def select(self, matches: Callable[[Any], bool]) -> bool:
        """Choose the first row that matches; says whether there is one."""
        for number, row in enumerate(self.rows):
            if matches(row):
                self.selectRow(number)
                self.scrollTo(self._sorted.index(number, 0))
                return True
        return False

    def _row(self, index: QModelIndex) -> Any:
        return self._rows.rows[self._sorted.mapToSource(index).row()]

    def _activate(self, index: QModelIndex) -> None:
        self.row_activated.emit(self._row(index))


class _Rows(QAbstractTableModel):
    def __init__(self, columns: Sequence[Column], tip: Callable[[Any], str]) -> None:
        super().__init__()
        self.columns, self.tip = columns, tip
        self.rows: list[Any] = []

    def fill(self, rows: Sequence[Any]) -> None:
        self.beginResetModel()
        self.rows = list(rows)
        self.endResetModel()

    def rowCount(self, parent: QModelIndex = QModelIndex()) -> int:  # noqa: B008
        return 0 if parent.isValid() else len(self.rows)

    def columnCount(self, parent: QModelIndex = QModelIndex()) -> int:  # noqa: B008
        return 0 if parent.isValid() else len(self.columns)

    def headerData(self, section: int, orientation: Qt.Orientation, role: int = 0) -> Any:
        if orientation != Qt.Orientation.Horizontal:
            return None
        if role == Qt.ItemDataRole.DisplayRole:
            return self.columns[section].title
        return self.columns[section].tip if role == Qt.ItemDataRole.ToolTipRole else None

    def data(self, index: QModelIndex, role: int = 0) -> Any:
        row, column = self.rows[index.row()], self.columns[index.column()]
        if role == Qt.ItemDataRole.DisplayRole:
            return column.text(row)
        if role == _NUMBER:
            return column.value(row)
        if role == Qt.ItemDataRole.TextAlignmentRole and isinstance(column.value(row), int | float):
            return _RIGHT
        return self.tip(row) if role == Qt.ItemDataRole.ToolTipRole else None


class _KnownFirst(QSortFilterProxyModel):
    """Sorts by value; rows without one come last either way."""

    def lessThan(self, left: QModelIndex, right: QModelIndex) -> bool:
        one, other = left.data(_NUMBER), right.data(_NUMBER)
        if one is None or other is None:
            first, second = (one, other) if self.sortOrder() == Qt.SortOrder.AscendingOrder else (other, one)
            return first is not None and second is None
        return bool(one < other)
