"""Does it matter, by erasing: which class, what with and how far; and the curves."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import numpy as np
import pyqtgraph as pg
from napari.utils.theme import get_theme
from numpy.typing import NDArray
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QLabel, QWidget

from napari_medattn.models import AttentionSite
from napari_medattn.widgets.parts import choice, column, row

if TYPE_CHECKING:
    from napari_medattn.inference import Predictor
    from napari_medattn.look import Scene
    from napari_medattn.look.erasure import Erasure
    from napari_medattn.widgets.session import Session

# What goes first, its colour, its line, which tells it apart without colour too, and how that looks in a text.
CURVES = (
    ("most attended first", "#d55e00", Qt.PenStyle.SolidLine, "—"),
    ("random", "#999999", Qt.PenStyle.DashLine, "- -"),
    ("least attended", "#56b4e9", Qt.PenStyle.DotLine, "···"),
)
MEASURES = {
    "Dice with the unerased mask": "dice",
    "class probability in the mask": "probability",
    "Dice with the reference": "reference",
}
_UP_TO = {"10 %": 0.1, "25 %": 0.25, "50 %": 0.5, "100 %": 1.0}
_WITH = {"blur": "blur", "mean": "mean"}


class EraseView(QWidget):
    """Chooses what is erased, and draws what it did."""

    action = "Erase"
    honest = (
        "Erased images are unlike any that the network was trained on: compare with the random curve, not with 1. "
        "It tells what this mask rests on here, not whether the mask is right."
    )

    def __init__(self) -> None:
        super().__init__()
        self.found: Erasure | None = None
        self.label = choice("class to watch", "The class whose mask is watched while voxels are erased.")
        self.instead = choice(
            "what to erase with", "What erased voxels become: the smoothed image, or the mean of the frame.", _WITH
        )
        self.up_to = choice("erase up to", "The largest share of the voxels to erase, reached in ten steps.", _UP_TO)
        self.up_to.setCurrentText("50 %")
        self.measure = choice("what the curves show", "What is drawn against the erased share.", MEASURES)
        self.plot = _plot()
        self.curves = [
            self.plot.plot([], [], pen=pg.mkPen(colour, width=2, style=line)) for _, colour, line, _ in CURVES
        ]
        self.legend = QLabel("   ".join(_coloured(*curve) for curve in CURVES))
        self.words = QLabel()
        for label in (self.legend, self.words):
            label.setWordWrap(True)
        self.options = QWidget()
        column(
            self.options,
            row(QLabel("class"), self.label, stretch=1),
            row(QLabel("with"), self.instead, QLabel("up to"), self.up_to, stretch=1),
        ).setContentsMargins(0, 0, 0, 0)
        shown = row(QLabel("show"), self.measure, stretch=1)
        column(self, self.legend, self.plot, self.words, shown).setContentsMargins(0, 0, 0, 0)
        self.measure.currentIndexChanged.connect(lambda _: self._draw())
        self.forget()

    def list_classes(self, predictor: Predictor | None) -> None:
        """Offer a network's classes."""
        names = list(predictor.card.class_names[1:]) if predictor is not None else []
        if names != [self.label.itemText(index) for index in range(self.label.count())]:
            self.label.clear()
            for number, name in enumerate(names, start=1):
                self.label.addItem(name, number)

    def why_not(self, site: AttentionSite) -> str:
        """Why a site cannot be asked in this way; empty if it can."""
        return (
            ""
            if site.spatial
            else "Attention between channels has no place on the image to erase: switch it off, or randomise it."
        )

    def make(
        self,
        scene: Scene,
        frame: int,
        site: AttentionSite,
        head: int | None,
        reference: NDArray[Any] | None,
        asked: Any,
    ) -> Generator[Any, None, Erasure]:
        """The work; on the worker thread."""
        from napari_medattn.look.erasing import erasing_steps, even_steps

        label, instead, up_to = asked
        return erasing_steps(
            scene,
            [frame],
            site.key,
            label,
            head=head,
            replacement=instead,
            shares=even_steps(up_to),
            reference=reference,
        )

    def asked(self, session: Session) -> Any:
        """What is chosen now."""
        return self.label.currentData(), self.instead.currentData(), self.up_to.currentData()

    def show_result(self, found: Erasure) -> None:
        """Draw the curves."""
        self.found = found
        referred = found.most.reference is not None
        if not referred and self.measure.currentData() == "reference":
            self.measure.setCurrentIndex(0)
        item = self.measure.model().item(self.measure.count() - 1)
        item.setEnabled(referred)
        self._draw()

    def forget(self) -> None:
        """Show nothing."""
        self.found = None
        self._draw()

    def _draw(self) -> None:
        shown = self.found is not None
        for part in (self.legend, self.plot, self.words, self.measure.parentWidget()):
            part.setVisible(shown)
        found, measure = self.found, self.measure.currentData()
        if found is None:
            return
        for curve, values in zip(self.curves, (found.most, found.chance, found.least), strict=True):
            heights = getattr(values, measure)
            curve.setData(100 * found.shares, np.zeros(0) if heights is None else heights)
        self.plot.setLabel("left", "probability" if measure == "probability" else "Dice")
        self.words.setText(found.words(measure))

    def dress(self, theme_name: str) -> None:
        """Colour the plot like the window around it."""
        theme = get_theme(theme_name)
        self.plot.setBackground(theme.background.as_hex())
        for side in ("left", "bottom"):
            axis = self.plot.getAxis(side)
            axis.setPen(pg.mkPen(theme.text.as_hex()))
            axis.setTextPen(pg.mkPen(theme.text.as_hex()))


def _coloured(name: str, colour: str, line: Qt.PenStyle, looks: str) -> str:
    return f"<span style='color: {colour}'><b>{looks}</b> {name}</span>"


def _plot() -> pg.PlotWidget:
    made = pg.PlotWidget()
    made.setFixedHeight(190)
    made.setMouseEnabled(x=False, y=False)
    made.setMenuEnabled(False)
    made.hideButtons()
    made.setYRange(0, 1)
    made.setLabel("bottom", "erased, % of the voxels")
    made.getAxis("left").enableAutoSIPrefix(False)
    made.setAccessibleName("erasing curves")
    return made
