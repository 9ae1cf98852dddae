"""Channel attention as a matrix and as bars."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyqtgraph as pg
from numpy.typing import NDArray
from qtpy.QtCore import QRectF
from qtpy.QtWidgets import QCheckBox, QWidget

from napari_medattn.palette import CLASS_COLOURS, map_colours
from napari_medattn.widgets.look.plot_parts import dress, quiet_plot
from napari_medattn.widgets.parts import column


class ChannelPlots(QWidget):
    """The matrix of one head, and below it how much each channel receives."""

    def __init__(self) -> None:
        super().__init__()
        self.matrix = quiet_plot("channel attention matrix", "Each row says how one channel attends to all.")
        self.matrix.setFixedHeight(290)
        self.matrix.getPlotItem().invertY(True)
        self.matrix.setLabel("left", "channel that attends")
        self.matrix.setLabel("bottom", "channel attended to")
        self.image = pg.ImageItem(axisOrder="row-major")
        self._colours = np.round(np.array(map_colours(steps=256)) * 255).astype(np.uint8)
        self.image.setLookupTable(self._colours)
        self.matrix.addItem(self.image)
        self.bar = pg.ColorBarItem(colorMap=pg.ColorMap(None, self._colours), interactive=False, width=12)
        self.bar.setImageItem(self.image, insert_in=self.matrix.getPlotItem())
        self.bars = quiet_plot("what each channel receives", "The mean of each column; 1 is an even share.")
        self.bars.setFixedHeight(150)
        self.bars.setLabel("left", "receives")
        self.bars.addLine(y=1, pen=pg.mkPen(CLASS_COLOURS[1], width=1))
        self.received = pg.BarGraphItem(x=[], height=[], width=0.8, brush=CLASS_COLOURS[0], pen=None)
        self.bars.addItem(self.received)
        self.sorted = QCheckBox("most first")
        self.sorted.setAccessibleName("sort channels by what they receive")
        self.sorted.setToolTip("Order the bars by what each channel receives, not by its number.")
        self.sorted.toggled.connect(lambda _: self._draw_bars())
        self._shares: NDArray[np.float32] = np.zeros(0, np.float32)
        column(self, self.matrix, self.sorted, self.bars).setContentsMargins(0, 0, 0, 0)

    def dress(self, theme: str) -> None:
        """Take on the colours of the window."""
        dress(self.matrix, theme)
        dress(self.bars, theme)
        pen = self.matrix.getAxis("left").pen()
        self.bar.axis.setPen(pen)
        self.bar.axis.setTextPen(pen)

    def draw(self, matrix: NDArray[np.float32], limits: tuple[float, float]) -> None:
        """Show a matrix (channels that attend, channels attended to) in multiples of an even share."""
        count = len(matrix)
        self.image.setImage(matrix, autoLevels=False)
        self.image.setRect(QRectF(0.5, 0.5, count, count))
        self.bar.setLevels(limits)
        self.matrix.setRange(QRectF(0.5, 0.5, count, count), padding=0.01)
        self._shares = matrix.mean(axis=0)
        self._draw_bars()

    def clear(self) -> None:
        """Show nothing."""
        self.image.clear()
        self._shares = np.zeros(0, np.float32)
        self._draw_bars()

    @property
    def order(self) -> NDArray[np.int64]:
        """Channels from the left to the right of the bars."""
        shares = self._shares
        return np.argsort(-shares, kind="stable") if self.sorted.isChecked() else np.arange(len(shares))

    def _draw_bars(self) -> None:
        places, order = np.arange(1, len(self._shares) + 1), self.order
        self.received.setOpts(x=places, height=self._shares[order])
        self.bars.setRange(
            xRange=(0.5, max(1, len(places)) + 0.5),
            yRange=(0, max(2.0, *self._shares[:1], self._shares.max(initial=0))),
        )
        self.bars.setLabel("bottom", "channel, by what it receives" if self.sorted.isChecked() else "channel")
        ticks: Any = [[(at, str(channel + 1)) for at, channel in zip(places, order, strict=True)][:: _every(places)]]
        self.bars.getAxis("bottom").setTicks(ticks)


def _every(places: NDArray[np.int64]) -> int:
    """Every how many-th bar has room for its number."""
    return max(1, -(-len(places) // 16))
