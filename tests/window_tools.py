"""A real viewer with the real dock, and waiting for it without sleeping."""

from __future__ import annotations

from napari_medattn.widgets.dock import AttentionDock

PLUGIN = "napari-medattn"
PATIENCE = 60_000  # ms


def open_dock(viewer) -> AttentionDock:
    """Open the dock the way the Plugins menu does, through the manifest."""
    _, dock = viewer.window.add_plugin_dock_widget(PLUGIN, "Attention segmentation")
    return dock


def choose(dock: AttentionDock, checkpoint: str, qtbot) -> None:
    """Choose a checkpoint and wait until its network is loaded."""
    dock.session.refresh_checkpoints(choose=checkpoint)
    qtbot.waitUntil(lambda: dock.session.predictor is not None, timeout=PATIENCE)


def segment(dock: AttentionDock, qtbot) -> None:
    """Press Segment and wait for the mask."""
    dock.segment.run.click()
    assert dock.segment.running
    qtbot.waitUntil(lambda: not dock.segment.running, timeout=PATIENCE)


def show_all_maps(dock: AttentionDock, qtbot) -> None:
    """Tick every site and wait for the layers."""
    case = dock.session.case
    for key in case.prediction.attention:
        dock.look.show_site(key)
    qtbot.waitUntil(lambda: len(case.maps) == len(case.prediction.attention), timeout=PATIENCE)


def wait_for_maps(dock: AttentionDock, count: int, qtbot) -> None:
    """Wait until ``count`` maps are shown and none is being made; a timeout tells what the panel says."""

    def arrived() -> None:
        shown, making, said = len(dock.session.case.maps), len(dock.look._making), dock.look.message.text
        assert (shown, making) == (count, 0), f"{shown} maps, {making} runs, {said!r}, {dock.segment.message.text!r}"

    qtbot.waitUntil(arrived, timeout=PATIENCE)
