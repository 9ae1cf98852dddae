"""Does it matter: erase what is attended, switch attention off, or give it untrained weights, and see what happens."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Labels
from numpy.typing import NDArray
from qtpy.QtCore import QEvent, QSignalBlocker, Qt, Signal
from qtpy.QtWidgets import QFrame, QLabel, QScrollArea, QWidget

from napari_medattn.layerdata import KEY, layer_place, what_if_to_layer
from napari_medattn.widgets.case import Case
from napari_medattn.widgets.jobs import Jobs
from napari_medattn.widgets.look.erase_view import EraseView
from napari_medattn.widgets.look.overlays import made_from
from napari_medattn.widgets.look.randomise_view import RandomiseView
from napari_medattn.widgets.look.switch_view import SwitchView, mask_of, what
from napari_medattn.widgets.look.view import voxel_in_view
from napari_medattn.widgets.look.work import Work
from napari_medattn.widgets.parts import button, choice, column, row
from napari_medattn.widgets.session import Session

if TYPE_CHECKING:
    from napari_medattn.look import Scene
    from napari_medattn.look.knock_out import KnockOut
    from napari_medattn.models import AttentionSite

QUESTIONS = ("erase what it attends to", "switch it off", "give it untrained weights")


class MatterTool(QWidget):
    """Asks whether what a site attends to matters for the mask, in the slice or tile in view.

    Args:
        session: The dock's session.
        jobs: The dock's jobs.
    """

    wants_site = Signal(str, object)  # key and head

    def __init__(self, session: Session, jobs: Jobs) -> None:
        super().__init__()
        self.session, self.work = session, Work(session, jobs)
        self._about: tuple[Any, Any] = (None, None)  # the scan and the network that the results are about
        self._where: dict[QWidget, str] = {}  # where the results of each question hold
        self.erase, self.switch, self.randomise = EraseView(), SwitchView(), RandomiseView()
        self.views = (self.erase, self.switch, self.randomise)
        self.question = choice("question", "How to find out: erase voxels, switch attention off, or untrain it.")
        self.question.addItems(QUESTIONS)
        self.site = choice("attention site", "The block's attention that is asked about.")
        self.head = choice("head", "Whose map says what to erase: one head's, or the mean of all.")
        self.reference = choice("reference", "A mask to compare with as well, such as a corrected one.")
        self.run = button("Run", "Run the network on the slice in view, or on the tile around the sliders.")
        self.stop = button("Cancel", "Stop; what was found before stays.")
        self.where, self.honest = QLabel(), QLabel()
        for label in (self.where, self.honest):
            label.setWordWrap(True)
        self._with = row(QLabel("reference"), self.reference, stretch=1)
        self._one = row(QLabel("head"), self.head, stretch=1)
        content = QWidget()
        layout = column(
            content,
            row(QLabel("do"), self.question, stretch=1),
            row(QLabel("site"), self.site, stretch=1),
            self._one,
            self._with,
            *(view.options for view in self.views),
            row(self.run, self.stop, stretch=0),
            self.work.progress,
            self.work.message,
            *self.views,
            self.where,
            self.honest,
        )
        layout.addStretch(1)
        scroll = QScrollArea()
        scroll.setWidget(content)
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        column(self, scroll).setContentsMargins(0, 0, 0, 0)
        self.setMinimumWidth(340)
        self._connect()
        self.refresh()

    def _connect(self) -> None:
        session = self.session
        self.run.clicked.connect(self.start)
        self.stop.clicked.connect(self.work.cancel)
        self.question.currentIndexChanged.connect(lambda _: self._turn())
        self.site.currentIndexChanged.connect(lambda _: self._list_heads())
        self.switch.wants_mask.connect(self.show_mask)
        self.switch.wants_site.connect(self.wants_site)
        self.work.changed.connect(self._enable)
        for changed in (
            session.image_changed,
            session.predictor_changed,
            session.checkpoint_changed,
            session.mask_changed,
        ):
            changed.connect(self.refresh)
        session.images_changed.connect(self._layers_changed)
        session.viewer.events.theme.connect(self._dress)
        self._dress()

    def event(self, event: QEvent) -> bool:
        """Stop as soon as the window is closed."""
        if event.type() == QEvent.Type.ParentChange and self.parent() is None and hasattr(self, "honest"):
            self.work.leave()
        return bool(super().event(event))

    @property
    def view(self) -> EraseView | SwitchView | RandomiseView:
        """The question that is chosen."""
        return self.views[self.question.currentIndex()]

    @property
    def chosen(self) -> AttentionSite | None:
        """The site that is chosen."""
        predictor = self.work.predictor
        return predictor.sites.get(self.site.currentData()) if predictor is not None else None

    def choose(self, site_key: str, head: int | None) -> None:
        """Choose a site and one of its heads."""
        index = self.site.findData(site_key)
        if index >= 0:
            self.site.setCurrentIndex(index)
            self.head.setCurrentIndex(0 if head is None or head + 1 >= self.head.count() else head + 1)

    def refresh(self) -> None:
        """List sites, classes and references; on another scan or network, what was found no longer holds."""
        predictor, key = self.work.predictor, self.site.currentData()
        sites = list(predictor.sites.values()) if predictor is not None else []
        if [site.key for site in sites] != [self.site.itemData(index) for index in range(self.site.count())]:
            with QSignalBlocker(self.site):
                self.site.clear()
                for site in sites:
                    self.site.addItem(site.title, site.key)
                self.site.setCurrentIndex(max(0, self.site.findData(key)))
        self.erase.list_classes(predictor)
        self._list_references()
        about = self.session.case, predictor
        if about != self._about:
            self._about = about
            self.work.cancel()
            self._where.clear()
            for view in self.views:
                view.forget()
        self._list_heads()
        self._turn()

    def start(self) -> None:
        """Run the network as often as the question needs."""
        case, site, predictor = self.session.case, self.chosen, self.work.predictor
        if case is None or site is None or predictor is None or self.view.why_not(site):
            return
        view, voxel = self.view, voxel_in_view(self.session.viewer, case.image)
        head, layer, asked = self.head.currentData(), self.reference.currentData(), view.asked(self.session)

        def make(scene: Scene) -> Generator[Any, None, Any]:
            reference = None if layer is None else _labels(layer, scene.volume.grid.shape)
            frame = scene.locate(voxel).frame
            found = yield from view.make(scene, frame, site, head, reference, asked)
            return found, _where(scene, frame)

        def done(_case: Case, result: Any) -> None:
            found, self._where[view] = result
            view.show_result(found)
            self._turn()

        view.forget()
        self._where.pop(view, None)
        self._turn()
        self.work.start(f"{QUESTIONS[self.question.currentIndex()]}: {site.title}", make, done)

    def show_mask(self, found: KnockOut) -> None:
        """Add the mask without something as a layer; it is made with one more run of the network."""
        predictor, table = self.work.predictor, self.switch.found
        if predictor is None or self.session.case is None or table is None:
            return
        where, frame = self._where[self.switch], table.frames[0]
        title = f"mask without {what(found)}, {where.partition(',')[0]}"
        record = made_from(self.session.case, predictor.card) | {"off": what(found), "where": where}
        shown = next((layer for layer in self.session.viewer.layers if _shows(layer, record)), None)
        if shown is not None:
            shown.visible = True
            return

        def put(case: Case, result: Any) -> None:
            labels, box = result
            data, kwargs, _ = what_if_to_layer(labels, box, case.image, predictor.card.class_names, title, record)
            active = self.session.viewer.layers.selection.active
            self.session.viewer.add_labels(data, **kwargs)
            self.session.viewer.layers.selection.active = active
            self.work.message.say(f"Added the layer '{kwargs['name']}'; elsewhere it is empty.")

        self.work.start(title, lambda scene: mask_of(scene, frame, found), put)

    def _list_heads(self) -> None:
        site, chosen = self.chosen, self.head.currentData()
        heads = site.heads if site is not None else 0
        if self.head.count() != heads + 1:
            with QSignalBlocker(self.head):
                self.head.clear()
                self.head.addItem("all", None)
                for head in range(heads):
                    self.head.addItem(str(head + 1), head)
                self.head.setCurrentIndex(max(0, self.head.findData(chosen)) if chosen is not None else 0)
        self._enable()

    def _layers_changed(self) -> None:
        # The scan itself may be the layer that went; the session says so only after this.
        if self.session.image in self.session.images:
            self._list_references()

    def _list_references(self) -> None:
        case, chosen = self.session.case, self.reference.currentData()
        fitting = [
            layer
            for layer in self.session.viewer.layers
            if isinstance(layer, Labels) and case is not None and _lies_on(layer, case)
        ]
        with QSignalBlocker(self.reference):
            self.reference.clear()
            self.reference.addItem("none", None)
            for layer in fitting:
                self.reference.addItem(layer.name, layer)
            self.reference.setCurrentIndex(fitting.index(chosen) + 1 if chosen in fitting else 0)

    def _turn(self) -> None:
        """Show the controls of the question that is chosen."""
        for view in self.views:
            view.setVisible(view is self.view)
            view.options.setVisible(view is self.view)
        self._one.setVisible(self.view is self.erase)
        self._with.setVisible(self.view is not self.randomise)
        self.run.setText(self.view.action)
        self.run.setAccessibleName(self.view.action)
        self.honest.setText(self.view.honest)
        self.where.setText(f"Of {self._where[self.view]}." if self.view in self._where else "")
        self.where.setVisible(bool(self.where.text()))
        self._enable()

    def _enable(self) -> None:
        site, case, running = self.chosen, self.session.case, self.work.running
        why_not = "Needs a scan and a network that is loaded." if site is None or case is None else ""
        if site is not None and not why_not:
            why_not = self.view.why_not(site)
        self.run.setEnabled(not why_not and not running)
        self.stop.setEnabled(running)
        self.site.setEnabled(site is not None)
        self.head.setEnabled(site is not None and site.heads > 1)
        if why_not:
            self.work.message.say(why_not)
        elif self.work.message.text.startswith(("Needs", "Attention between")):
            self.work.message.say("")

    def _dress(self, event: Any = None) -> None:
        self.erase.dress(self.session.viewer.theme)


def _where(scene: Scene, frame: int) -> str:
    """Where the answer holds, for people."""
    name = "slice" if scene.flat else "tile"
    return f"{name} {frame + 1} of {scene.frames}, as the network cuts the scan"


def _lies_on(layer: Labels, case: Case) -> bool:
    kind = layer.metadata.get(KEY, {}).get("kind")
    return kind != "what if" and layer.data.shape == layer_place(case.image).grid.shape[-layer.ndim :]


def _labels(layer: Labels, shape: tuple[int, ...]) -> NDArray[Any]:
    """A layer's labels as (Z, Y, X)."""
    return np.asarray(layer.data).reshape(shape)


def _shows(layer: Any, record: dict[str, Any]) -> bool:
    meta = layer.metadata.get(KEY, {})
    return meta.get("kind") == "what if" and meta.get("record") == record
