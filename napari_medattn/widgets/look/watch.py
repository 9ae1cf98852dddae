"""`Watch`: a tool window that follows what is looked at, as long as it is open."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QEvent, QObject, QTimer
from qtpy.QtWidgets import QWidget

from napari_medattn.widgets.look.live import Live


class Watch(QObject):
    """Draws a tool again when the view, the maps or the answers change, and has its site fed; only while it is shown.

    Args:
        live: The maps.
        tool: The window.
        draw: Draws it; several changes at once lead to one call.
    """

    def __init__(self, live: Live, tool: QWidget, draw: Callable[[], None]) -> None:
        super().__init__(tool)
        self.live = live
        self.site: str | None = None
        self._open = False
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.timeout.connect(draw)
        for happened in (live.glanced, live.answered, live.ticks_changed):
            happened.connect(self.again)
        tool.installEventFilter(self)

    def feed(self, key: str | None) -> None:
        """Let a site's maps be made whether it is ticked or not, and no longer those of the one before."""
        if key != self.site:
            self._starve()
            self.site = key
            if self._open and key is not None:
                self._eat()

    def again(self, *_: Any) -> None:
        """Draw soon, if anybody can see it."""
        if self._open:
            self._soon.start(0)

    def eventFilter(self, tool: QObject | None, event: QEvent | None) -> bool:
        """Hear of the window being shown and hidden."""
        if event is not None and event.type() == QEvent.Type.Show:
            self._begin()
        elif event is not None and event.type() == QEvent.Type.Hide:
            self._end()
        return False

    def _changes(self) -> list[Any]:
        session = self.live.session
        dims = session.viewer.dims.events
        return [
            dims.point,
            dims.order,
            dims.ndisplay,
            session.image_changed,
            session.mask_changed,
            session.edits_changed,
            session.predictor_changed,
            session.checkpoint_changed,
        ]

    def _begin(self) -> None:
        if not self._open:
            self._open = True
            for change in self._changes():
                change.connect(self.again)
            self._eat()
            self.again()

    def _end(self) -> None:
        if self._open:
            self._open = False
            self._soon.stop()
            for change in self._changes():
                change.disconnect(self.again)
            self._starve()

    def _eat(self) -> None:
        if self.site is not None:
            self.live.also.add(self.site)
            self.live.refresh()

    def _starve(self) -> None:
        if self.site is not None:
            self.live.also.discard(self.site)
