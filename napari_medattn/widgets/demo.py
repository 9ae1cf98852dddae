"""The demo: the main job on the shipped sample, done with the real dock in a real viewer."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import napari
from qtpy.QtCore import QEventLoop
from qtpy.QtWidgets import QApplication

from napari_medattn.errors import MedAttnError
from napari_medattn.look import contact_sheet, placed
from napari_medattn.widgets.dock import AttentionDock

CHECKPOINT = "phantom"
_PATIENCE = 180.0  # seconds; the demo takes a few


def show() -> None:
    """Do the main job and leave the window to the person."""
    viewer = napari.Viewer(title="napari-medattn demo")
    viewer.window.resize(1280, 800)
    main_job(viewer)
    napari.run()


def leave_results(out: Path) -> dict[Path, str]:
    """Do the main job, leave what came of it in a folder, and close the window.

    Returns:
        What each file is, by its path.
    """
    out.mkdir(parents=True, exist_ok=True)
    viewer = napari.Viewer(title="napari-medattn demo")
    viewer.window.resize(1280, 800)
    try:
        dock = main_job(viewer)
        case = dock.session.case
        assert case is not None and case.prediction is not None
        saving = dock.correct.save_mask(out / "mask.nii.gz")
        _wait(lambda: saving is not None and not saving.running, "the mask to be saved", dock)
        if not (out / "mask.nii.gz").exists():
            raise MedAttnError(f"The demo saved no mask. {dock.correct.message.text}", "Run `medattn doctor`.")
        contact_sheet(placed(case.prediction), out / "attention.png", labels=case.prediction.labels)
        settled = time.monotonic() + 1.0
        _wait(lambda: time.monotonic() > settled, "the window to settle", dock)
        viewer.screenshot(str(out / "window.png"), canvas_only=False, flash=False)
    finally:
        viewer.close()
    return {
        out / "window.png": "the window",
        out / "mask.nii.gz": "the mask, with the scan's exact affine",
        out / "attention.png": "a contact sheet of the attention maps",
    }


def main_job(viewer: napari.Viewer) -> AttentionDock:
    """Open the sample, segment it, and put every gate's map on it; the finest one is left in view.

    Raises:
        MedAttnError: If it does not come to that.
    """
    viewer.open_sample("napari-medattn", "volume")
    _, dock = viewer.window.add_plugin_dock_widget("napari-medattn", "Attention segmentation")
    dock.session.refresh_checkpoints(choose=CHECKPOINT)
    _wait(lambda: dock.session.predictor is not None, "the network to load", dock)
    dock.segment.start()
    _wait(lambda: not dock.segment.running, "the mask", dock)
    case = dock.session.case
    if case is None or case.prediction is None:
        raise MedAttnError(f"The demo made no mask: {dock.segment.message.text}", "Run `medattn doctor`.")
    for key in case.prediction.attention:
        dock.look.show_site(key)
    _wait(lambda: not dock.look.live.busy, "the attention maps", dock)
    for layer in list(case.maps.values())[:-1]:
        layer.visible = False
    viewer.layers.selection.active = case.mask
    return dock


def _wait(ready: Callable[[], bool], what: str, dock: AttentionDock) -> None:
    """Let the window live until something is so."""
    deadline = time.monotonic() + _PATIENCE
    while not ready():
        QApplication.processEvents(QEventLoop.ProcessEventsFlag.AllEvents, 50)
        if time.monotonic() > deadline:
            raise MedAttnError(
                f"The demo waited in vain for {what}. {dock.segment.message.text}", "Run `medattn doctor`."
            )
