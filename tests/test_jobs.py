"""Jobs: every end of a generator reaches the window, and cancelling closes it where it ran."""

import threading

import pytest

from napari_medattn.events import Progress
from napari_medattn.widgets.jobs import Jobs

PATIENCE = 10_000


class Ear:
    """Hears all that a job has to say."""

    def __init__(self) -> None:
        self.events, self.results, self.errors, self.cancelled, self.threads = [], [], [], 0, set()

    def callbacks(self):
        return {
            "on_event": self._event,
            "on_done": self.results.append,
            "on_error": self.errors.append,
            "on_cancelled": self._cancelled,
        }

    def _event(self, event) -> None:
        self.events.append(event)
        self.threads.add(threading.current_thread())

    def _cancelled(self) -> None:
        self.cancelled += 1


@pytest.fixture
def ear():
    return Ear()


@pytest.fixture
def jobs(qapp):
    return Jobs()


def start(jobs, ear, steps, **options):
    return jobs.start("test", steps, **ear.callbacks(), quiet=options.pop("quiet", True), **options)


def test_events_and_result_arrive_in_order_on_the_windows_thread(jobs, ear, qtbot):
    def steps():
        yield from (1, 2, 3)
        return "end"

    start(jobs, ear, steps)
    qtbot.waitUntil(lambda: bool(ear.results), timeout=PATIENCE)
    assert (ear.events, ear.results) == ([1, 2, 3], ["end"])
    assert ear.threads == {threading.main_thread()}


def test_the_generator_runs_on_another_thread(jobs, ear, qtbot):
    def steps():
        yield
        return threading.current_thread()

    start(jobs, ear, steps)
    qtbot.waitUntil(lambda: bool(ear.results), timeout=PATIENCE)
    assert ear.results[0] is not threading.main_thread()


@pytest.mark.parametrize("error", [RuntimeError("out of memory"), ValueError("bad"), MemoryError()])
def test_any_error_is_told(jobs, ear, qtbot, error):
    def steps():
        yield
        raise error

    job = start(jobs, ear, steps)
    qtbot.waitUntil(lambda: bool(ear.errors), timeout=PATIENCE)
    assert ear.errors == [error]
    assert not job.running


def test_an_error_before_the_first_step_is_told(jobs, ear, qtbot):
    def cannot_start():
        raise ValueError("no")

    job = start(jobs, ear, cannot_start)
    qtbot.waitUntil(lambda: bool(ear.errors), timeout=PATIENCE)
    assert str(ear.errors[0]) == "no"
    assert not job.running


def test_cancel_closes_the_generator_before_the_window_is_told(jobs, ear, qtbot):
    closed_on = []

    def steps():
        try:
            while True:
                yield
        finally:
            closed_on.append(threading.current_thread())

    job = start(jobs, ear, steps)
    qtbot.waitUntil(lambda: len(ear.events) > 2, timeout=PATIENCE)
    job.cancel()
    qtbot.waitUntil(lambda: bool(ear.cancelled), timeout=PATIENCE)
    assert closed_on
    assert closed_on[0] is not threading.main_thread()
    assert ear.results == []


def test_after_closing_nothing_is_called_back(jobs, ear, qtbot):
    go, ended = threading.Event(), threading.Event()

    def steps():
        yield 1
        go.wait(10)
        ended.set()
        return "late"

    start(jobs, ear, steps)
    qtbot.waitUntil(lambda: bool(ear.events), timeout=PATIENCE)
    jobs.close()
    go.set()
    qtbot.waitUntil(ended.is_set, timeout=PATIENCE)
    qtbot.waitUntil(lambda: not jobs._running, timeout=PATIENCE)
    assert (ear.results, ear.cancelled) == ([], 0)


def test_the_activity_bar_does_not_let_an_event_overtake_the_end(jobs, ear, qtbot):
    """napari's bar handles window events when it moves, among them the end of the job."""
    order = []

    def steps():
        for number in range(20):
            yield Progress("work", number, 20)
        return "end"

    jobs.start("test", steps, on_event=order.append, on_done=order.append, on_error=order.append)
    qtbot.waitUntil(lambda: "end" in order, timeout=PATIENCE)
    assert order[-1] == "end"
