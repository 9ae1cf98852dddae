"""Segmenting a part of a scan from the window: only that part of the mask changes."""

from __future__ import annotations

import numpy as np
import pytest
from napari.utils import progress
from qtpy.QtWidgets import QAbstractSpinBox, QCheckBox, QComboBox, QLineEdit

from napari_medattn.layerdata import KEY
from napari_medattn.widgets.segment_more import Chosen, SegmentMore
from napari_medattn.widgets.segment_where import REGION, SLICE, VOLUME, segment_box
from tests.window_tools import PATIENCE, open_dock, segment


def pick(dock, where):
    dock.segment.where.setCurrentIndex(dock.segment.where.findData(where))


class TestWhere:
    def test_the_slice_in_view_follows_the_viewer(self, dock, viewer):
        viewer.dims.set_current_step(0, 11)
        assert segment_box(dock.session.case, SLICE) == (slice(11, 12), slice(0, 48), slice(0, 48))

    def test_another_direction_is_another_slice(self, dock, viewer):
        viewer.dims.order = (2, 0, 1)
        viewer.dims.set_current_step(2, 7)
        assert segment_box(dock.session.case, SLICE) == (slice(0, 32), slice(0, 48), slice(7, 8))

    def test_the_volume_is_everything(self, dock):
        assert segment_box(dock.session.case, VOLUME) is None

    def test_a_region_is_around_what_was_drawn(self, dock, viewer):
        image = dock.session.case.image
        corners = np.array([[5, 10, 12], [5, 10, 30], [5, 25, 30], [5, 25, 12]], float)
        other = corners + np.array([4, 0, 0])
        layer = viewer.add_shapes(
            [corners, other],
            ndim=3,
            scale=image.scale,
            translate=image.translate,
            metadata={KEY: {"kind": "selection", "image": image.unique_id}},
        )
        assert segment_box(dock.session.case, REGION) == (slice(5, 10), slice(10, 26), slice(12, 31))
        viewer.layers.remove(layer)

    def test_without_a_drawing_it_is_what_the_window_shows(self, dock, viewer):
        viewer.dims.set_current_step(0, 3)
        image = dock.session.case.image
        image.corner_pixels = np.array([[3, 8, 4], [3, 20, 40]])
        assert segment_box(dock.session.case, REGION) == (slice(3, 4), slice(8, 21), slice(4, 41))


def choose_all(more):
    """Change everything under "more"."""
    more.overlap.setValue(0.5)
    more.flips["y"].setChecked(True)
    more.tidy.setText("small:50 holes")
    more.tidy.editingFinished.emit()
    more.skip.setChecked(True)
    more.skip_below.setValue(-300.0)
    more.uncertainty.setCurrentText("margin")


class TestMore:
    def test_what_was_chosen_is_there_in_the_next_window(self, viewer):
        first = open_dock(viewer)
        before = first.segment.more.chosen()
        choose_all(first.segment.more)
        again = SegmentMore().chosen()
        assert again == Chosen(0.5, "y", -300.0, ("small:50", "holes"), "margin")
        assert again != before

    def test_everything_says_what_it_is_and_does(self, dock):
        boxes = [QAbstractSpinBox, QCheckBox, QComboBox, QLineEdit]
        inner = [box.lineEdit() for box in dock.segment.more.findChildren(QAbstractSpinBox)]
        found = [one for kind in boxes for one in dock.segment.more.findChildren(kind) if one not in inner]
        assert len(found) == 8
        assert all(one.accessibleName() and one.toolTip() for one in found)

    def test_it_fits_a_dock_of_350_pixels(self, dock):
        more = dock.segment.more
        dock.segment.more_section.header.setChecked(True)
        choose_all(more)
        assert dock.segment.minimumSizeHint().width() <= 350


class TestActivity:
    def test_a_run_shows_in_naparis_activity_dock_until_it_ends(self, dock, qtbot):
        dock.segment.run.click()
        assert [bar.desc for bar in progress._all_instances] == [f"segmenting {dock.session.case.image.name}"]
        (bar,) = progress._all_instances
        qtbot.waitUntil(lambda: bar.total > 0 and bar.n > 0, timeout=PATIENCE)
        qtbot.waitUntil(lambda: not dock.segment.running, timeout=PATIENCE)
        assert not progress._all_instances

    @pytest.mark.parametrize("way", ["cancelled", "failed"])
    def test_nor_does_it_stay_after_another_end(self, dock, qtbot, monkeypatch, way):
        monkeypatch.setattr("napari_medattn.widgets.parts.show_error", lambda text: None)
        if way == "failed":
            dock.segment.more.tidy.setText("shave")
        dock.segment.run.click()
        assert progress._all_instances
        if way == "cancelled":
            dock.segment.stop.click()
        qtbot.waitUntil(lambda: not dock.segment.running, timeout=PATIENCE)
        assert dock.session.case.mask is None
        assert not progress._all_instances


class TestRun:
    def test_outside_of_the_slice_the_mask_stays(self, dock, viewer, qtbot):
        segment(dock, qtbot)
        mask = dock.session.case.mask
        whole = mask.data.copy()
        viewer.dims.set_current_step(0, 15)
        mask.data_setitem(np.nonzero(np.ones_like(whole)), np.zeros(whole.size, whole.dtype))
        dock.segment.keep_edits.value = False
        pick(dock, SLICE)
        segment(dock, qtbot)
        assert whole[15].any()
        np.testing.assert_array_equal(mask.data[15], whole[15])
        assert not np.delete(mask.data, 15, axis=0).any()
        assert mask.metadata[KEY]["record"]["box"] == [[15, 16], [0, 48], [0, 48]]

    def test_a_setting_that_makes_no_sense_is_said_in_the_panel(self, dock, qtbot, monkeypatch):
        monkeypatch.setattr("napari_medattn.widgets.parts.show_error", lambda text: None)
        dock.segment.more.tidy.setText("shave")
        segment(dock, qtbot)
        assert "'shave'" in dock.segment.message.text
        assert dock.session.case.mask is None

    def test_settings_reach_the_run(self, dock, qtbot):
        more = dock.segment.more
        more.overlap.setValue(0.5)
        more.flips["x"].setChecked(True)
        more.tidy.setText("largest holes")
        more.skip.setChecked(True)
        more.skip_below.setValue(-3.0)
        segment(dock, qtbot)
        record = dock.session.case.mask.metadata[KEY]["record"]
        assert {key: record[key] for key in ("overlap", "flips", "skip_below")} == {
            "overlap": 0.5,
            "flips": "x",
            "skip_below": -3.0,
        }
        assert [step["step"] for step in record["tidy"]] == ["largest", "holes"]

    @pytest.mark.parametrize("measure", ["entropy", "margin"])
    def test_the_chosen_uncertainty_becomes_a_layer(self, dock, qtbot, measure):
        dock.segment.more.uncertainty.setCurrentText(measure)
        segment(dock, qtbot)
        layer = dock.session.case.uncertainty
        assert layer.metadata[KEY]["record"]["uncertainty"] == measure
        assert 0 <= layer.data.min() < layer.data.max() <= 1

    def test_a_core_is_left_to_the_window(self, dock, qtbot, monkeypatch):
        """Threads belong to the thread that sets them, so they are asked for where the run is."""
        monkeypatch.setattr("torch.get_num_threads", lambda: asked[-1] if asked else 4)
        asked = []
        monkeypatch.setattr("torch.set_num_threads", asked.append)
        segment(dock, qtbot)
        assert asked == [3, 4]
        assert dock.session.case.mask.metadata[KEY]["record"]["threads"] == 3
