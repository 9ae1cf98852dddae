"""`ResultView`: how a new version does beside its parent, and what to do with it where that is not clear."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QLabel, QTableWidget, QTableWidgetItem, QWidget

from napari_medattn.widgets.parts import button, column, fit_rows, row

if TYPE_CHECKING:
    from napari_medattn.learning.learned import Learned
    from napari_medattn.learning.scoring import Scores

ARROW = " \u2192 "
_COLUMNS = (
    ("class", "Which class, and what it was scored on."),
    ("Dice", "Dice before and after, 0..1: more is better."),
    ("HD95", "95th percentile of the surface distance before and after, in the scan's unit: less is better."),
)


@dataclass(frozen=True)
class Line:
    """A row of the table; values before and after, nan where nothing was measured."""

    name: str
    dice: tuple[float, float]
    hd95: tuple[float, float]


def lines_of(learned: Learned) -> list[Line]:
    """The scores by class: on what was held out, then on what was learned earlier."""
    found = _lines(learned.before, learned.after, "")
    return found + _lines(learned.earlier_before, learned.earlier_after, ", earlier cases")


def headline(learned: Learned) -> str:
    """The one number that counts, before and after."""
    if learned.before is None or learned.after is None:
        before, after = learned.agreement
        return f"agrees with {before:.1%}{ARROW}{after:.1%} of what you corrected; nothing could be held out"
    what = "held-out Dice" if not learned.folds else f"Dice on corrections held back in {learned.folds} parts"
    return f"{what} {_mean(learned.before.dice):.3f}{ARROW}{_mean(learned.after.dice):.3f}"


def in_words(learned: Learned) -> str:
    """What came of learning, in sentences."""
    name, parent = learned.checkpoint.name, learned.checkpoint.card.parent_name
    said = [f"Saved {name}: {learned.verdict.word}. {learned.verdict.sentence}"]
    if learned.stopped:
        said.append(learned.stopped[0].upper() + learned.stopped[1:].rstrip(".") + ".")
    said += list(learned.notes)
    if not learned.verdict.may_become_current:
        said.append(f"Segment goes on with {parent} unless you choose.")
    return " ".join(said)


class ResultView(QWidget):
    """Shows the scores, and asks where the new version did not become current by itself."""

    decided = Signal(bool)  # whether to use the new version

    def __init__(self) -> None:
        super().__init__()
        self.headline = QLabel()
        self.headline.setWordWrap(True)
        self.headline.setStyleSheet("font-weight: bold;")
        self.table = QTableWidget(0, len(_COLUMNS))
        self.table.setHorizontalHeaderLabels([title for title, _ in _COLUMNS])
        for place, (_, tip) in enumerate(_COLUMNS):
            self.table.horizontalHeaderItem(place).setToolTip(tip)
        self.table.setAccessibleName("scores before and after")
        self.table.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.table.setSelectionMode(QAbstractItemView.SelectionMode.NoSelection)
        self.table.setTabKeyNavigation(False)
        self.table.setShowGrid(False)
        self.table.verticalHeader().hide()
        self.table.verticalHeader().setDefaultSectionSize(self.table.fontMetrics().height() + 6)
        self.table.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.table.horizontalHeader().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        self.table.horizontalHeader().setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        self.use = button("Use it", "")
        self.keep = button("Keep old", "")
        self.question = row(self.use, self.keep)
        column(self, self.headline, self.table, self.question).setContentsMargins(0, 0, 0, 0)
        self.use.clicked.connect(lambda: self.decided.emit(True))
        self.keep.clicked.connect(lambda: self.decided.emit(False))
        self.setVisible(False)

    def show_result(self, learned: Learned, parent: str) -> None:
        """Show what came of learning.

        Args:
            learned: The new version and its scores.
            parent: Name of the version that is kept otherwise.
        """
        name, lines = learned.checkpoint.name, lines_of(learned)
        self.headline.setText(headline(learned))
        self.table.setRowCount(len(lines))
        for place, line in enumerate(lines):
            for number, text in enumerate((line.name, pair(line.dice, 3), pair(line.hd95, 1))):
                item = QTableWidgetItem(text)
                item.setToolTip(f"{line.name}: {text}")
                if number:
                    item.setTextAlignment(Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
                self.table.setItem(place, number, item)
        self.table.setVisible(bool(lines))
        fit_rows(self.table, self.table.horizontalHeader(), self.table.rowHeight(0) if lines else 0, len(lines))
        self.use.setText(f"Use {name}")
        self.use.setToolTip(f"Segment with {name} from now on; {parent} stays in the tree.")
        self.keep.setText(f"Keep {parent}")
        self.keep.setToolTip(f"Go on with {parent}; {name} stays in the tree.")
        self.question.setVisible(not learned.verdict.may_become_current)
        self.setVisible(True)

    def settle(self) -> None:
        """Ask no more; the numbers stay."""
        self.question.setVisible(False)


def pair(values: tuple[float, float], digits: int) -> str:
    """Two values, a dash for what was not measured; empty if neither was."""
    if all(math.isnan(value) for value in values):
        return "-"
    return ARROW.join("-" if math.isnan(value) else f"{value:.{digits}f}" for value in values)


def _lines(before: Scores | None, after: Scores | None, suffix: str) -> list[Line]:
    if before is None or after is None:
        return []
    return [
        Line(
            name + suffix,
            (before.dice[name], after.dice.get(name, math.nan)),
            (before.hd95.get(name, math.nan), after.hd95.get(name, math.nan)),
        )
        for name in before.dice
    ]


def _mean(scores: Mapping[str, float]) -> float:
    known = [value for value in scores.values() if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan
