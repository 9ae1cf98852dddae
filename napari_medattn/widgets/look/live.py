"""`Live`: keeps the maps that are ticked up to date with what the viewer shows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QObject, QTimer, Signal

from napari_medattn.layerdata import KEY, layer_place, map_to_layer
from napari_medattn.widgets.case import Case
from napari_medattn.widgets.jobs import Job, Jobs, Steps
from napari_medattn.widgets.look.lazy import Box, lazy_map
from napari_medattn.widgets.look.scenes import scene_of
from napari_medattn.widgets.look.view import Voxel, frames_in_view, voxel_at
from napari_medattn.widgets.session import Session

if TYPE_CHECKING:
    from napari_medattn.inference import Predictor
    from napari_medattn.look import Answer, Atlas, Page, Spot
    from napari_medattn.look.query import Direction
    from napari_medattn.models import AttentionSite

REST_MS = 150  # how long the cursor rests before a 3-D network looks at the tile around it
_NEARLY_ALL = 0.995  # of an answer's values lie below the upper limit of its colours
_CALM = (0.5, 1.5)  # colours stay as they are while the next answer's limit differs by no more than this
AHEAD = 3  # slices on either side that are made while nothing else is to do

Wish = tuple[int, Callable[[], Steps]]  # a frame, and how it is made


class Live(QObject):
    """Makes the frames that the viewer shows, one forward pass at a time, the newest wish first.

    There is no queue: whenever a forward pass ends, the next one is chosen by what is in view then.

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
        self.head: int | None = None
        self.asking = False  # whether voxels are asked, so that forward passes must be kept for it
        self.also: set[str] = set()  # sites that somebody else in the window wants fed, beside those that are ticked
        self.direction: Direction = "to"
        self.answers: dict[str, Answer] = {}
        self._limits: dict[str, tuple[float, float]] = {}  # of the maps that answers are shown in the place of
        self._focus: Voxel | None = None
        self._spot: Spot | None = None  # the voxel that is asked
        self._ticked: dict[Case, list[str]] = {}
        self._atlases: dict[Case, Atlas] = {}
        self._job: Job | None = None
        self._making: int | None = None  # the frame that the job is for
        self._doing = ""
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.timeout.connect(self._go)
        dims = session.viewer.dims.events
        for event in (dims.point, dims.order, dims.ndisplay):
            event.connect(self._view_changed)
        session.viewer.mouse_move_callbacks.append(self._pointed)
        session.image_changed.connect(self._view_changed)
        session.maps_changed.connect(self._follow_layers)

    def close(self) -> None:
        """Let go of the viewer."""
        dims = self.session.viewer.dims.events
        for event in (dims.point, dims.order, dims.ndisplay):
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
        return self._current(case) if case is not None else None

    @property
    def frame(self) -> int | None:
        """The frame in the middle of the view."""
        return next(iter(self._frames_in_view()), None)

    @property
    def busy(self) -> bool:
        """Whether a frame is being made, or is about to be."""
        return self._job is not None or self._soon.isActive()

    def ticked(self, case: Case | None = None) -> list[str]:
        """Keys of the sites whose maps are wanted in view."""
        case = case or self.session.case
        return self._ticked.get(case, []) if case is not None else []

    def shown(self, key: str) -> bool:
        """Whether a site of the current case is ticked."""
        return key in self.ticked()

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
            self._put(case, self.sites[key])
        self.ticks_changed.emit()
        self._soon.start(0)

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
        self.head = head
        self.take_answers(list(self.answers.values()))
        self.redraw()

    def refresh(self) -> None:
        """The network or the view may have changed: make what is missing."""
        self._soon.start(0)

    def listen(self, spot: Spot | None) -> None:
        """Make sure that a voxel of the current image can be asked, or that none needs to be."""
        self._spot, atlas = spot, self.atlas
        case = self.session.case
        if spot is not None and case is not None and atlas is not None and atlas.unheard(spot, self._fed(case)):
            self._soon.start(0)

    def outdate(self, case: Case) -> None:
        """There is a new mask, perhaps of another network: forget what the old one attended to."""
        self._atlases.pop(case, None)
        predictor = self.predictor(case)
        sites = predictor.sites if predictor is not None else {}
        for key, layer in list(case.maps.items()):
            if key not in sites or not layer.visible:
                self.session.viewer.layers.remove(layer)
        self._ticked[case] = [key for key in self.ticked(case) if key in sites]
        self.take_answers([])
        for layer in case.maps.values():
            layer.metadata[KEY] = {**layer.metadata[KEY], "record": self._record(case)}
            layer.refresh()
        self._soon.start(0)

    # Drawing

    def _put(self, case: Case, site: AttentionSite) -> None:
        from napari_medattn.inference.prediction import display_limits

        place = layer_place(case.image)
        z, y, x = place.grid.shape
        data = lazy_map((z, y, x), place.spatial_dims, lambda box: self._draw(case, site.key, box))
        known = self._seen(case, site.key)
        limits = display_limits(site, known) if known is not None else display_limits(site, np.zeros(1, np.float32))
        case.put_map(site.key, map_to_layer(site, data, case.image, self._record(case), limits))

    def _draw(self, case: Case, key: str, box: Box) -> NDArray[np.float32] | None:
        atlas = self._atlases.get(case)
        if atlas is None or key not in atlas.scene.predictor.sites:
            return None
        answer = self.answers.get(key) if case == self.session.case else None
        head = self._head(atlas.scene.site(key))
        return atlas.draw_answer(answer, head, box) if answer is not None else atlas.draw(key, head, box)

    def _head(self, site: AttentionSite) -> int | None:
        return self.head if self.head is not None and self.head < site.heads else None

    def _seen(self, case: Case, key: str) -> NDArray[np.float32] | None:
        """Some values of a map that are known, to choose limits by."""
        atlas = self._current(case)
        frame = next(iter(frames_in_view(self.session.viewer, case.image, atlas.scene)), 0) if atlas else 0
        return atlas.sample(frame, key) if atlas is not None else None

    def redraw(self, keys: Any = None) -> None:
        """Draw the layers of these sites again, or of all that are ticked."""
        case = self.session.case
        for key in self.ticked() if keys is None else keys:
            if case is not None and key in case.maps:
                case.maps[key].refresh(thumbnail=False, extent=False)

    def take_answers(self, answers: list[Answer]) -> None:
        """Show what a voxel was answered in the place of these sites' maps, and the maps of all others."""
        from napari_medattn.look.atlas import one_head

        case = self.session.case
        maps = case.maps if case is not None else {}
        before, self.answers = self.answers, {answer.site.key: answer for answer in answers}
        for key in before.keys() - self.answers.keys():
            if key in maps and key in self._limits:
                maps[key].contrast_limits = self._limits.pop(key)
        for key in self.answers.keys() & maps.keys():
            if key not in before:
                self._limits[key] = tuple(maps[key].contrast_limits)
            site = self.answers[key].site
            values = one_head(self.answers[key].values, self._head(site))
            highest = max(2.0, float(np.quantile(values, _NEARLY_ALL)))
            if key not in before or not _CALM[0] < highest / maps[key].contrast_limits[1] < _CALM[1]:
                maps[key].contrast_limits = (0.0, highest)
        self.redraw([key for key in maps if key in before or key in self.answers])
        self.answered.emit()

    def _record(self, case: Case) -> dict[str, Any]:
        """What made a map: the mask's record, or as much of one as is known without a mask."""
        if case.prediction is not None:
            return dict(case.prediction.record)
        predictor = self.predictor(case)
        card = predictor.card if predictor is not None else None
        if card is None:
            return {"image": case.image.name}
        return {
            "image": case.image.name,
            "checkpoint": card.name,
            "weights_sha256": card.weights_sha256,
            "parent": card.parent,
            "network": card.network,
            "trained_on": card.trained_on or "untrained",
        }

    # Making

    def _view_changed(self, event: Any = None) -> None:
        self._focus = None
        if self._job is not None and self._making is not None and self._making not in self._frames_in_view():
            self._job.cancel()
        self._soon.start(0)

    def _frames_in_view(self) -> list[int]:
        """The frames that the view shows of the current case, the nearest to its middle first."""
        case, atlas = self.session.case, self.atlas
        if case is None or atlas is None:
            return []
        return frames_in_view(self.session.viewer, case.image, atlas.scene)

    def _pointed(self, _viewer: Any, event: Any) -> None:
        """A 3-D network sees the tile around the cursor, once that has come to rest."""
        case, atlas = self.session.case, self.atlas
        if case is None or atlas is None or atlas.scene.flat or atlas.scene.frames == 1 or not self.ticked(case):
            return
        voxel = voxel_at(case.image, tuple(event.position))
        if all(0 <= at < size for at, size in zip(voxel, atlas.scene.volume.grid.shape, strict=True)):
            self._focus = voxel
            self._soon.start(REST_MS)

    def _current(self, case: Case) -> Atlas | None:
        """The case's atlas, if it is still of the image and the network that are looked into."""
        atlas = self._atlases.get(case)
        if atlas is not None and (atlas.scene is not case.scene or atlas.scene.predictor is not self.predictor(case)):
            del self._atlases[case]
            self.take_answers([])
            return None
        return atlas

    def _go(self) -> None:
        """Start the forward pass that is wanted most, unless one is under way; its end comes back here."""
        case, viewer = self.session.case, self.session.viewer
        if self._job is not None or self.jobs.closed or case is None or case.image not in viewer.layers:
            return
        predictor = self.predictor(case)
        if predictor is None or not (keys := self._fed(case)):
            self._tell("")
            return
        atlas = self._current(case)
        if atlas is None:
            self._start(case, lambda: _scene_steps(case, predictor), lambda scene: self._begin(case, scene))
            return
        wish = self._next(case, atlas, keys)
        if wish is None:
            self._tell("")
            return
        self._making, steps = wish
        self._start(case, steps, lambda page: self._take(case, atlas, page))

    def _fed(self, case: Case) -> list[str]:
        """The sites that the next forward pass is to feed."""
        from napari_medattn.look.query import sites_to_listen

        keys = [key for key in dict.fromkeys([*self.ticked(case), *self.also]) if key in self.sites]
        return sites_to_listen(self.sites, keys, self.direction if self.asking else "to")

    def _next(self, case: Case, atlas: Atlas, keys: list[str]) -> Wish | None:
        """What to make next: what is in view, then what the voxel that is asked needs, then the view's neighbours."""
        from napari_medattn.look import can_ask

        askable = [key for key in keys if self.asking and can_ask(self.sites[key])]
        spot = self._spot if self.asking else None
        tile = spot.tile if spot is not None else 0
        frames = frames_in_view(self.session.viewer, case.image, atlas.scene, self._focus)
        for order, frame in enumerate(frames):
            atlas.show(frame, keys)
            missing = atlas.missing(frame, keys)
            if missing:
                self._tell(f"Looking at {'slice' if atlas.scene.flat else 'tile'} {frame + 1} ...")
                return frame, partial(atlas.make_steps, frame, missing, [] if order else askable, tile)
        unheard = atlas.unheard(spot, keys) if spot is not None else []
        if spot is not None and unheard:
            return spot.frame, partial(_listen_steps, atlas, spot, unheard)
        if not atlas.scene.flat or not frames:
            return None
        for step in range(1, AHEAD + 1):
            for frame in (frames[0] + step, frames[0] - step):
                if 0 <= frame < atlas.scene.frames and (missing := atlas.missing(frame, keys)):
                    return frame, partial(atlas.make_steps, frame, missing, askable if spot else [], tile, 0)
        return None

    def _tell(self, doing: str) -> None:
        if doing != self._doing:
            self._doing = doing
            self.working.emit(doing)

    def _start(self, case: Case, steps: Any, take: Any) -> None:
        def ended(then: Any) -> Any:
            def both(*result: Any) -> None:
                self._job = self._making = None
                then(*result)
                self._soon.start(0)

            return both

        def fail(error: BaseException) -> None:
            for key in list(self.ticked(case)):
                self._ticked[case].remove(key)
                if key in case.maps:
                    case.maps[key].visible = False
            self.also.clear()
            self.ticks_changed.emit()
            self._doing = ""  # so that the error is not wiped away
            self.failed.emit(error)

        self._job = self.jobs.start(
            "looking", steps, on_done=ended(take), on_error=ended(fail), on_cancelled=ended(lambda: None), quiet=True
        )

    def _begin(self, case: Case, scene: Any) -> None:
        from napari_medattn.look import Atlas

        if case.scene is None or scene is not case.scene:  # the image was swapped meanwhile
            return
        atlas = self._atlases[case] = Atlas(case.scene)
        if case.prediction is not None and case.predictor is case.scene.predictor:
            for found in case.prediction.attention.values():
                atlas.adopt(found)
        self.redraw()

    def _take(self, case: Case, atlas: Atlas, page: Page) -> None:
        """Take in a frame; one of an image or a network that is no longer looked at is dropped."""
        if self._current(case) is not atlas:
            return
        from napari_medattn.inference.prediction import display_limits

        first = [key for key in page.maps if not atlas.begun(key)]
        atlas.keep(page)
        if case != self.session.case:
            return
        atlas.show(page.frame, page.maps)
        for key in first:
            sample = atlas.sample(page.frame, key)
            if key in case.maps and sample is not None:
                case.maps[key].contrast_limits = display_limits(atlas.scene.site(key), sample)
        self.redraw([key for key in page.maps if key in self.ticked(case)])
        self.glanced.emit(case)

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
            self._soon.start(0)


def _scene_steps(case: Case, predictor: Predictor) -> Steps:
    yield from ()
    return scene_of(case, predictor)


def _listen_steps(atlas: Atlas, spot: Spot, keys: list[str]) -> Steps:
    yield from ()
    return atlas.listen(spot, keys)
