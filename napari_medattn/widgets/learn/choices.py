"""`Choices`: how to learn, remembered from window to window."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QSignalBlocker, Qt
from qtpy.QtWidgets import QDoubleSpinBox, QFormLayout, QLabel, QVBoxLayout, QWidget

from napari_medattn.widgets.parts import Section, choice, number, select
from napari_medattn.widgets.remembered import remember, remembered

if TYPE_CHECKING:
    from napari_medattn.learning.methods import Method

AUTOMATIC = -1.0  # of untouched voxels: as much as suits the corrections
AUTOMATIC_STEP = -0.05  # of the others: one step of their boxes below none
_TIMES = {"automatic": 0.0, "15 s": 15.0, "30 s": 30.0, "1 min": 60.0, "3 min": 180.0, "10 min": 600.0}


class Choices(QWidget):
    """Method, time, and under "more" what is seldom changed."""

    def __init__(self) -> None:
        super().__init__()
        self.method = choice("method", "What of the network learns.", {"Whole network": "whole"})
        self.time = choice(
            "time", "How long to learn, preparing and scoring included; automatic is what suits the device.", _TIMES
        )
        self.rehearsal = number(
            "rehearsal",
            "Share of what is looked at that comes from cases learned earlier, against forgetting them: 0 to 1; "
            "automatic is more where much is to be learned.",
            (AUTOMATIC_STEP, 1.0, 0.05),
            AUTOMATIC_STEP,
        )
        self.anchor = number(
            "hold to parent",
            "Pull of all weights towards those that learning starts from, against forgetting: 0 is none; "
            "automatic is less where much is to be learned.",
            (AUTOMATIC_STEP, 100.0, 0.05),
            AUTOMATIC_STEP,
        )
        self.opinion = number(
            "untouched voxels",
            "How much voxels that nobody corrected are held to what the network says of them: 0 is not at all; "
            "automatic is more where only what was wrong is corrected.",
            (AUTOMATIC, 100.0, 1.0),
            AUTOMATIC,
        )
        rare = QWidget()
        rarely = QFormLayout(rare)
        rarely.setContentsMargins(6, 0, 0, 0)
        for box in (self.rehearsal, self.anchor, self.opinion):
            box.setSpecialValueText("automatic")
            label = QLabel(box.accessibleName())
            label.setToolTip(box.toolTip())
            rarely.addRow(label, box)
        self.more = Section("more", rare, open_=False)
        self.say = QLabel()
        self.say.setWordWrap(True)
        form = QFormLayout()
        form.addRow("method", self.method)
        form.addRow("time", self.time)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addLayout(form)
        layout.addWidget(self.say)
        layout.addWidget(self.more)
        self.recall()
        self.method.currentIndexChanged.connect(lambda _: remember("learn", "method", self.method.currentData()))
        self.method.currentIndexChanged.connect(self._say_method)
        self.time.currentIndexChanged.connect(lambda _: remember("learn", "seconds", self.time.currentData()))
        for name, box in self._numbers.items():
            box.valueChanged.connect(self._keeper(name))

    @property
    def settings(self) -> Any:
        """What napari remembers for us, in its Preferences too; None where napari does not know the plugin."""
        return remembered("learn")

    def recall(self) -> None:
        """Choose what was chosen last."""
        kept = self.settings
        if kept is None:
            return
        for name, box in self._numbers.items():
            with QSignalBlocker(box):
                value = getattr(kept, name)
                box.setValue(value if value >= 0 else box.minimum())
        with QSignalBlocker(self.time):
            select(self.time, kept.seconds)
        with QSignalBlocker(self.method):
            select(self.method, kept.method)

    def offer(self, methods: Mapping[str, Method]) -> None:
        """Fill in the methods that there are, once that is known."""
        kept = self.settings
        with QSignalBlocker(self.method):
            chosen = kept.method if kept is not None else self.method.currentData()
            self.method.clear()
            for place, method in enumerate(methods.values()):
                self.method.addItem(method.title, method.name)
                self.method.setItemData(place, method.sentence, Qt.ItemDataRole.ToolTipRole)
            select(self.method, chosen)
        self._say_method()

    def plan(self) -> dict[str, Any]:
        """The arguments of a `LearnPlan`."""
        numbers = {name: box.value() for name, box in self._numbers.items()}
        return {
            "method": self.method.currentData(),
            "seconds": self.time.currentData() or None,
            **{name: None if value < 0 else value for name, value in numbers.items()},
        }

    @property
    def _numbers(self) -> dict[str, QDoubleSpinBox]:
        return {"rehearsal": self.rehearsal, "anchor": self.anchor, "opinion": self.opinion}

    def _say_method(self, _index: int = 0) -> None:
        sentence = self.method.currentData(Qt.ItemDataRole.ToolTipRole) or ""
        self.say.setText(sentence)
        self.say.setVisible(bool(sentence))

    def _keeper(self, name: str) -> Callable[[float], None]:
        return lambda value: remember("learn", name, value)
