"""`Asking`: the voxel under the cursor is asked what it attends to."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, QTimer, Signal

from napari_medattn.errors import InputError, MedAttnError
from napari_medattn.widgets.case import Case
from napari_medattn.widgets.jobs import Job, Jobs, Steps
from napari_medattn.widgets.look.live import Live
from napari_medattn.widgets.look.view import Voxel, box_in_view, voxel_at

if TYPE_CHECKING:
    from napari_medattn.look import Answer, Atlas
    from napari_medattn.look.query import Direction

PACE_MS = 15  # the shortest time between two questions while the mouse moves


class Asking(QObject):
    """Follows the cursor while it is on; a click holds the voxel, another lets it go.

    Each move costs one row of each ticked site's attention, and no forward pass. That is so little on a CPU that it
    is done at once, and drawn with what else the move changes in the window; anything more is a job. The newest voxel
    is asked next; those that were passed over meanwhile are not asked at all.

    Args:
        live: The maps.
        jobs: The dock's jobs.
    """

    said = Signal(str)
    turned = Signal(bool)

    def __init__(self, live: Live, jobs: Jobs) -> None:
        super().__init__()
        self.live, self.jobs = live, jobs
        self.viewer = live.session.viewer
        self.on = False
        self.held = False
        self._voxel: Voxel | None = None
        self._asked: tuple[Any, ...] | None = None
        self._job: Job | None = None
        self._pace = QTimer(self)
        self._pace.setSingleShot(True)
        self._pace.timeout.connect(self._ask)
        live.glanced.connect(lambda _case: self._ask())
        live.ticks_changed.connect(self._ask)
        live.session.image_changed.connect(self._forget)
        self.viewer.dims.events.point.connect(self._scrolled)

    def close(self) -> None:
        """Let go of the viewer."""
        self.turn(False)
        self.viewer.dims.events.point.disconnect(self._scrolled)

    def turn(self, on: bool) -> None:
        """Start or stop asking."""
        if on == self.on:
            return
        self.on = self.live.asking = on
        for callbacks, ours in (
            (self.viewer.mouse_move_callbacks, self._moved),
            (self.viewer.mouse_drag_callbacks, self._clicked),
        ):
            if on:
                callbacks.append(ours)
            elif ours in callbacks:
                callbacks.remove(ours)
        if on:
            self.said.emit(self.why_not() or "Point at a voxel; click to hold it.")
            self.live.refresh()
        else:
            self.said.emit("")
        self._forget()
        self.turned.emit(on)

    def why_not(self) -> str:
        """Why nothing that is ticked can be asked; empty if something can."""
        from napari_medattn.look import can_ask

        sites = [self.live.sites[key] for key in self.live.ticked() if key in self.live.sites]
        if any(can_ask(site) for site in sites):
            return ""
        askable = any(can_ask(site) for site in self.live.sites.values())
        if not askable:
            kinds = " and ".join(sorted({f"{site.kind}s" for site in self.live.sites.values()}))
            return f"This network has only {kinds}: they weigh each voxel by itself, so there is nothing to ask."
        return "Tick a pairwise, axial or factored site to ask its voxels."

    def choose(self, direction: Direction) -> None:
        """Which question is asked."""
        self.live.direction = direction
        self.live.refresh()
        self._ask()

    @property
    def busy(self) -> bool:
        """Whether an answer is on its way, or a voxel waits for its turn."""
        return self._job is not None or self._pace.isActive()

    def point(self, voxel: Voxel) -> None:
        """Ask a voxel (Z, Y, X) of the current image."""
        self._voxel = voxel
        if not self._pace.isActive():
            self._ask()
            self._pace.start(PACE_MS)

    def _forget(self) -> None:
        self._voxel, self._asked, self.held = None, None, False
        self.live.listen(None)
        self.live.take_answers([])

    def _scrolled(self, _event: Any = None) -> None:
        """Another slice under a resting cursor is another voxel."""
        case = self.live.session.case
        if case is None or self._voxel is None or self.held:
            return
        spans = box_in_view(self.viewer, case.image)
        z, y, x = (
            float(span.start) if span.stop - span.start == 1 else at
            for span, at in zip(spans, self._voxel, strict=True)
        )
        self.point((z, y, x))

    def _moved(self, _viewer: Any, event: Any) -> None:
        case = self.live.session.case
        if case is not None and not self.held:
            self.point(voxel_at(case.image, tuple(event.position)))

    def _clicked(self, _viewer: Any, event: Any) -> Generator[None, None, None]:
        """A click, not a drag, holds the voxel or lets it go."""
        began = event.pos
        yield
        while event.type == "mouse_move":
            yield
        if abs(event.pos[0] - began[0]) + abs(event.pos[1] - began[1]) < 4:
            self.held = False if self.held else bool(self.live.answers)
            self._moved(_viewer, event)

    def _ask(self) -> None:
        """Ask the voxel pointed at, unless an answer is on its way; its arrival comes back here."""
        case, atlas = self.live.session.case, self.live.atlas
        if not self.on or self._voxel is None or self._job is not None or case is None or atlas is None:
            return
        keys = self._keys(atlas)
        if not keys:
            self.said.emit(self.why_not())
            return
        try:
            spot = atlas.scene.locate(self._voxel)
        except InputError:
            self.said.emit("The cursor is outside of the scan.")
            return
        self.live.listen(spot)
        glance = atlas.glance(spot)
        keys = [key for key in keys if glance is not None and key in glance.records]
        if glance is None or not keys:
            return
        where = (case, spot, self.live.direction, tuple(keys), tuple(glance.records))
        if where == self._asked:
            return
        self._asked, direction, scene = where, self.live.direction, atlas.scene

        def answers() -> list[Answer]:
            from napari_medattn.look import ask

            return [ask(scene, glance, key, spot, direction) for key in keys]

        if direction == "to" and scene.predictor.device.type == "cpu":
            self._answer_at_once(case, atlas, answers)
        else:
            self._answer_soon(case, atlas, answers)

    def _answer_at_once(self, case: Case, atlas: Atlas, answers: Callable[[], list[Answer]]) -> None:
        try:
            found = answers()
        except MedAttnError as error:
            self._failed(error)
        else:
            self._answered(case, atlas, found)

    def _answer_soon(self, case: Case, atlas: Atlas, answers: Callable[[], list[Answer]]) -> None:
        def steps() -> Steps:
            yield from ()
            return answers()

        self._job = self.jobs.start(
            "asking",
            steps,
            on_done=lambda found: self._answered(case, atlas, found),
            on_error=self._failed,
            on_cancelled=self._ended,
            quiet=True,
        )

    def _keys(self, atlas: Atlas) -> list[str]:
        from napari_medattn.look import can_ask

        sites = atlas.scene.predictor.sites
        return [key for key in self.live.ticked() if key in sites and can_ask(sites[key])]

    def _answered(self, case: Case, atlas: Atlas, answers: list[Answer]) -> None:
        """Show the answers, unless the image, the network or the mode is another one by now."""
        self._job = None
        if self.on and case == self.live.session.case and atlas is self.live.atlas and self._voxel is not None:
            self.live.take_answers([answer for answer in answers if self.live.shown(answer.site.key)])
            self.said.emit(self._words(answers))
        self._ask()

    def _words(self, answers: list[Answer]) -> str:
        from napari_medattn.look.query import DIRECTIONS

        assert self._voxel is not None
        at = ", ".join(str(round(where)) for where in self._voxel)
        most = max(answers, key=lambda answer: float(answer.values.max()))
        held = " (held; click to let go)" if self.held else ""
        return (
            f"Voxel {at}: {DIRECTIONS[most.direction]}{held}. "
            f"Up to {most.values.max():.3g} times an even share in {most.site.title}."
        )

    def _failed(self, error: BaseException) -> None:
        self._ended()
        self.live.failed.emit(error)

    def _ended(self) -> None:
        self._job = None
