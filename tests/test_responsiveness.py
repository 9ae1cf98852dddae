"""The window answers while a volume is being segmented."""

import time

import numpy as np
from qtpy.QtCore import QTimer

from napari_medattn.data import Volume
from napari_medattn.geometry import Grid
from napari_medattn.layerdata import volume_to_layer
from tests.window_tools import choose, open_dock, segment

LIMIT_MS = 100.0


class Heartbeat:
    """A timer of 5 ms that remembers how late it ever was."""

    def __init__(self) -> None:
        self.gaps: list[float] = []
        self._last = time.perf_counter()
        self._timer = QTimer()
        self._timer.setInterval(5)
        self._timer.timeout.connect(self._beat)

    def __enter__(self) -> "Heartbeat":
        self._last = time.perf_counter()
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._beat()
        self._timer.stop()

    def _beat(self) -> None:
        now = time.perf_counter()
        self.gaps.append((now - self._last) * 1e3)
        self._last = now

    @property
    def report(self) -> str:
        gaps = np.array(self.gaps)
        p50, p99 = np.percentile(gaps, (50, 99))
        return f"{len(gaps)} beats, gap median {p50:.1f}, p99 {p99:.1f}, max {gaps.max():.1f} ms"


def test_segmenting_a_training_sized_volume_never_stalls_the_window(make_napari_viewer, qtbot, record_property):
    random = np.random.default_rng(0)
    shape = (96, 160, 160)
    volume = Volume(
        random.normal(100, 20, (1, *shape)).astype(np.int16), Grid.from_spacing(shape, (1.0, 1.0, 1.0)), name="big"
    )
    viewer = make_napari_viewer()
    data, kwargs, _ = volume_to_layer(volume)
    viewer.add_image(data, **kwargs)
    dock = open_dock(viewer)
    choose(dock, "phantom", qtbot)
    with Heartbeat() as heart:
        segment(dock, qtbot)
    print(heart.report)
    record_property("event loop gaps", heart.report)
    assert dock.session.case.mask is not None
    assert len(heart.gaps) > 20
    assert max(heart.gaps) < LIMIT_MS, heart.report
