"""The dock: Segment, Look, Correct and Learn under one head, for one viewer."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from napari.viewer import Viewer
from qtpy.QtCore import QEvent, QSize, Qt
from qtpy.QtWidgets import QFrame, QScrollArea, QVBoxLayout, QWidget

from napari_medattn.widgets.correct.panel import CorrectPanel
from napari_medattn.widgets.header import Header
from napari_medattn.widgets.jobs import Jobs, Steps
from napari_medattn.widgets.learn.panel import LearnPanel
from napari_medattn.widgets.look.panel import LookPanel
from napari_medattn.widgets.parts import Section
from napari_medattn.widgets.segment_panel import SegmentPanel
from napari_medattn.widgets.session import Session

_NARROWEST, _WIDTH = 350, 400  # pixels


class AttentionDock(QWidget):
    """Everything that the plugin shows, for one viewer.

    Args:
        napari_viewer: The viewer that the dock is added to; napari fills it in by this name.
    """

    def __init__(self, napari_viewer: Viewer) -> None:
        super().__init__()
        self.viewer = viewer = napari_viewer
        self.session, self.jobs = Session(viewer), Jobs()
        self.header = Header(self.session)
        self.segment = SegmentPanel(self.session, self.jobs)
        self.look = LookPanel(self.session, self.jobs)
        self.correct = CorrectPanel(self.session, self.jobs)
        self.learn = LearnPanel(self.session, self.jobs)

        parts = QWidget()
        stack = QVBoxLayout(parts)
        stack.setContentsMargins(0, 0, 0, 0)
        stack.setSpacing(0)
        for title, panel in (
            ("Segment", self.segment),
            ("Look", self.look),
            ("Correct", self.correct),
            ("Learn", self.learn),
        ):
            stack.addWidget(Section(title, panel))
        stack.addStretch(1)
        scroll = QScrollArea()
        scroll.setWidget(parts)
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self.header)
        layout.addWidget(scroll, 1)
        self.setMinimumWidth(_NARROWEST)

        self.segment.segmented.connect(self.look.refresh_maps)
        self.learn.wants_attention.connect(lambda: scroll.ensureWidgetVisible(self.learn))
        self.session.checkpoint_changed.connect(self._load)
        self._shortcuts = {
            "Alt-S": lambda _viewer: self.segment.start(),
            "Alt-C": lambda _viewer: self.correct.confirm_slice(),
            "Alt-B": lambda _viewer: self.correct.confirming.confirm("selection"),
            "Alt-Shift-C": lambda _viewer: self.correct.confirming.confirm("3-D"),
            "Alt-G": lambda _viewer: self.correct.tools.grow(),
            "Alt-T": lambda _viewer: self.correct.tools.preview(),
            "Alt-N": lambda _viewer: self.correct.review.next(),
            "Alt-P": lambda _viewer: self.correct.review.previous(),
            "Alt-D": lambda _viewer: self.correct.review.done(),
            "Alt-L": lambda _viewer: self.learn.start(),
            "Alt-Q": lambda _viewer: self.look.asking.turn(not self.look.asking.on),
            "Alt-H": lambda _viewer: self.look.next_head(),
            "Alt-M": lambda _viewer: self.look.toggle_maps(),
        }
        for keys, action in self._shortcuts.items():
            viewer.bind_key(keys, action, overwrite=True)
        self._leave = _farewell(
            viewer,
            [
                *(self.correct, self.learn, self.jobs, self.look.asking, self.look.borders, self.look.live),
                *(self.header.line.ct_window, self.session),
            ],
            list(self._shortcuts),
        )
        self.destroyed.connect(self._leave)
        self._load()

    def sizeHint(self) -> QSize:
        """As wide as the work needs, however long the words of the header are."""
        return QSize(_WIDTH, super().sizeHint().height())

    def event(self, event: QEvent) -> bool:
        """Leave as soon as napari takes the widget out of its window, which may be long before it is destroyed."""
        if event.type() == QEvent.Type.ParentChange and self.parent() is None:
            self._leave()
        return bool(super().event(event))

    def _load(self) -> None:
        """Load the chosen network in the background, so that Segment starts at once."""
        checkpoint, device = self.session.checkpoint, self.session.device
        if checkpoint is None or self.session.predictor is not None or self.session.failed:
            return

        def steps() -> Steps:
            from napari_medattn.device import available_devices
            from napari_medattn.inference import Predictor
            from napari_medattn.learning.methods import METHODS

            import_module("pandas")  # napari imports it with the first mask, which would stall the window then
            yield from ()
            return available_devices(), METHODS, Predictor.load(checkpoint, device)

        def loaded(found: Any) -> None:
            devices, methods, predictor = found
            self.header.offer_devices(devices)
            self.learn.choices.offer(methods)
            if (checkpoint, device) == (self.session.checkpoint, self.session.device):
                self.session.use(predictor, checkpoint, device)

        def failed(error: BaseException) -> None:
            self.session.use(None, checkpoint, device)
            self.segment.message.fail(error)

        self.jobs.start("loading the network", steps, on_done=loaded, on_error=failed, quiet=True)


def _farewell(viewer: Viewer, parts: list[Any], shortcuts: list[str]) -> Callable[[], None]:
    """What to do when the dock is gone: stop all jobs and let go of the viewer.

    It must not hold the dock itself, whose Qt side no longer exists by then.
    """
    left = False

    def leave() -> None:
        nonlocal left
        if left:
            return
        left = True
        for part in parts:
            part.close()
        for keys in shortcuts:
            viewer.bind_key(keys, None)

    return leave
