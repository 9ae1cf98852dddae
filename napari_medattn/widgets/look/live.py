"""`Live`: the sites that are ticked, kept in view as the viewer moves."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer, Signal

from napari_medattn.layerdata import KEY
from napari_medattn.widgets.case import Case
from napari_medattn.widgets.jobs import Jobs
from napari_medattn.widgets.look.layers import MapLayers, remove_present
from napari_medattn.widgets.look.making import Maker
from napari_medattn.widgets.look.view import voxel_at
from napari_medattn.widgets.session import Session

if TYPE_CHECKING:
    from napari_medattn.inference import Predictor
    from napari_medattn.look import Answer, Atlas, Spot
    from napari_medattn.look.query import Direction
    from napari_medattn.models import AttentionSite

REST_MS = 150  # how long the cursor rests before a 3-D network looks at the tile around it


class Live(QObject):
    """Knows what is ticked and which head and voxel are meant; its maker makes it, its layers show it.

    Args:
        session: The dock's session.
        jobs: The dock's jobs.
    """

    glanced = Signal(object)  # a case of which a frame was made
    ticks_changed = Signal()
    answered = Signal()  # other answers than before, or none, are shown in the place of maps
    working = Signal(str)  # what is being made; nothing when idle
    failed = Signal(object)  # an exception

    def __init__(self, session: Session, jobs: Jobs) -> None:
        super().__init__()
        self.session, self.jobs = session, jobs
        self.also: set[str] = set()  # sites that somebody else in the window wants fed, beside those that are ticked
        self.direction: Direction = "to"
        self._ticked: dict[Case, list[str]] = {}
        self.maker = Maker(session, jobs, self)
        self.layers = MapLayers(session, self.maker.drawn)
        self.maker.working.connect(self.working)
        self.maker.begun.connect(self._begun)
        self.maker.made.connect(self._made)
        self.maker.failed.connect(self._failed)
        self.maker.outdated.connect(lambda _case: self.take_answers([]))
        for event in self._dims_events():
            event.connect(self._view_changed)
        session.viewer.mouse_move_callbacks.append(self._pointed)
        session.image_changed.connect(self._view_changed)
        session.images_changed.connect(self._leave_gone)
        session.maps_changed.connect(self._follow_layers)

    def close(self) -> None:
        """Let go of the viewer."""
        for event in self._dims_events():
            event.disconnect(self._view_changed)
        if self._pointed in self.session.viewer.mouse_move_callbacks:
            self.session.viewer.mouse_move_callbacks.remove(self._pointed)

    # What is looked at

    def predictor(self, case: Case | None) -> Predictor | None:
        """The network that is looked into: the mask's, or the chosen one before there is a mask."""
        return (case.predictor if case is not None else None) or self.session.predictor

    @property
    def sites(self) -> dict[str, AttentionSite]:
        """The sites of the network that is looked into."""
        predictor = self.predictor(self.session.case)
        return predictor.sites if predictor is not None else {}

    @property
    def atlas(self) -> Atlas | None:
        """The maps of the current case, as far as they were made."""
        case = self.session.case
        return self.maker.atlas_of(case) if case is not None else None

    @property
    def frame(self) -> int | None:
        """The frame in the middle of the view."""
        return next(iter(self.maker.frames()), None)

    @property
    def busy(self) -> bool:
        """Whether a frame is being made, or is about to be."""
        return self.maker.busy

    @property
    def asking(self) -> bool:
        """Whether voxels are asked."""
        return self.maker.asking

    @asking.setter
    def asking(self, on: bool) -> None:
        self.maker.asking = on

    @property
    def head(self) -> int | None:
        """The head that is shown of every site that has it; the mean of all for None."""
        return self.layers.head

    @property
    def answers(self) -> dict[str, Answer]:
        """What the voxel that is asked was answered, by site."""
        return self.layers.answers

    def ticked(self, case: Case | None = None) -> list[str]:
        """Keys of the sites whose maps are wanted in view."""
        case = case or self.session.case
        return self._ticked.get(case, []) if case is not None else []

    def shown(self, key: str) -> bool:
        """Whether a site of the current case is ticked."""
        return key in self.ticked()

    def fed(self, case: Case) -> list[str]:
        """The sites that the next forward pass is to feed."""
        from napari_medattn.look.query import sites_to_listen

        keys = [key for key in dict.fromkeys([*self.ticked(case), *self.also]) if key in self.sites]
        return sites_to_listen(self.sites, keys, self.direction if self.asking else "to")

    # What somebody chooses

    def show(self, key: str) -> None:
        """Tick a site: its layer is there at once, its values follow."""
        case = self.session.case
        if case is None or key not in self.sites or not self.sites[key].spatial:
            return
        ticked = self._ticked.setdefault(case, [])
        if key not in ticked:
            ticked.append(key)
        if key in case.maps:
            case.maps[key].visible = True
        else:
            self.layers.put(case, self.sites[key], self.record(case))
        self.ticks_changed.emit()
        self.refresh()

    def hide(self, key: str) -> None:
        """Untick a site."""
        case = self.session.case
        if case is not None and key in self.ticked(case):
            self._ticked[case].remove(key)
            self.take_answers([answer for answer in self.answers.values() if answer.site.key != key])
            if key in case.maps:
                case.maps[key].visible = False
            self.ticks_changed.emit()

    def choose_head(self, head: int | None) -> None:
        """Show one head of every site that has it, or the mean of all."""
        self.layers.head = head
        self.take_answers(list(self.answers.values()))
        self.layers.redraw(self.ticked())

    def listen(self, spot: Spot | None) -> None:
        """Make sure that a voxel of the current image can be asked, or that none needs to be."""
        self.maker.spot = spot
        case, atlas = self.session.case, self.atlas
        if spot is not None and case is not None and atlas is not None and atlas.unheard(spot, self.fed(case)):
            self.refresh()

    def take_answers(self, answers: list[Answer]) -> None:
        """Show what a voxel was answered in the place of these sites' maps, and the maps of all others."""
        self.layers.take_answers(answers)
        self.answered.emit()

    def refresh(self) -> None:
        """The network or the view may have changed: make what is missing."""
        self.maker.wake()

    def outdate(self, case: Case) -> None:
        """There is a new mask, perhaps of another network: forget what the old one attended to."""
        self.maker.forget(case)
        predictor = self.predictor(case)
        sites = predictor.sites if predictor is not None else {}
        for key, layer in list(case.maps.items()):
            if key not in sites or not layer.visible:
                self.session.viewer.layers.remove(layer)
        self._ticked[case] = [key for key in self.ticked(case) if key in sites]
        self.take_answers([])
        self._say_what_made(case)
        for layer in case.maps.values():
            layer.refresh()
        self.refresh()

    def record(self, case: Case) -> dict[str, Any]:
        """What made a map: the mask's record, or as much of one as is known without a mask."""
        predictor = self.predictor(case)
        if case.prediction is not None:
            return dict(case.prediction.record)
        if predictor is None:
            return {"image": case.image.name}
        card = predictor.card
        return {
            "image": case.image.name,
            "checkpoint": card.name,
            "weights_sha256": card.weights_sha256,
            "parent": card.parent,
            "network": card.network,
            "trained_on": card.trained_on or "untrained",
        }

    # What happens

    def _dims_events(self) -> tuple[Any, ...]:
        events = self.session.viewer.dims.events
        return events.point, events.order, events.ndisplay

    def _view_changed(self, _event: Any = None) -> None:
        self.maker.view_changed()

    def _leave_gone(self) -> None:
        """What was made of a scan goes with it."""
        layers = self.session.viewer.layers
        for case in [case for case in self._ticked if case.image not in layers]:
            del self._ticked[case]
            self.maker.leave(case)
            # Later, because napari may be about to remove these layers too.
            QTimer.singleShot(0, partial(remove_present, layers, list(case.maps.values())))

    def _pointed(self, _viewer: Any, event: Any) -> None:
        """A 3-D network sees the tile around the cursor, once that has come to rest."""
        case, atlas = self.session.case, self.atlas
        if case is None or atlas is None or atlas.scene.flat or atlas.scene.frames == 1 or not self.ticked(case):
            return
        voxel = voxel_at(case.image, tuple(event.position))
        if all(0 <= at < size for at, size in zip(voxel, atlas.scene.volume.grid.shape, strict=True)):
            self.maker.focus = voxel
            self.maker.wake(REST_MS)

    def _begun(self, case: Case) -> None:
        """There is a new atlas, perhaps of another network with the same sites."""
        self._say_what_made(case)
        self.layers.redraw(self.ticked(case))

    def _say_what_made(self, case: Case) -> None:
        for key, layer in case.maps.items():
            if key in self.sites:
                layer.metadata[KEY] = {**layer.metadata[KEY], "record": self.record(case)}

    def _made(self, case: Case, frame: int, keys: list[str], first: list[str]) -> None:
        atlas = self.maker.drawn(case)
        if atlas is not None:
            self.layers.choose_limits(case, atlas, frame, first)
        self.layers.redraw([key for key in keys if key in self.ticked(case)])
        self.glanced.emit(case)

    def _failed(self, case: Case, error: BaseException) -> None:
        """What cannot be made is not ticked any more, so that it is not tried again and again."""
        for key in self._ticked.pop(case, []):
            if key in case.maps:
                case.maps[key].visible = False
        self.also.clear()
        self.ticks_changed.emit()
        self.failed.emit(error)

    def _follow_layers(self) -> None:
        """The eye in napari's layer list, and the bin, tick and untick too."""
        case = self.session.case
        if case is None:
            return
        shown = [key for key, layer in case.maps.items() if layer.visible]
        before = self.ticked(case)
        now = [key for key in before if key in shown] + [key for key in shown if key not in before]
        if now != before:
            self._ticked[case] = now
            self.ticks_changed.emit()
        self.refresh()
