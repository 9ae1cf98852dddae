"""The dock in a real napari: maps of networks with many heads, which are made when somebody asks for them."""

import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_medattn.data import Preparation
from napari_medattn.inference import segment as segment_volume
from napari_medattn.models import create_model
from napari_medattn.store import Card, save_checkpoint
from tests.window_tools import PLUGIN, choose, open_dock, segment, wait_for_maps


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
    wait_for_maps(axial, 1, qtbot)
    layer = next(iter(case.maps.values()))
    assert layer.data.shape == case.image.data.shape
    assert layer.contrast_limits[0] == 0
    assert "even share" in layer.metadata["medattn"]["legend"]
    assert axial.look.message.text == ""


def test_unticking_while_a_map_is_made_stops_it(axial, qtbot):
    item = axial.look.tree.topLevelItem(0)
    item.setCheckState(0, Qt.CheckState.Checked)
    (job,) = axial.look._making.values()
    assert item.checkState(0) == Qt.CheckState.Checked
    item.setCheckState(0, Qt.CheckState.Unchecked)
    wait_for_maps(axial, 0, qtbot)
    assert job.cancelled
    assert axial.session.case.maps == {}
    assert axial.session.case.prediction.attention == {}  # the run did not go on to its end


def test_several_ticks_are_made_in_turn_and_give_what_each_gives_alone(axial, qtbot):
    case = axial.session.case
    for row in (0, 3, 5):
        axial.look.tree.topLevelItem(row).setCheckState(0, Qt.CheckState.Checked)
    assert len(axial.look._making) == 1
    wait_for_maps(axial, 3, qtbot)
    for key, layer in case.maps.items():
        alone = segment_volume(case.prediction.volume, case.predictor, attention=[key]).attention[key]
        np.testing.assert_allclose(layer.data, alone.on_image().mean(axis=0), rtol=1e-4, atol=1e-5)


def test_a_tick_stays_while_its_map_is_made(axial, qtbot):
    item = axial.look.tree.topLevelItem(1)
    item.setCheckState(0, Qt.CheckState.Checked)
    axial.look.refresh()
    assert axial.look.tree.topLevelItem(1).checkState(0) == Qt.CheckState.Checked
    wait_for_maps(axial, 1, qtbot)
    assert axial.look.tree.topLevelItem(1).checkState(0) == Qt.CheckState.Checked


def test_a_map_that_is_made_while_the_mask_is_made_anew_follows_the_new_one(axial, qtbot):
    axial.look.tree.topLevelItem(0).setCheckState(0, Qt.CheckState.Checked)
    segment(axial, qtbot)
    case = axial.session.case
    wait_for_maps(axial, 1, qtbot)
    layer = next(iter(case.maps.values()))
    assert layer.metadata["medattn"]["record"] == dict(case.prediction.record)
