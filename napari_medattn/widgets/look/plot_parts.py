"""What plots of tool windows have in common."""

from __future__ import annotations

import pyqtgraph as pg
from napari.utils.theme import get_theme


def quiet_plot(name: str, tip: str) -> pg.PlotWidget:
    """A plot that does not zoom by accident, with its accessible name."""
    plot = pg.PlotWidget()
    plot.setMouseEnabled(x=False, y=False)
    plot.setMenuEnabled(False)
    plot.hideButtons()
    plot.setAccessibleName(name)
    plot.setToolTip(tip)
    for side in ("left", "bottom"):
        plot.getAxis(side).enableAutoSIPrefix(False)
    return plot


def dress(plot: pg.PlotWidget, theme_name: str) -> None:
    """Colour a plot like the window around it."""
    theme = get_theme(theme_name)
    plot.setBackground(theme.background.as_hex())
    pen = pg.mkPen(theme.text.as_hex())
    for side in ("left", "bottom", "top", "right"):
        axis = plot.getAxis(side)
        axis.setPen(pen)
        axis.setTextPen(pen)
