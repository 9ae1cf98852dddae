"""The dock in a real napari: maps of networks with many heads, which are made when somebody asks for them."""

import pytest
from qtpy.QtCore import Qt

from napari_medattn.data import Preparation
from napari_medattn.models import create_model
from napari_medattn.store import Card, save_checkpoint
from tests.window_tools import PATIENCE, PLUGIN, choose, open_dock, segment


@pytest.fixture
def axial(viewer, scan, qtbot):
    """A dock with a MedT that was never trained."""
    arguments = {"in_channels": 1, "num_classes": 2, "spatial_dims": 2, "image_size": 64, "patches": 2}
    made = Card("axial", "medt", arguments, ("background", "a"), Preparation(), (1, 64, 64))
    save_checkpoint(made, create_model("medt", **arguments))
    viewer.open(str(scan), plugin=PLUGIN)
    dock = open_dock(viewer)
    choose(dock, "axial", qtbot)
    segment(dock, qtbot)
    return dock


def test_an_untrained_network_is_called_so(axial):
    assert "never trained" in axial.segment.message.text


def test_maps_of_many_heads_are_made_when_somebody_ticks_them(axial, qtbot):
    case = axial.session.case
    assert case.prediction.attention == {}
    item = axial.look.tree.topLevelItem(0)
    item.setCheckState(0, Qt.CheckState.Checked)
    qtbot.waitUntil(lambda: len(case.maps) == 1, timeout=PATIENCE)
    layer = next(iter(case.maps.values()))
    assert layer.data.shape == case.image.data.shape
    assert layer.contrast_limits[0] == 0
    assert "even share" in layer.metadata["medattn"]["legend"]
    assert axial.look.message.text == ""


def test_unticking_while_a_map_is_made_stops_it(axial, qtbot):
    item = axial.look.tree.topLevelItem(0)
    item.setCheckState(0, Qt.CheckState.Checked)
    item.setCheckState(0, Qt.CheckState.Unchecked)
    qtbot.waitUntil(lambda: not axial.jobs._running, timeout=PATIENCE)
    assert axial.session.case.maps == {}
