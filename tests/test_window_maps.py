"""The dock in a real napari: maps that are made as the viewer scrolls, and voxels that are asked."""

import numpy as np
import pytest

from napari_medattn.data import Preparation
from napari_medattn.inference import segment as segment_volume
from napari_medattn.models import create_model
from napari_medattn.store import Card, save_checkpoint
from tests.window_tools import PATIENCE, PLUGIN, choose, is_ticked, open_dock, segment, tick, wait_for_maps

COLUMNS, ROWS = "layer1.0.column_attention", "layer1.0.row_attention"
LOCAL = "local.layer1.0.row_attention"


@pytest.fixture
def axial(viewer, scan, qtbot):
    """A dock with a MedT that was never trained."""
    arguments = {"in_channels": 1, "num_classes": 2, "spatial_dims": 2, "image_size": 64, "patches": 2}
    made = Card("axial", "medt", arguments, ("background", "a"), Preparation(), (1, 64, 64))
    save_checkpoint(made, create_model("medt", **arguments))
    viewer.open(str(scan), plugin=PLUGIN)
    dock = open_dock(viewer)
    choose(dock, "axial", qtbot)
    return dock


@pytest.fixture
def segmented(axial, qtbot):
    """The same, with a mask."""
    segment(axial, qtbot)
    return axial


def ask(dock, voxel, qtbot):
    """Point at a voxel and wait for the answers."""
    dock.look.asking.point(voxel)
    qtbot.waitUntil(lambda: not dock.look.asking.busy and not dock.look.live.busy, timeout=PATIENCE)
    return dock.look.live.answers


class TestMaps:
    def test_an_untrained_network_is_called_so(self, segmented):
        assert "never trained" in segmented.segment.message.text

    def test_no_mask_is_needed_to_look(self, axial, qtbot):
        tick(axial, ROWS)
        wait_for_maps(axial, 1, qtbot)
        case = axial.session.case
        middle = int(axial.viewer.dims.current_step[0])
        assert case.prediction is None
        assert np.isfinite(np.asarray(case.maps[ROWS].data[middle])).all()
        assert case.maps[ROWS].metadata["medattn"]["record"]["checkpoint"] == "axial"

    def test_a_map_is_there_at_once_and_says_what_its_numbers_mean(self, segmented, qtbot):
        tick(segmented, ROWS)
        layer = segmented.session.case.maps[ROWS]
        assert layer.data.shape == segmented.session.case.image.data.shape
        wait_for_maps(segmented, 1, qtbot)
        assert layer.contrast_limits[0] == 0
        assert layer.contrast_limits[1] >= 2
        assert "even share" in layer.metadata["medattn"]["legend"]
        assert segmented.look.message.text == ""

    def test_live_maps_equal_those_of_the_whole_volume(self, segmented, qtbot):
        keys = [COLUMNS, ROWS, LOCAL]
        for key in keys:
            tick(segmented, key)
        wait_for_maps(segmented, 3, qtbot)
        case = segmented.session.case
        whole = segment_volume(case.prediction.volume, case.predictor, attention=keys).attention
        middle = int(segmented.viewer.dims.current_step[0])
        for key in keys:
            shown = np.asarray(case.maps[key].data[middle])
            np.testing.assert_allclose(shown, whole[key].on_image().mean(axis=0)[middle], rtol=1e-3, atol=1e-4)

    def test_what_was_not_looked_at_yet_is_nowhere_shown_as_zero(self, segmented, qtbot):
        tick(segmented, ROWS)
        wait_for_maps(segmented, 1, qtbot)
        far = np.asarray(segmented.session.case.maps[ROWS].data[0])
        assert np.isnan(far).all()

    def test_scrolling_makes_the_slice_that_is_in_view_last(self, segmented, qtbot):
        tick(segmented, ROWS)
        wait_for_maps(segmented, 1, qtbot)
        for index in (2, 30, 9):
            segmented.viewer.dims.set_current_step(0, index)
        wait_for_maps(segmented, 1, qtbot)
        layer = segmented.session.case.maps[ROWS]
        assert np.isfinite(np.asarray(layer.data[9])).all()
        assert np.isnan(np.asarray(layer.data[2])).all()  # passed over, and too far away to be made ahead

    def test_one_forward_pass_feeds_all_ticked_sites(self, segmented, qtbot, monkeypatch):
        passes = []
        predictor = segmented.session.case.predictor
        run = predictor.run
        monkeypatch.setattr(predictor, "run", lambda tiles, sites=(): passes.append(list(sites)) or run(tiles, sites))
        tick(segmented, ROWS)
        tick(segmented, LOCAL)
        wait_for_maps(segmented, 2, qtbot)
        assert passes
        assert all(set(sites) == {ROWS, LOCAL} for sites in passes)

    def test_another_plane_shows_what_is_known_of_it(self, segmented, qtbot):
        tick(segmented, ROWS)
        wait_for_maps(segmented, 1, qtbot)
        segmented.viewer.dims.order = (1, 0, 2)
        wait_for_maps(segmented, 1, qtbot)
        layer = segmented.session.case.maps[ROWS]
        assert np.isfinite(np.asarray(layer.data[:, 20])).all()  # all slices cross it, so all were made

    def test_heads_are_shown_one_by_one(self, segmented, qtbot):
        tick(segmented, ROWS)
        wait_for_maps(segmented, 1, qtbot)
        layer = segmented.session.case.maps[ROWS]
        middle = int(segmented.viewer.dims.current_step[0])
        mean = np.asarray(layer.data[middle])
        heads = []
        for index in range(1, 9):
            segmented.look.head.setCurrentIndex(index)
            heads.append(np.asarray(layer.data[middle]))
        np.testing.assert_allclose(np.mean(heads, axis=0), mean, rtol=1e-4, atol=1e-5)
        assert not np.allclose(heads[0], heads[1])

    def test_a_tick_of_a_stage_stands_for_all_in_it(self, segmented, qtbot):
        stage = segmented.look.tree.item(ROWS).parent()
        stage.setCheckState(0, stage.checkState(0).Checked)
        wait_for_maps(segmented, 2, qtbot)
        assert is_ticked(segmented, COLUMNS)
        assert is_ticked(segmented, ROWS)

    def test_a_deleted_layer_unticks_its_site(self, segmented, qtbot):
        tick(segmented, ROWS)
        segmented.viewer.layers.remove(segmented.session.case.maps[ROWS])
        wait_for_maps(segmented, 0, qtbot)
        assert not is_ticked(segmented, ROWS)

    def test_layers_renamed_and_moved_while_a_map_is_made_do_no_harm(self, segmented, qtbot):
        tick(segmented, ROWS)
        layer = segmented.session.case.maps[ROWS]
        layer.name = "mine"
        segmented.viewer.layers.move(segmented.viewer.layers.index(layer), 0)
        wait_for_maps(segmented, 1, qtbot)
        middle = int(segmented.viewer.dims.current_step[0])
        assert layer.name == "mine"
        assert np.isfinite(np.asarray(layer.data[middle])).all()

    def test_an_image_swapped_while_a_map_is_made_gets_its_own(self, segmented, qtbot):
        case = segmented.session.case
        tick(segmented, ROWS)
        wait_for_maps(segmented, 1, qtbot)
        middle = int(segmented.viewer.dims.current_step[0])
        before = np.asarray(case.maps[ROWS].data[middle])
        case.image.data = case.image.data[:, ::-1].copy()
        segmented.look.live.refresh()
        wait_for_maps(segmented, 1, qtbot)
        after = np.asarray(case.maps[ROWS].data[middle])
        assert np.isfinite(after).all()
        assert not np.allclose(before, after)

    def test_a_map_follows_a_new_mask(self, segmented, qtbot):
        tick(segmented, ROWS)
        segment(segmented, qtbot)
        wait_for_maps(segmented, 1, qtbot)
        case = segmented.session.case
        assert case.maps[ROWS].metadata["medattn"]["record"] == dict(case.prediction.record)

    def test_a_network_that_fails_says_so_and_unticks(self, segmented, qtbot, monkeypatch):
        def broken(tiles, sites=()):
            raise RuntimeError("out of memory")

        monkeypatch.setattr(segmented.session.case.predictor, "run", broken)
        monkeypatch.setattr("napari_medattn.widgets.parts.show_error", lambda text: None)
        tick(segmented, ROWS)
        wait_for_maps(segmented, 0, qtbot)
        assert "out of memory" in segmented.look.message.text
        assert not is_ticked(segmented, ROWS)


class TestAsking:
    def test_a_voxel_shows_its_row_and_nothing_else(self, segmented, qtbot):
        tick(segmented, ROWS)
        wait_for_maps(segmented, 1, qtbot)
        segmented.look.query.setChecked(True)
        middle = int(segmented.viewer.dims.current_step[0])
        (answer,) = ask(segmented, (middle, 20.0, 12.0), qtbot).values()
        assert answer.values.shape[0] == 8
        line = answer.values.sum(axis=(0, 1, 3)) > 0
        assert line.sum() == 1  # axial attention stays in its row
        assert "Voxel" in segmented.look.message.text
        shown = np.asarray(segmented.session.case.maps[ROWS].data[middle])
        assert np.nanmax(shown) > 0

    def test_no_forward_pass_runs_while_the_cursor_moves(self, segmented, qtbot, monkeypatch):
        tick(segmented, ROWS)
        segmented.look.query.setChecked(True)
        wait_for_maps(segmented, 1, qtbot)
        middle = int(segmented.viewer.dims.current_step[0])
        ask(segmented, (middle, 20.0, 12.0), qtbot)

        def forbidden(tiles, sites=()):
            raise AssertionError("a forward pass")

        monkeypatch.setattr(segmented.session.case.predictor, "run", forbidden)
        before = ask(segmented, (middle, 20.0, 12.0), qtbot)[ROWS]
        after = ask(segmented, (middle, 34.0, 30.0), qtbot)[ROWS]
        assert before.spot != after.spot
        assert not np.allclose(before.values, after.values)

    def test_both_halves_compose_on_request(self, segmented, qtbot):
        tick(segmented, ROWS)
        segmented.look.query.setChecked(True)
        segmented.look.direction.setCurrentIndex(2)
        wait_for_maps(segmented, 1, qtbot)
        middle = int(segmented.viewer.dims.current_step[0])
        answer = ask(segmented, (middle, 20.0, 12.0), qtbot)[ROWS]
        assert answer.direction == "through"
        assert (answer.values.sum(axis=(0, 1, 3)) > 0).sum() > 1
        assert "approximation" in segmented.look.message.text

    def test_switching_it_off_brings_the_map_back(self, segmented, qtbot):
        tick(segmented, ROWS)
        wait_for_maps(segmented, 1, qtbot)
        layer, middle = segmented.session.case.maps[ROWS], int(segmented.viewer.dims.current_step[0])
        overview, limits = np.asarray(layer.data[middle]), tuple(layer.contrast_limits)
        segmented.look.query.setChecked(True)
        ask(segmented, (middle, 20.0, 12.0), qtbot)
        assert not np.allclose(np.nan_to_num(np.asarray(layer.data[middle])), overview)
        segmented.look.query.setChecked(False)
        np.testing.assert_array_equal(np.asarray(layer.data[middle]), overview)
        assert tuple(layer.contrast_limits) == limits

    def test_outside_of_the_scan_there_is_nothing_to_ask(self, segmented, qtbot):
        tick(segmented, ROWS)
        segmented.look.query.setChecked(True)
        wait_for_maps(segmented, 1, qtbot)
        assert ask(segmented, (3.0, 999.0, 2.0), qtbot) == {}
        assert "outside" in segmented.look.message.text

    def test_with_nothing_ticked_it_says_what_to_tick(self, segmented):
        segmented.look.query.setChecked(True)
        assert "Tick" in segmented.look.message.text

    def test_gates_cannot_be_asked(self, viewer, scan, qtbot):
        viewer.open(str(scan), plugin=PLUGIN)
        dock = open_dock(viewer)
        choose(dock, "phantom", qtbot)
        tick(dock, "skip4.gate1")
        wait_for_maps(dock, 1, qtbot)
        dock.look.query.setChecked(True)
        assert "nothing to ask" in dock.look.message.text
        assert ask(dock, (5.0, 5.0, 5.0), qtbot) == {}

    def test_an_answer_for_a_scan_that_is_no_longer_open_is_dropped(self, segmented, qtbot):
        tick(segmented, ROWS)
        segmented.look.query.setChecked(True)
        wait_for_maps(segmented, 1, qtbot)
        segmented.look.asking.point((float(segmented.viewer.dims.current_step[0]), 20.0, 12.0))
        segmented.viewer.layers.remove(segmented.session.case.image)
        qtbot.waitUntil(lambda: not segmented.look.asking.busy, timeout=PATIENCE)
        assert segmented.look.live.answers == {}
