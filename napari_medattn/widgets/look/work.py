"""`Work`: the one thing that a tool window is doing, for the scan that it was started on."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QObject, Signal

from napari_medattn.events import Progress
from napari_medattn.widgets.case import Case
from napari_medattn.widgets.jobs import Job, Jobs, Steps
from napari_medattn.widgets.look.scenes import scene_of
from napari_medattn.widgets.parts import MessageLine, ProgressLine
from napari_medattn.widgets.session import Session

if TYPE_CHECKING:
    from napari_medattn.inference import Predictor
    from napari_medattn.look import Scene


class Work(QObject):
    """Runs core generators over the scene of the current case, and drops results that come too late.

    A result is too late once another scan is worked on, the scan is gone, or its layer shows another image.

    Args:
        session: The dock's session.
        jobs: The dock's jobs.
    """

    changed = Signal()  # it began or ended

    def __init__(self, session: Session, jobs: Jobs) -> None:
        super().__init__()
        self.session, self.jobs = session, jobs
        self.progress, self.message = ProgressLine(), MessageLine()
        self._job: Job | None = None

    @property
    def running(self) -> bool:
        """Whether something is under way that nobody has cancelled."""
        return self._job is not None and not self._job.cancelled

    @property
    def predictor(self) -> Predictor | None:
        """The network that is looked into: the mask's, or the chosen one before there is a mask."""
        case = self.session.case
        return (case.predictor if case is not None else None) or self.session.predictor

    def start(
        self,
        title: str,
        make: Callable[[Scene], Generator[Any, None, Any]],
        done: Callable[[Case, Any], None],
    ) -> None:
        """Run a generator in the background; whatever ran before is cancelled.

        Args:
            title: What is being done.
            make: Makes the generator from the scan before the network; called on the worker thread.
            done: Called in the window with the case and what the generator returns.
        """
        case, predictor = self.session.case, self.predictor
        if case is None or predictor is None:
            self.message.say("Needs a scan and a network that is loaded.")
            return
        self.cancel()
        shown = case.image.data

        def steps() -> Steps:
            yield Progress("preparing", 0, 0)
            result = yield from make(scene_of(case, predictor))
            return result

        def follow(event: Any) -> None:
            if job is self._job and isinstance(event, Progress):
                self.progress.follow(event)

        def ended(then: Callable[..., None] | None) -> Callable[..., None]:
            def both(*result: Any) -> None:
                if job is not self._job:  # another began meanwhile, or the window is gone
                    return
                self._job = None
                self.progress.finish()
                late = case != self.session.case or case.image not in self.session.viewer.layers
                if then is not None and not late and case.image.data is shown:
                    then(*result)
                self.changed.emit()

            return both

        self.message.say("")
        job = self.jobs.start(
            title,
            steps,
            on_event=follow,
            on_done=ended(lambda result: done(case, result)),
            on_error=ended(self.message.fail),
            on_cancelled=ended(lambda: self.message.say("Cancelled.")),
        )
        self._job = job
        self.changed.emit()

    def cancel(self) -> None:
        """Stop after the step that is under way."""
        if self._job is not None:
            self._job.cancel()
            self.changed.emit()

    def leave(self) -> None:
        """Stop, and hear no more of it."""
        self.cancel()
        self._job = None
        self.progress.finish()
