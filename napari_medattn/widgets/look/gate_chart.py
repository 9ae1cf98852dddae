"""MedT's position gates as a chart: how much the position terms of each block count."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pyqtgraph as pg
from qtpy.QtWidgets import QLabel, QWidget

from napari_medattn.models import AttentionSite
from napari_medattn.palette import CLASS_COLOURS
from napari_medattn.widgets.look.plot_parts import dress, quiet_plot
from napari_medattn.widgets.parts import column

_MEANING = (
    "Gates of the position terms (arXiv 2102.10662, equation 5): of queries (G_Q), of keys (G_K), of values (G_V1), "
    "and of the values themselves (G_V2). 0: does not count; training starts at 0.1 and 1."
)
_SYMBOLS = {"G_Q": "o", "G_K": "t", "G_V1": "s", "G_V2": "d"}
_ROW = 17  # pixels


class GateChart(QWidget):
    """One line for each site, with its four gates along it; the branches of the network one below the other."""

    def __init__(self) -> None:
        super().__init__()
        self.plot = quiet_plot("position gates", "How much each position term counts.")
        self.plot.setLabel("bottom", "gate")
        self.plot.showGrid(x=True, y=True, alpha=0.2)
        self.plot.getPlotItem().invertY(True)
        self.plot.getPlotItem().setContentsMargins(0, 0, 8, 0)
        self.legend = QLabel()
        self.meaning = QLabel(_MEANING)
        self.note = QLabel()
        for label in (self.legend, self.meaning, self.note):
            label.setWordWrap(True)
        self.legend.setText(
            "   ".join(
                f"<span style='color:{CLASS_COLOURS[n]}'>{mark}</span> {symbol}"
                for n, (symbol, mark) in enumerate(zip(_SYMBOLS, "●▼■◆", strict=True))
            )
        )
        self.rows: list[str] = []
        self.marks: dict[str, pg.ScatterPlotItem] = {}
        for number, (symbol, shape) in enumerate(_SYMBOLS.items()):
            self.marks[symbol] = pg.ScatterPlotItem(symbol=shape, size=9, brush=CLASS_COLOURS[number], pen=None)
            self.plot.addItem(self.marks[symbol])
        column(self, self.legend, self.plot, self.note, self.meaning).setContentsMargins(0, 0, 0, 0)

    def dress(self, theme: str) -> None:
        """Take on the colours of the window."""
        dress(self.plot, theme)

    def draw(self, gates: Mapping[str, Mapping[str, float]], sites: Sequence[AttentionSite]) -> None:
        """Show the gates by site key; sites without gates are only spoken of."""
        self.rows, at = [], {}
        branch = ""
        for site in sites:
            if site.key not in gates:
                continue
            if len(site.path) > 3 and site.path[0] != branch:
                branch = site.path[0]
                self.rows.append(branch.upper())
            at[site.key] = len(self.rows)
            self.rows.append(" ".join(site.path[-3:]))
        for symbol, mark in self.marks.items():
            mark.setData([gates[key][symbol] for key in at], list(at.values()))
        self.plot.getAxis("left").setTicks([list(enumerate(self.rows))])
        values = [value for some in gates.values() for value in some.values()] or [0.0]
        low, high = min(0.0, *values), max(1.0, *values)
        self.plot.setRange(xRange=(low, high), yRange=(-0.5, len(self.rows) - 0.5), padding=0.0 if low < high else None)
        self.plot.getPlotItem().getViewBox().setXRange(low, high, padding=0.05)
        self.plot.setFixedHeight(_ROW * len(self.rows) + 60)
        silent = sorted({site.path[0] for site in sites if site.key not in gates})
        self.note.setText(f"The {' and '.join(silent)} has no position terms, so no gates." if silent else "")
        self.note.setVisible(bool(silent))
