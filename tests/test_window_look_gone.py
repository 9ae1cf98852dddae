"""Look in a real napari: scans that go, are swapped or come beside others."""

import gc
import weakref

import numpy as np
import pytest

from napari_medattn.data import Preparation, read_volume
from napari_medattn.models import create_model
from napari_medattn.store import Card, save_checkpoint
from napari_medattn.widgets.look.scenes import prediction_of
from tests.window_tools import PATIENCE, PLUGIN, choose, open_dock, segment, tick, wait_for_maps

ROWS, LOCAL = "layer1.0.row_attention", "local.layer1.0.row_attention"


@pytest.fixture
def axial(viewer, scan, qtbot):
    """A dock with a MedT that was never trained, on one scan."""
    arguments = {"in_channels": 1, "num_classes": 2, "spatial_dims": 2, "image_size": 64, "patches": 2}
    made = Card("axial", "medt", arguments, ("background", "a"), Preparation(), (1, 64, 64))
    save_checkpoint(made, create_model("medt", **arguments))
    viewer.open(str(scan), plugin=PLUGIN)
    dock = open_dock(viewer)
    choose(dock, "axial", qtbot)
    return dock


def add_second(dock, scan):
    """Another scan, turned, beside the first."""
    data = np.ascontiguousarray(read_volume(scan).array[0][:, ::-1])
    return dock.viewer.add_image(data, name="second")


class TestRemoved:
    def test_its_maps_go_too(self, axial, qtbot):
        tick(axial, ROWS)
        wait_for_maps(axial, 1, qtbot)
        axial.viewer.layers.remove(axial.session.image)
        qtbot.waitUntil(lambda: not axial.viewer.layers, timeout=PATIENCE)

    @pytest.mark.parametrize("how", ["remove_selected", "clear"])
    def test_all_layers_can_be_removed_at_once(self, axial, qtbot, how):
        tick(axial, LOCAL)
        wait_for_maps(axial, 1, qtbot)
        assert axial.look.borders.layer is not None
        axial.viewer.layers.select_all()
        getattr(axial.viewer.layers, how)()
        qtbot.waitUntil(lambda: not axial.viewer.layers, timeout=PATIENCE)

    @pytest.mark.parametrize("first", range(3))
    def test_in_whatever_order_napari_takes_them(self, axial, qtbot, first):
        tick(axial, LOCAL)
        wait_for_maps(axial, 1, qtbot)
        layers = [axial.session.case.maps[LOCAL], axial.look.borders.layer, axial.session.image]
        for layer in layers[first:] + layers[:first]:
            axial.viewer.layers.remove(layer)
        qtbot.waitUntil(lambda: not axial.viewer.layers, timeout=PATIENCE)

    def test_nothing_of_it_is_kept(self, axial, qtbot):
        tick(axial, ROWS)
        wait_for_maps(axial, 1, qtbot)
        kept = weakref.ref(axial.look.live.atlas)
        axial.viewer.layers.remove(axial.session.image)
        qtbot.waitUntil(lambda: gc.collect() >= 0 and kept() is None, timeout=PATIENCE)


class TestSwapped:
    def test_the_mask_of_the_image_before_is_not_the_new_ones(self, dock, qtbot):
        segment(dock, qtbot)
        tick(dock, "skip2.gate1")
        wait_for_maps(dock, 1, qtbot)
        case, middle = dock.session.case, int(dock.viewer.dims.current_step[0])
        assert prediction_of(case, case.scene) is case.prediction
        before = np.asarray(case.maps["skip2.gate1"].data[middle])
        case.image.data = np.ascontiguousarray(case.image.data[:, ::-1])
        wait_for_maps(dock, 1, qtbot)
        assert prediction_of(case, case.scene) is None
        after = np.asarray(case.maps["skip2.gate1"].data[middle])
        assert np.isfinite(after).any()
        assert not np.allclose(before, after, equal_nan=True)


class TestTwo:
    def test_colours_of_an_answer_stay_with_the_scan_that_was_asked(self, axial, scan, qtbot):
        tick(axial, ROWS)
        wait_for_maps(axial, 1, qtbot)
        one = axial.session.case.maps[ROWS]
        add_second(axial, scan)
        tick(axial, ROWS)
        wait_for_maps(axial, 1, qtbot)
        other = axial.session.case.maps[ROWS]
        one.contrast_limits, other.contrast_limits = (0, 3.5), (0, 7.25)
        axial.look.query.setChecked(True)
        axial.look.asking.point((16.0, 20.0, 12.0))
        qtbot.waitUntil(lambda: ROWS in axial.look.live.answers, timeout=PATIENCE)
        other.contrast_limits = (0, 99)
        axial.session.image = next(image for image in axial.session.images if image.name != "second")
        assert tuple(one.contrast_limits) == (0, 3.5)
        assert tuple(other.contrast_limits) == (0, 7.25)


class TestMemory:
    def test_what_does_not_fit_is_not_made_over_and_over(self, axial, qtbot):
        tick(axial, ROWS)
        wait_for_maps(axial, 1, qtbot)
        atlas = axial.look.live.atlas
        one = next(iter(atlas._maps.values())).nbytes
        atlas.limit = 10 * one
        assert atlas.fits([ROWS]) == 10
        axial.viewer.dims.order = (1, 0, 2)  # all slices are in view
        wait_for_maps(axial, 1, qtbot)  # it comes to an end
        assert atlas.bytes <= atlas.limit
        known = [frame for frame in range(atlas.scene.frames) if atlas.knows(frame, ROWS)]
        assert len(known) == 10
        axial.viewer.dims.order = (0, 1, 2)
        wait_for_maps(axial, 1, qtbot)
        assert atlas.knows(axial.look.live.frame, ROWS)


class TestWords:
    def test_after_a_slice_is_made_the_answer_is_said_again(self, axial, qtbot):
        tick(axial, ROWS)
        wait_for_maps(axial, 1, qtbot)
        axial.look.query.setChecked(True)
        axial.look.asking.point((float(axial.viewer.dims.current_step[0]), 20.0, 12.0))
        qtbot.waitUntil(lambda: ROWS in axial.look.live.answers, timeout=PATIENCE)
        axial.viewer.dims.set_current_step(0, 3)
        qtbot.wait(50)
        qtbot.waitUntil(lambda: not axial.look.live.busy and axial.look.asking._job is None, timeout=PATIENCE)
        assert "Looking" not in axial.look.message.text
