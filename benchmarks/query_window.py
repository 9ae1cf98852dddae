"""From the mouse to the pixels: how long the real window takes to answer a voxel, and whether scrolling stalls it.

    xvfb-run -a -s "-screen 0 1400x900x24" python benchmarks/query_window.py [NETWORK ...]

Each family with queries runs at its paper's size with fresh weights on two threads, on a scan of 30 slices of
512 x 512. A mouse-move event is sent to the canvas; the clock stops when the canvas has drawn the answer of all three
ticked sites. Then 25 slices are scrolled through while their maps are made, and every gap of the event loop counts.

The last line is the floor that napari and the machine set: the same canvas with three image layers that are plain
arrays in memory, redrawn as it is (for the time to pixels) and scrolled (for the gaps).
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from napari_medattn.bench.attention import FAMILIES, SIDE, THREADS, TICKED, Family, finest, scan

MOVES, WARM_UP, SCROLLED, SLICES = 60, 5, 25, 30
SECONDS_PER_SLICE, PAUSE = 0.2, 0.1  # the pause lets the window finish with the last move before the next is timed


def main(names: list[str]) -> None:
    """Measure the families and print the table."""
    torch.set_num_threads(THREADS)
    os.environ["MEDATTN_HOME"] = tempfile.mkdtemp()
    table = Table("network", "voxel to pixels, median", "95 %", "event loop while scrolling: largest gap", "99 %")
    for family in FAMILIES:
        if not names or family.name in names:
            asked, gaps = measure(family)
            table.add_row(
                f"{family.name} {family.side} x {family.side}",
                *(f"{value:.0f} ms" for value in (*np.percentile(asked, (50, 95)), max(gaps), np.percentile(gaps, 99))),
            )
    redrawn, gaps = floor()
    table.add_row(
        "three plain layers",
        *(f"{value:.0f} ms" for value in (*np.percentile(redrawn, (50, 95)), max(gaps), np.percentile(gaps, 99))),
    )
    Console(width=140).print(table)


def measure(family: Family) -> tuple[list[float], list[float]]:
    """Milliseconds of each answered move, and of each gap of the event loop."""
    import napari

    from napari_medattn.layerdata import volume_to_layer
    from napari_medattn.widgets.dock import AttentionDock

    viewer = napari.Viewer()
    data, kwargs, _ = volume_to_layer(scan(SLICES))
    viewer.add_image(data, **kwargs)
    _, dock = viewer.window.add_plugin_dock_widget("napari-medattn", "Attention segmentation")
    assert isinstance(dock, AttentionDock)
    use(dock, family)
    keys = finest(dock.session.predictor, TICKED)
    for key in keys:
        dock.look.live.show(key)
    dock.look.asking.turn(True)
    try:
        asked = ask_voxels(dock, keys)
        dock.viewer.dims.set_current_step(0, 0)
        wait(lambda: not dock.look.live.busy)
        gaps = scroll(dock.viewer)
        wait(lambda: not dock.look.live.busy)
        return asked, gaps
    finally:
        dock.look.asking.turn(False)
        wait(lambda: not dock.look.live.busy)
        viewer.close()


def use(dock: object, family: Family) -> None:
    """Choose the family's network, which is saved as a checkpoint of its own for that."""
    from napari_medattn.models import create_model
    from napari_medattn.store import save_checkpoint

    card = family.predictor().card
    save_checkpoint(card, create_model(card.network, **card.arguments))
    dock.session.refresh_checkpoints(choose=card.name)
    wait(lambda: dock.session.predictor is not None)


def ask_voxels(dock: object, keys: list[str]) -> list[float]:
    """Move the mouse over the canvas, and wait each time until the answer is drawn."""
    from qtpy.QtCore import QPoint
    from qtpy.QtTest import QTest

    live, canvas = dock.look.live, canvas_of(dock.viewer)
    middle = canvas.rect().center()
    frames: list[float] = []
    canvas.frameSwapped.connect(lambda: frames.append(time.perf_counter()))
    QTest.mouseMove(canvas, middle)
    wait(lambda: set(live.answers) == set(keys) and not live.busy)
    times = []
    reach = min(canvas.width(), canvas.height()) * 2 // 5
    places = np.random.default_rng(0).integers(-reach, reach, (MOVES + WARM_UP, 2))
    for x, y in places.tolist():
        rest(PAUSE)
        before = dict(live.answers)
        began = time.perf_counter()
        QTest.mouseMove(canvas, middle + QPoint(x, y))
        wait(lambda before=before: all(live.answers.get(key) is not before[key] for key in keys))
        answered = time.perf_counter()
        wait(lambda answered=answered: bool(frames) and frames[-1] > answered)
        times.append((frames[-1] - began) * 1e3)
        wait(lambda: not live.busy)
    return times[WARM_UP:]


def floor() -> tuple[list[float], list[float]]:
    """Milliseconds of a redraw of the canvas, and of each gap while scrolling, with layers that are simply there."""
    import napari

    from napari_medattn.palette import map_colours

    viewer = napari.Viewer()
    viewer.add_image(scan(SLICES).array[0])
    viewer.window.add_plugin_dock_widget("napari-medattn", "Attention segmentation")
    colours = {"name": "attention", "colors": map_colours()}
    for seed in range(TICKED):
        values = np.random.default_rng(seed).random((SLICES, SIDE, SIDE), np.float32)
        layer = viewer.add_image(values, colormap=colours, blending="translucent_no_depth", opacity=0.8)
        layer.metadata["medattn"] = {"record": {}}
    canvas, frames, times = canvas_of(viewer), [], []
    canvas.frameSwapped.connect(lambda: frames.append(time.perf_counter()))
    for _ in range(MOVES):
        rest(PAUSE)
        began = time.perf_counter()
        canvas.update()
        wait(lambda began=began: bool(frames) and frames[-1] > began)
        times.append((frames[-1] - began) * 1e3)
    gaps = scroll(viewer)
    viewer.close()
    return times, gaps


def scroll(viewer: object) -> list[float]:
    """Step through slices with the maps in view, and note each gap between two turns of a timer of 5 ms."""
    from qtpy.QtCore import QTimer

    gaps: list[float] = []
    last = time.perf_counter()

    def beat() -> None:
        nonlocal last
        now = time.perf_counter()
        gaps.append((now - last) * 1e3)
        last = now

    timer = QTimer()
    timer.setInterval(5)
    timer.timeout.connect(beat)
    last = time.perf_counter()
    timer.start()
    for step in range(1, SCROLLED + 1):
        viewer.dims.set_current_step(0, step)
        rest(SECONDS_PER_SLICE)
    beat()
    timer.stop()
    return gaps


def canvas_of(viewer: object) -> object:
    """The widget that napari draws on."""
    from qtpy.QtWidgets import QApplication

    return next(
        widget for widget in QApplication.allWidgets() if hasattr(widget, "frameSwapped") and widget.isVisible()
    )


def rest(seconds: float) -> None:
    """Let the window live for a while."""
    until = time.perf_counter() + seconds
    wait(lambda: time.perf_counter() > until)


def wait(done: Callable[[], bool], seconds: float = 600.0) -> None:
    """Let the window live until something is so."""
    from qtpy.QtCore import QEventLoop
    from qtpy.QtWidgets import QApplication

    until = time.perf_counter() + seconds
    while not done():
        QApplication.processEvents(QEventLoop.ProcessEventsFlag.AllEvents, 5)
        time.sleep(0.0005)
        if time.perf_counter() > until:
            raise TimeoutError(f"still waiting in {Path(__file__).name}")


if __name__ == "__main__":
    main(sys.argv[1:])
