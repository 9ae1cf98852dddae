"""A real viewer with the real dock, and waiting for it without sleeping."""

from __future__ import annotations

from qtpy.QtCore import Qt

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
    """Tick every site that came with the mask, and wait for the layers."""
    for key in dock.session.case.prediction.attention:
        dock.look.show_site(key)
    wait_for_maps(dock, len(dock.session.case.prediction.attention), qtbot)


def tick(dock: AttentionDock, key: str, on: bool = True) -> None:
    """Tick or untick a site in the tree, as a click does."""
    dock.look.tree.item(key).setCheckState(0, Qt.CheckState.Checked if on else Qt.CheckState.Unchecked)


def is_ticked(dock: AttentionDock, key: str) -> bool:
    """Whether the tree shows a tick for a site."""
    return dock.look.tree.item(key).checkState(0) == Qt.CheckState.Checked


def wait_for_maps(dock: AttentionDock, count: int, qtbot) -> None:
    """Wait until ``count`` maps are in view and nothing is being made; a timeout tells what the panel says."""

    def arrived() -> None:
        shown = sum(layer.visible for layer in dock.session.case.maps.values())
        busy, said = dock.look.live.busy, dock.look.message.text
        assert (shown, busy) == (count, False), f"{shown} maps, busy {busy}, {said!r}, {dock.segment.message.text!r}"

    qtbot.waitUntil(arrived, timeout=PATIENCE)
