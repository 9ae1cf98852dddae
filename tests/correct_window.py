"""What tests of the Correct part share: a dock with a mask, painting, waiting."""

from __future__ import annotations

import numpy as np
import pytest
from app_model.types import KeyBinding
from napari.utils.key_bindings import KeymapHandler

from napari_medattn.correct.proposal import Proposal
from napari_medattn.store.journal import State
from tests.window_tools import PATIENCE


@pytest.fixture
def told(monkeypatch):
    """Notifications that napari would have shown."""
    said = []
    monkeypatch.setattr("napari_medattn.widgets.parts.show_error", said.append)
    return said


def mask_of(dock):
    return dock.session.case.mask


def put(dock, where, label):
    """A person's change of some voxels."""
    mask = mask_of(dock)
    mask.mode = "paint"
    places = np.nonzero(where)
    mask.data_setitem(places, np.full(places[0].size, label, mask.data.dtype))


def brush(mask, at=(16, 4, 4), label=2, size=3):
    mask.mode = "paint"
    mask.brush_size = size
    mask.paint(at, label)


def block(dock, label=1):
    """Make the mask a block with a hole in its middle, by no person's hand."""
    mask = mask_of(dock)
    labels = np.zeros_like(mask.data)
    labels[8:24, 8:24, 8:24] = label
    labels[16, 16, 16] = 0
    dock.session.case.apply(Proposal((slice(None),) * 3, labels, np.ones(labels.shape, bool), "test"))
    dock.session.viewer.dims.set_current_step(0, 16)


def show_preview(dock, qtbot, tool="fill holes", where="3-D"):
    tools = dock.correct.tools
    tools.choose(tool, where)
    tools.preview()
    qtbot.waitUntil(lambda: not tools.busy, timeout=PATIENCE)
    assert tools.preview_shown is not None, dock.correct.message.text


def wait_until_kept(dock, qtbot):
    def is_open():
        journal = dock.correct.keeper.journal
        assert journal is not None, dock.correct.message.text
        assert journal.state is State.OPEN, dock.correct.message.text

    qtbot.waitUntil(is_open, timeout=PATIENCE)


def press(holder, keys):
    handler = KeymapHandler()
    handler.keymap_providers = [holder]
    handler.press_key(KeyBinding.from_str(keys))


def drain(steps):
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value
