"""`Maker`: makes the frames that are in view, one forward pass at a time, the newest wish first."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from qtpy.QtCore import QObject, QTimer, Signal

from napari_medattn.widgets.case import Case
from napari_medattn.widgets.jobs import Job, Jobs, Steps
from napari_medattn.widgets.look.scenes import prediction_of, scene_of
from napari_medattn.widgets.look.view import Voxel, frames_in_view
from napari_medattn.widgets.session import Session

if TYPE_CHECKING:
    from napari_medattn.inference import Predictor
    from napari_medattn.look import Atlas, Page, Scene, Spot

AHEAD = 3  # slices on either side that are made while nothing else is to do

Wish = tuple[int, Callable[[], Steps]]  # a frame, and how it is made


class Wants(Protocol):
    """What somebody wants to see of a case."""

    def predictor(self, case: Case | None) -> Predictor | None:
        """The network that is looked into."""

    def fed(self, case: Case) -> list[str]:
        """The sites that forward passes are to feed."""


class Maker(QObject):
    """Keeps one atlas for each case, and fills it with what is in view.

    There is no queue: whenever a forward pass ends, the next one is chosen by what is in view then.

    Args:
        session: The dock's session.
        jobs: The dock's jobs.
        wants: What is wanted.
    """

    begun = Signal(object)  # a case that has a new atlas
    made = Signal(object, int, object, object)  # a case, a frame, its sites, and those of them that are new
    working = Signal(str)  # what is being made; nothing when idle
    failed = Signal(object, object)  # a case and an exception
    outdated = Signal(object)  # a case whose atlas no longer holds

    def __init__(self, session: Session, jobs: Jobs, wants: Wants) -> None:
        super().__init__()
        self.session, self.jobs, self.wants = session, jobs, wants
        self.focus: Voxel | None = None  # where somebody points, for networks that see a tile around it
        self.asking = False  # whether voxels are asked, so that forward passes must be kept for it
        self.spot: Spot | None = None  # the voxel that is asked
        self._atlases: dict[Case, Atlas] = {}
        self._job: Job | None = None
        self._making: int | None = None  # the frame that the job is for
        self._doing = ""
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.timeout.connect(self._go)

    @property
    def busy(self) -> bool:
        """Whether a frame is being made, or is about to be."""
        return self._job is not None or self._soon.isActive()

    def wake(self, after_ms: int = 0) -> None:
        """Look for something to make."""
        self._soon.start(after_ms)

    def view_changed(self) -> None:
        """Leave a frame that is no longer in view, and look for one that is."""
        self.focus = None
        if self._job is not None and self._making is not None and self._making not in self.frames():
            self._job.cancel()
        self.wake()

    def atlas_of(self, case: Case) -> Atlas | None:
        """The case's atlas, if it is still of the image and the network that are looked into."""
        atlas = self._atlases.get(case)
        if atlas is None or (atlas.scene is case.scene and atlas.scene.predictor is self.wants.predictor(case)):
            return atlas
        self.forget(case)
        return None

    def drawn(self, case: Case) -> Atlas | None:
        """The case's atlas as it is; changes nothing, so that layers may be drawn from any thread."""
        return self._atlases.get(case)

    def forget(self, case: Case) -> None:
        """Throw a case's atlas away."""
        if self._atlases.pop(case, None) is not None:
            self.outdated.emit(case)

    def leave(self, case: Case) -> None:
        """Let go of a case whose image is gone, and of what is held of the image."""
        self.forget(case)
        case.scene = None

    def frames(self) -> list[int]:
        """The frames that the view shows of the current case, the nearest to its middle first."""
        case = self.session.case
        atlas = self.atlas_of(case) if case is not None else None
        if case is None or atlas is None:
            return []
        return frames_in_view(self.session.viewer, case.image, atlas.scene)

    def _go(self) -> None:
        """Start the forward pass that is wanted most, unless one is under way; its end comes back here."""
        case, viewer = self.session.case, self.session.viewer
        if self._job is not None or self.jobs.closed or case is None or case.image not in viewer.layers:
            return
        predictor = self.wants.predictor(case)
        if predictor is None or not (keys := self.wants.fed(case)):
            self._tell("")
            return
        atlas = self.atlas_of(case)
        if atlas is None:
            self._start(case, lambda: _scene_steps(case, predictor), lambda scene: self._begin(case, scene))
            return
        wish = self._next(case, atlas, keys)
        if wish is None:
            self._tell("")
            return
        self._making, steps = wish
        self._start(case, steps, lambda page: self._take(case, atlas, page))

    def _next(self, case: Case, atlas: Atlas, keys: list[str]) -> Wish | None:
        """What to make next: what is in view, then what the voxel that is asked needs, then the view's neighbours."""
        from napari_medattn.look import can_ask

        askable = [key for key in keys if self.asking and can_ask(atlas.scene.site(key))]
        spot = self.spot if self.asking else None
        tile = spot.tile if spot is not None else 0
        seen, room = frames_in_view(self.session.viewer, case.image, atlas.scene, self.focus), atlas.fits(keys)
        frames = seen[:room]  # what would only push out what is nearer to the middle is not made
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
        steps = (side * step for step in range(1, AHEAD + 1) for side in (1, -1))
        near = [frame for step in steps if 0 <= (frame := frames[0] + step) < atlas.scene.frames]
        for frame in [frame for frame in near if frame not in frames][: room - len(frames)]:
            if missing := atlas.missing(frame, keys):
                return frame, partial(atlas.make_steps, frame, missing, askable if spot else [], tile, 0)
        return None

    def _tell(self, doing: str) -> None:
        if doing != self._doing:
            self._doing = doing
            self.working.emit(doing)

    def _start(self, case: Case, steps: Callable[[], Steps], take: Callable[[Any], None]) -> None:
        def ended(then: Callable[..., None]) -> Callable[..., None]:
            def both(*result: Any) -> None:
                self._job = self._making = None
                then(*result)
                self.wake()

            return both

        def fail(error: BaseException) -> None:
            self._doing = ""  # so that what is said about the error is not wiped away
            self.failed.emit(case, error)

        self._job = self.jobs.start(
            "looking", steps, on_done=ended(take), on_error=ended(fail), on_cancelled=ended(lambda: None), quiet=True
        )

    def _begin(self, case: Case, scene: Scene) -> None:
        from napari_medattn.look import Atlas

        if case.image not in self.session.viewer.layers:
            self.leave(case)
            return
        if scene is not case.scene:  # the image was swapped meanwhile
            return
        atlas = self._atlases[case] = Atlas(scene)
        made = prediction_of(case, scene)
        for found in made.attention.values() if made is not None else ():
            atlas.adopt(found)
        self.begun.emit(case)

    def _take(self, case: Case, atlas: Atlas, page: Page) -> None:
        """Take in a frame; one of an image or a network that is no longer looked at is dropped."""
        if self.atlas_of(case) is not atlas:
            return
        first = [key for key in page.maps if not atlas.begun(key)]
        atlas.keep(page)
        if case == self.session.case:
            atlas.show(page.frame, page.maps)
            self.made.emit(case, page.frame, list(page.maps), first)


def _scene_steps(case: Case, predictor: Predictor) -> Steps:
    yield from ()
    return scene_of(case, predictor)


def _listen_steps(atlas: Atlas, spot: Spot, keys: list[str]) -> Steps:
    yield from ()
    return atlas.listen(spot, keys)
