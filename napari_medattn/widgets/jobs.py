"""Core generators on a worker thread. The only file that knows threads.

A core generator is owned, run and closed on the worker thread; the window hears of it through queued signals.
Cancelling sets a flag that is looked at between two steps, so the generator's own clean-up has run before the
window is told.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator
from typing import Any

from napari.utils import progress as activity
from superqt.utils import create_worker

from napari_medattn.events import Progress, TrainingStep

Steps = Generator[Any, None, Any]


class Job:
    """A running generator, seen from the window.

    Attributes:
        running: False once it has ended, however it did.
    """

    def __init__(self, title: str) -> None:
        self.title = title
        self.running = True
        self._stop = threading.Event()

    def cancel(self) -> None:
        """Ask it to stop after the step it is at."""
        self._stop.set()

    @property
    def cancelled(self) -> bool:
        """Whether it was asked to stop."""
        return self._stop.is_set()


class _Failure:
    def __init__(self, error: BaseException) -> None:
        self.error = error


_CANCELLED = object()


class Jobs:
    """Starts jobs and keeps those that run."""

    def __init__(self) -> None:
        self._running: list[Job] = []
        self._closed = False

    def start(
        self,
        title: str,
        make_steps: Callable[[], Steps],
        *,
        on_done: Callable[[Any], None],
        on_error: Callable[[BaseException], None],
        on_event: Callable[[Any], None] | None = None,
        on_cancelled: Callable[[], None] | None = None,
        quiet: bool = False,
    ) -> Job:
        """Run a generator in the background.

        Args:
            title: What is being done, for napari's activity dock.
            make_steps: Makes the generator; called on the worker thread.
            on_done: Called in the window with what the generator returns.
            on_error: Called in the window with what it raises.
            on_event: Called in the window with what it yields.
            on_cancelled: Called in the window after it was cancelled and closed.
            quiet: Keep it out of the activity dock.
        """
        job = Job(title)
        bar = None if quiet else activity(total=0, desc=title)

        def heard(event: Any) -> None:
            if self._closed or not job.running:
                return
            if on_event is not None:
                on_event(event)
            # Last, because napari's bar lets the window handle events, so the job's end may come in here.
            if bar is not None:
                _advance(bar, event)

        def ended(outcome: Any) -> None:
            job.running = False
            self._running.remove(job)
            if bar is not None:
                bar.close()
            if self._closed:
                return
            if outcome is _CANCELLED:
                if on_cancelled is not None:
                    on_cancelled()
            elif isinstance(outcome, _Failure):
                on_error(outcome.error)
            else:
                try:
                    on_done(outcome)
                except Exception as error:  # noqa: BLE001 - a result that cannot be shown is an error too
                    on_error(error)

        self._running.append(job)
        create_worker(
            _bridge,
            make_steps,
            job,
            _start_thread=True,
            _connect={"yielded": heard, "returned": ended},
        )
        return job

    @property
    def closed(self) -> bool:
        """Whether nobody is to be called back any more."""
        return self._closed

    def close(self) -> None:
        """Ask everything to stop, and no longer call back."""
        self._closed = True
        for job in self._running:
            job.cancel()


def _bridge(make_steps: Callable[[], Steps], job: Job) -> Generator[Any, None, Any]:
    """Run on the worker thread: pass events on, and turn every end into a value.

    Errors are returned rather than raised, because the worker would take any RuntimeError, such as torch
    running out of memory, for its own deletion and keep silent about it.
    """
    try:
        steps = make_steps()
    except Exception as error:  # noqa: BLE001 - whatever it is, the window must hear of it
        return _Failure(error)
    try:
        while not job.cancelled:
            try:
                event = next(steps)
            except StopIteration as end:
                return end.value
            yield event
    except Exception as error:  # noqa: BLE001 - as above
        return _Failure(error)
    finally:
        steps.close()
    return _CANCELLED


def _advance(bar: Any, event: Any) -> None:
    progress = event.progress if isinstance(event, TrainingStep) else event
    if isinstance(progress, Progress) and progress.total:
        bar.total = progress.total
        bar.update(progress.done - bar.n)
