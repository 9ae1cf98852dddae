"""Small pieces that the panels share."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from typing import Any

from napari.utils.notifications import show_error
from qtpy.QtCore import Qt
from qtpy.QtWidgets import (
    QAbstractItemView,
    QComboBox,
    QDoubleSpinBox,
    QHBoxLayout,
    QLabel,
    QMessageBox,
    QProgressBar,
    QPushButton,
    QSizePolicy,
    QToolButton,
    QVBoxLayout,
    QWidget,
)

from napari_medattn.errors import MedAttnError
from napari_medattn.events import Progress, for_people


def button(text: str, tip: str, *, enabled: bool = True) -> QPushButton:
    """A button whose tooltip says what will change."""
    made = QPushButton(text)
    made.setToolTip(tip)
    made.setAccessibleName(text)
    made.setEnabled(enabled)
    return made


def choice(name: str, tip: str, items: Mapping[str, Any] | None = None) -> QComboBox:
    """A box to choose from, with an accessible name, that long entries do not widen.

    Args:
        name: What is chosen.
        tip: What the choice changes.
        items: Texts and their data.
    """
    made = QComboBox()
    made.setAccessibleName(name)
    made.setToolTip(tip)
    made.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    made.setMinimumContentsLength(5)
    for text, data in (items or {}).items():
        made.addItem(text, data)
    return made


def number(name: str, tip: str, span: tuple[float, float, float], first: float) -> QDoubleSpinBox:
    """A box for a number, with an accessible name, that scrolling the dock does not change.

    Args:
        name: What it is.
        tip: What it changes.
        span: Lowest, highest, and the step of its arrows.
        first: What it shows at first.
    """
    low, high, step = span
    made = QDoubleSpinBox()
    made.setDecimals(2)
    made.setRange(low, high)
    made.setSingleStep(step)
    made.setValue(first)
    made.setAccessibleName(name)
    made.setToolTip(tip)
    made.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
    return made


def select(box: QComboBox, data: Any) -> None:
    """Choose the entry with this data, if there is one."""
    found = [place for place in range(box.count()) if box.itemData(place) == data]
    if found:
        box.setCurrentIndex(found[0])


def row(*widgets: QWidget, stretch: int | None = None) -> QWidget:
    """Widgets side by side; the one with index ``stretch`` takes the room that is left."""
    holder = QWidget()
    layout = QHBoxLayout(holder)
    layout.setContentsMargins(0, 0, 0, 0)
    for index, widget in enumerate(widgets):
        layout.addWidget(widget, 1 if index == stretch else 0)
    return holder


def column(widget: QWidget, *children: QWidget) -> QVBoxLayout:
    """Lay ``children`` out below each other in ``widget``."""
    layout = QVBoxLayout(widget)
    layout.setContentsMargins(6, 2, 6, 6)
    layout.setSpacing(5)
    for child in children:
        layout.addWidget(child)
    return layout


def fit_rows(view: QAbstractItemView, header: QWidget, row_height: int, rows: int, most: int = 6) -> None:
    """Make a table or tree just as high as its rows, up to ``most``; it scrolls beyond that."""
    shown = min(max(rows, 1), most)
    view.setFixedHeight(header.sizeHint().height() + shown * row_height + 2 * view.frameWidth() + 2)


class Section(QWidget):
    """A part of the dock that folds away under its title."""

    def __init__(self, title: str, content: QWidget, *, open_: bool = True) -> None:
        super().__init__()
        self.content = content
        self.header = QToolButton()
        self.header.setText(title)
        self.header.setCheckable(True)
        self.header.setChecked(open_)
        self.header.setToolButtonStyle(Qt.ToolButtonStyle.ToolButtonTextBesideIcon)
        self.header.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.header.setAccessibleName(f"{title} part")
        self.header.setToolTip(f"Show or hide the {title} part.")
        self.header.setStyleSheet("QToolButton { border: none; font-weight: bold; text-align: left; padding: 3px; }")
        self.header.toggled.connect(self._fold)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self.header)
        layout.addWidget(content)
        self._fold(open_)

    def _fold(self, open_: bool) -> None:
        self.header.setArrowType(Qt.ArrowType.DownArrow if open_ else Qt.ArrowType.RightArrow)
        self.content.setVisible(open_)


class MessageLine(QWidget):
    """One sentence to the person: a hint, a result, or an error with its details on demand."""

    def __init__(self) -> None:
        super().__init__()
        self.label = QLabel()
        self.label.setWordWrap(True)
        self.label.setTextInteractionFlags(Qt.TextInteractionFlag.TextSelectableByMouse)
        self.details = QToolButton()
        self.details.setText("details")
        self.details.setAccessibleName("error details")
        self.details.setToolTip("Show the technical details of this error.")
        self.details.clicked.connect(self._show_details)
        self._traceback = ""
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.label, 1)
        layout.addWidget(self.details)
        self.say("")

    @property
    def text(self) -> str:
        """The sentence that is shown."""
        return self.label.text()

    def say(self, text: str) -> None:
        """Show a hint or a result."""
        self.label.setText(text)
        self.label.setStyleSheet("")
        self.details.setVisible(False)
        self.setVisible(bool(text))

    def fail(self, error: BaseException) -> None:
        """Show an error as one sentence, here and as napari's notification."""
        known = isinstance(error, MedAttnError)
        text = str(error) if known else f"Something unexpected went wrong ({type(error).__name__}: {error})."
        self.say(text)
        self.label.setStyleSheet("color: #e5604d;")
        self._traceback = "".join(traceback.format_exception(error))
        self.details.setVisible(True)
        show_error(text)

    def _show_details(self) -> None:
        box = QMessageBox(QMessageBox.Icon.Information, "Details", self.text, parent=self)
        box.setDetailedText(self._traceback)
        box.exec()


class ProgressLine(QWidget):
    """How far a job is, in words and as a bar."""

    def __init__(self) -> None:
        super().__init__()
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setFixedHeight(10)
        self.label = QLabel()
        column(self, self.bar, self.label).setContentsMargins(0, 0, 0, 0)
        self.finish()

    def follow(self, progress: Progress, of: str = "") -> None:
        """Show an event of the work on something."""
        self.setVisible(True)
        self.bar.setRange(0, progress.total)
        self.bar.setValue(progress.done)
        if not progress.total:
            self.label.setText(f"{progress.stage} {of} ...")
            return
        left = progress.seconds_left
        parts = [f"{progress.stage} {of}".strip() + f": {progress.done}/{progress.total} {progress.unit}"]
        parts += [f"{for_people(left)} left"] if left is not None else []
        self.label.setText(", ".join(parts))

    def finish(self) -> None:
        """Put the line away."""
        self.setVisible(False)
