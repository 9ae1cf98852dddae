"""`Curves`: loss and held-out Dice while a network learns."""

from __future__ import annotations

import pyqtgraph as pg
from napari.components import ViewerModel
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QLabel, QWidget

from napari_medattn.events import TrainingStep, Validation
from napari_medattn.widgets.look.plot_parts import dress, quiet_plot
from napari_medattn.widgets.parts import column

REDRAW_MS = 100  # between two drawings, however quickly steps come
LOSS_COLOUR, DICE_COLOUR = "#56b4e9", "#e69f00"
_MEMORY = 0.9  # of the smoothed loss, per step
_FEW = 20  # steps that are drawn as dots, too


class Curves(QWidget):
    """Draws the loss of every step, smoothed and as it is, and the mean held-out Dice whenever it is known.

    Args:
        viewer: The viewer whose colours the plot takes.
    """

    def __init__(self, viewer: ViewerModel) -> None:
        super().__init__()
        self.viewer = viewer
        self.losses: list[float] = []
        self.smoothed: list[float] = []
        self.scores: list[tuple[int, float]] = []  # step and mean Dice
        self.drawings = 0
        self.plot = quiet_plot("loss and held-out Dice by step", "Blue: loss, left. Orange: held-out Dice, right.")
        self.plot.setFixedHeight(130)
        self.plot.getPlotItem().setLimits(minXRange=4, minYRange=0.01)
        self.plot.setLabel("left", "loss")
        self.plot.setLabel("bottom", "step")
        self.raw = self.plot.plot(
            [], [], pen=pg.mkPen(LOSS_COLOUR + "60", width=1), symbolSize=4, symbolBrush=LOSS_COLOUR, symbolPen=None
        )
        self.line = self.plot.plot([], [], pen=pg.mkPen(LOSS_COLOUR, width=2))
        self.right = _second_axis(self.plot)
        self.dice = pg.PlotDataItem(
            pen=pg.mkPen(DICE_COLOUR, width=2), symbol="o", symbolSize=5, symbolBrush=DICE_COLOUR, symbolPen=None
        )
        self.right.addItem(self.dice)
        self.words = QLabel()
        column(self, self.plot, self.words).setContentsMargins(0, 0, 0, 0)
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.setInterval(REDRAW_MS)
        self._rest.timeout.connect(self.draw)
        viewer.events.theme.connect(self._dress)
        self._dress()
        self.setVisible(False)

    def leave(self) -> None:
        """Let go of the viewer; the widget itself may be gone already."""
        self.viewer.events.theme.disconnect(self._dress)

    def begin(self) -> None:
        """Forget the last training."""
        self.losses, self.smoothed, self.scores = [], [], []
        self.plot.showAxis("right", False)
        self.words.setText("")
        self.draw()
        self.setVisible(True)

    def add(self, event: TrainingStep | Validation) -> None:
        """Take a step or a score; it is drawn a little later, together with what else comes until then."""
        if isinstance(event, TrainingStep):
            self.losses.append(event.loss)
            last = self.smoothed[-1] if self.smoothed else event.loss
            self.smoothed.append(_MEMORY * last + (1 - _MEMORY) * event.loss)
        elif event.dice:
            self.scores.append((event.step, event.mean_dice))
            self.plot.showAxis("right", True)
        if not self._rest.isActive():
            self._rest.start()

    def draw(self) -> None:
        """Draw what is known, and say it."""
        self._rest.stop()
        self.drawings += 1
        steps = range(1, len(self.losses) + 1)
        self.raw.setData(steps, self.losses, symbol="o" if len(self.losses) < _FEW else None)
        self.line.setData(steps, self.smoothed)
        self.dice.setData([step for step, _ in self.scores], [dice for _, dice in self.scores])
        words = [f"step {len(self.losses)}, loss {self.smoothed[-1]:.3f}"] if self.losses else []
        words += [f"held-out Dice {self.scores[-1][1]:.3f}"] if self.scores else []
        self.words.setText(", ".join(words))

    def _dress(self, event: object = None) -> None:
        dress(self.plot, self.viewer.theme)


def _second_axis(plot: pg.PlotWidget) -> pg.ViewBox:
    """A view with an axis of its own on the right, from 0 to 1."""
    item, view = plot.getPlotItem(), pg.ViewBox()
    item.scene().addItem(view)
    item.getAxis("right").linkToView(view)
    item.getAxis("right").setLabel("Dice")
    item.getAxis("right").enableAutoSIPrefix(False)
    view.setXLink(item)
    view.setYRange(0, 1.1, padding=0.02)  # the topmost tick needs room
    view.setMouseEnabled(x=False, y=False)
    item.getViewBox().sigResized.connect(lambda: view.setGeometry(item.getViewBox().sceneBoundingRect()))
    return view
