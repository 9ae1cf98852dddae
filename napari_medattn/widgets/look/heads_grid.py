"""`HeadsGrid`: all heads of a site side by side, each over the same slice, with one colour bar."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyqtgraph as pg
from numpy.typing import NDArray
from qtpy.QtCore import QEvent, QObject, QRectF, Qt, Signal
from qtpy.QtGui import QColor

from napari_medattn.palette import CLASS_COLOURS, map_colours

Bytes = NDArray[np.uint8]
_STEPS = {Qt.Key.Key_Left: -1, Qt.Key.Key_Right: 1, Qt.Key.Key_Up: None, Qt.Key.Key_Down: None}
_CHOSEN = "#e69f00"
_BAR, _LABEL = 40, 20  # pixels


class HeadsGrid(pg.GraphicsLayoutWidget):
    """Pictures in rows and columns that zoom and move as one; a click or an arrow key chooses a head."""

    clicked = Signal(int)

    def __init__(self) -> None:
        super().__init__()
        self.setAccessibleName("heads of the site")
        self.setToolTip("Click a head, or go to it with the arrow keys, to show it in the viewer. Wheel and drag zoom.")
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setMinimumHeight(220)
        self.chosen: int | None = None
        self.boxes: list[pg.ViewBox] = []
        self.layers: list[tuple[pg.ImageItem, pg.ImageItem, pg.ImageItem]] = []
        self._labels: list[pg.LabelItem] = []
        self._columns = 1
        self._size = (1.0, 1.0)
        self._text = "#888888"
        self.bar: Any = None
        self.scene().sigMouseClicked.connect(self._mouse)
        self.installEventFilter(self)

    @property
    def columns(self) -> int:
        """How many heads there are in a row."""
        return self._columns

    def dress(self, background: str, text: str) -> None:
        """Take on the colours of the window."""
        self.setBackground(background)
        self._text = text
        self._mark()

    def show_heads(self, count: int, signed: bool) -> None:
        """Have room for ``count`` heads; for values of both signs the colours have a clear middle."""
        self.ci.clear()
        self.boxes, self.layers, self._labels = [], [], []
        colours = (np.array(map_colours(signed=signed, steps=256)) * 255).astype(np.uint8)
        classes = np.array([(0, 0, 0, 0)] + [QColor(c).getRgb() for c in CLASS_COLOURS], np.uint8)
        for _ in range(count):
            box = pg.ViewBox(lockAspect=True, invertY=True, enableMenu=False)
            images = [pg.ImageItem(axisOrder="row-major") for _ in range(3)]
            images[1].setLookupTable(colours)
            images[2].setLookupTable(classes)
            for image, levels in zip(images, ((0, 255), (0, 255), (0, len(classes) - 1)), strict=True):
                image.setLevels(levels)
                box.addItem(image)
            if self.boxes:
                box.setXLink(self.boxes[0])
                box.setYLink(self.boxes[0])
            self.boxes.append(box)
            self.layers.append((images[0], images[1], images[2]))
            self._labels.append(pg.LabelItem(size="9pt"))
        scale = pg.ColorMap(None, colours)
        self.bar = pg.ColorBarItem(colorMap=scale, orientation="h", interactive=False, width=10)
        self.bar.setFixedHeight(_BAR)
        self.chosen = None
        self._arrange(self._best())
        self.show_all()
        self._mark()

    def place(self, size: tuple[float, float], mirrored: tuple[bool, bool]) -> None:
        """Give the pictures their extent down and across, in the viewer's world; keeps the zoom of an equal one."""
        for box in self.boxes:
            box.invertY(not mirrored[0])
            box.invertX(mirrored[1])
        if size != self._size:
            self._size = size
            self._arrange(self._best())
            self.show_all()

    def show_all(self) -> None:
        """Undo zooming and moving."""
        for box in self.boxes:
            box.setRange(QRectF(0, 0, self._size[1], self._size[0]), padding=0.02)

    def draw(self, grey: Bytes, maps: Sequence[Bytes], outline: Bytes | None) -> None:
        """Show the slice, a map for each head, and borders of classes, all (rows, columns)."""
        for (below, middle, above), values in zip(self.layers, maps, strict=True):
            below.setImage(grey, autoLevels=False)
            middle.setImage(values, autoLevels=False)
            above.setVisible(outline is not None)
            if outline is not None:
                above.setImage(outline, autoLevels=False)
            for image in (below, middle, above) if outline is not None else (below, middle):
                image.setRect(QRectF(0, 0, self._size[1], self._size[0]))  # scales the pixels that it has by now

    def limit(self, limits: tuple[float, float]) -> None:
        """Say which values the colours stand for."""
        self.bar.setLevels(limits)

    def choose(self, head: int | None) -> None:
        """Mark a head as the one that the viewer shows; the mean of all for None."""
        self.chosen = head
        self._mark()

    def resizeEvent(self, event: Any) -> None:
        """Use the room as well as it can be used."""
        super().resizeEvent(event)
        if getattr(self, "boxes", None) and self._best() != self._columns:
            self._arrange(self._best())
        if getattr(self, "boxes", None):
            self.show_all()

    def eventFilter(self, _watched: QObject | None, event: QEvent | None) -> bool:
        """Arrow keys go from head to head; Tab leaves as everywhere."""
        if event is None or event.type() != QEvent.Type.KeyPress or event.key() not in _STEPS or not self.boxes:
            return False
        step = _STEPS[event.key()]
        if step is None:
            step = self._columns if event.key() == Qt.Key.Key_Down else -self._columns
        target = 0 if self.chosen is None else self.chosen + step
        if 0 <= target < len(self.boxes):
            self.clicked.emit(target)
        return True

    def _mouse(self, event: Any) -> None:
        if event.button() != Qt.MouseButton.LeftButton:
            return
        for head, box in enumerate(self.boxes):
            if box.sceneBoundingRect().contains(event.scenePos()):
                event.accept()
                self.clicked.emit(head)

    def _best(self) -> int:
        """The number of columns that makes the pictures largest."""
        count = max(1, len(self.boxes))
        wide, tall = max(self.width(), 1), max(self.height() - _BAR, 1)

        def scale(columns: int) -> float:
            rows = -(-count // columns)
            return min(wide / columns / self._size[1], max(tall / rows - _LABEL, 1) / self._size[0])

        return max(range(1, count + 1), key=scale)

    def _arrange(self, columns: int) -> None:
        self._columns = columns
        self.ci.clear()
        self.ci.setSpacing(2)
        for head, (label, box) in enumerate(zip(self._labels, self.boxes, strict=True)):
            at, column = divmod(head, columns)
            self.ci.addItem(label, 2 * at, column)
            self.ci.addItem(box, 2 * at + 1, column)
        if self.bar is not None:
            self.ci.addItem(self.bar, 2 * -(-len(self.boxes) // columns), 0, 1, columns)

    def _mark(self) -> None:
        for head, (label, box) in enumerate(zip(self._labels, self.boxes, strict=True)):
            chosen = head == self.chosen
            label.setText(f"head {head + 1}", color=_CHOSEN if chosen else self._text, bold=chosen)
            box.setBorder(pg.mkPen(_CHOSEN, width=2) if chosen else pg.mkPen(None))
        if self.bar is not None:
            axis = self.bar.axis
            axis.setPen(pg.mkPen(self._text))
            axis.setTextPen(pg.mkPen(self._text))
