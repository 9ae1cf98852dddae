"""Segmenting a part of a scan from the window: only that part of the mask changes."""

from __future__ import annotations

import numpy as np
import pytest

from napari_medattn.layerdata import KEY
from napari_medattn.widgets.segment_where import REGION, SLICE, VOLUME, segment_box
from tests.window_tools import segment


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

    @pytest.mark.parametrize(("field", "text", "why"), [("flips", "q", "along 'q'"), ("tidy", "shave", "'shave'")])
    def test_a_setting_that_makes_no_sense_is_said_in_the_panel(self, dock, qtbot, monkeypatch, field, text, why):
        monkeypatch.setattr("napari_medattn.widgets.parts.show_error", lambda text: None)
        getattr(dock.segment, field).value = text
        segment(dock, qtbot)
        assert why in dock.segment.message.text
        assert dock.session.case.mask is None

    def test_settings_reach_the_run(self, dock, qtbot):
        dock.segment.flips.value, dock.segment.tidy.value = "X", "largest holes"
        segment(dock, qtbot)
        record = dock.session.case.mask.metadata[KEY]["record"]
        assert record["flips"] == "x"
        assert [step["step"] for step in record["tidy"]] == ["largest", "holes"]
