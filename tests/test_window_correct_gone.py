"""Correct while layers go, are swapped, renamed and duplicated: nothing is raised, nothing stale stays."""

from __future__ import annotations

import numpy as np
import pytest
from app_model.types import KeyBinding
from napari.layers._layer_actions import _duplicate_layer
from napari.utils.key_bindings import KeymapHandler

from napari_medattn.widgets.correct.where import draw_selection, selection_layer
from tests.correct_window import block, mask_of, put, show_preview, told, wait_until_kept  # noqa: F401
from tests.window_tools import PATIENCE, PLUGIN, choose, open_dock, segment


@pytest.fixture
def full(dock, qtbot):
    """Everything that Correct can show at once: preview, overlay, selection, the queue's place."""
    segment(dock, qtbot)
    wait_until_kept(dock, qtbot)
    block(dock)
    review = dock.correct.review
    review.next()
    qtbot.waitUntil(lambda: bool(review.places) and not review.busy, timeout=PATIENCE)
    layer = draw_selection(dock.session.case)
    layer.add_rectangles(np.array([[16, 4, 4], [16, 4, 12], [16, 12, 12], [16, 12, 4]], float))
    dock.correct.confirming.show_standing.setChecked(True)
    show_preview(dock, qtbot)
    return dock


class TestRemoved:
    @pytest.mark.parametrize("how", ["remove_selected", "clear"])
    def test_all_layers_at_once(self, full, viewer, qtbot, how):
        viewer.layers.select_all()
        getattr(viewer.layers, how)()
        qtbot.waitUntil(lambda: not viewer.layers, timeout=PATIENCE)
        assert full.correct.tools.preview_shown is None

    @pytest.mark.parametrize("first", range(6))
    def test_in_whatever_order(self, full, viewer, qtbot, first):
        layers = list(viewer.layers)
        for layer in layers[first:] + layers[:first]:
            if layer in viewer.layers:
                viewer.layers.remove(layer)
        qtbot.waitUntil(lambda: not viewer.layers, timeout=PATIENCE)

    def test_the_mask_alone_takes_what_was_shown_of_it_along(self, full, viewer, qtbot):
        viewer.layers.remove(mask_of(full))
        kinds = lambda: [layer.metadata.get("medattn", {}).get("kind") for layer in viewer.layers]  # noqa: E731
        qtbot.waitUntil(lambda: not {"preview", "standing", "place"} & set(kinds()), timeout=PATIENCE)
        assert KeyBinding.from_str("Enter") not in viewer.keymap

    def test_a_preview_that_is_deleted_is_discarded(self, full, viewer):
        before = mask_of(full).data.copy()
        viewer.layers.remove(full.correct.tools.preview_shown.layer)
        assert full.correct.tools.preview_shown is None
        assert KeyBinding.from_str("Enter") not in viewer.keymap
        full.correct.tools.accept()
        np.testing.assert_array_equal(mask_of(full).data, before)


class TestOthersKeys:
    def test_enter_applies_after_a_selection_was_drawn(self, dock, viewer, qtbot):
        segment(dock, qtbot)
        block(dock)
        dock.correct.tools.choose("fill holes", "selection")
        dock.correct.tools.draw.click()
        layer = selection_layer(dock.session.case)
        layer.add_rectangles(np.array([[16, 4, 4], [16, 4, 40], [16, 40, 40], [16, 40, 4]], float))
        show_preview(dock, qtbot, where="selection")
        handler = KeymapHandler()
        handler.keymap_providers = [viewer.layers.selection.active, viewer]
        handler.press_key(KeyBinding.from_str("Enter"))
        assert mask_of(dock).data[16, 16, 16] == 1


class TestRenamed:
    def test_the_selection_stays_the_images(self, dock, qtbot):
        segment(dock, qtbot)
        layer = draw_selection(dock.session.case)
        dock.session.image.name = "another name"
        assert selection_layer(dock.session.case) == layer


class TestMeanwhile:
    def test_what_is_painted_while_classes_are_merged_stays(self, dock, qtbot):
        segment(dock, qtbot)
        block(dock)
        job = dock.correct.table.merge(1, 2)
        put(dock, np.indices(mask_of(dock).data.shape)[0] == 10, 3)
        qtbot.waitUntil(lambda: not job.running, timeout=PATIENCE)
        assert (mask_of(dock).data[10] == 3).all()
        assert not (mask_of(dock).data == 1).any()

    def test_a_click_that_is_waited_for_ends_with_the_mask(self, dock, viewer, qtbot):
        segment(dock, qtbot)
        mask = mask_of(dock)
        mask.mode = "paint"
        dock.correct.tools.choose("remove a part", "3-D")
        dock.correct.tools.preview()
        viewer.layers.remove(mask)
        assert str(mask.mode) == "paint"
        assert not dock.correct.tools.busy


class TestLabelsWithoutNames:
    @pytest.mark.parametrize("tool", ["smooth", "remove islands", "keep the largest part"])
    @pytest.mark.parametrize("locked", [False, True])
    def test_tools_work_on_them_too(self, dock, qtbot, tool, locked):
        segment(dock, qtbot)
        block(dock, label=7)
        with dock.session.case.watch.machine("test"):
            mask_of(dock).data_setitem((np.array([3]), np.array([3]), np.array([3])), 7)
        if locked:
            dock.session.case.lock([2])
        show_preview(dock, qtbot, tool)
        dock.correct.tools.accept()
        assert mask_of(dock).data[3, 3, 3] == 0


class TestSwapped:
    def test_the_networks_word_on_the_image_before_counts_no_more(self, dock, qtbot):
        segment(dock, qtbot)
        case = dock.session.case
        assert case.prediction is not None
        case.image.data = np.ascontiguousarray(case.image.data[:, ::-1])
        assert case.prediction is None
        assert dock.correct.review._known(case) is None


class TestDuplicated:
    """A mask's layer is copied, as napari's own menu does it."""

    def copy(self, viewer, mask):
        viewer.layers.selection.active = mask
        _duplicate_layer(viewer.layers)
        return next(layer for layer in viewer.layers if "copy" in layer.name)

    def test_a_copy_that_is_chosen_is_said_to_be_one(self, dock, viewer, qtbot):
        segment(dock, qtbot)
        mask = mask_of(dock)
        viewer.layers.selection.active = self.copy(viewer, mask)
        assert "is a copy: what you paint in it does not count" in dock.correct.message.text
        assert mask_of(dock) == mask

    def test_where_the_mask_is_gone_the_copy_takes_its_place_with_its_edits(self, dock, viewer, qtbot):
        segment(dock, qtbot)
        put(dock, np.indices(mask_of(dock).data.shape)[0] == 3, 2)
        mask, edited = mask_of(dock), dock.session.case.watch.log.edited.copy()
        twin = self.copy(viewer, mask)
        viewer.layers.remove(mask)
        viewer.layers.selection.active = None
        viewer.layers.selection.active = twin
        assert mask_of(dock) == twin
        np.testing.assert_array_equal(dock.session.case.watch.log.edited, edited)
        wait_until_kept(dock, qtbot)


class TestTwoViewers:
    def test_what_one_shows_is_not_the_others(self, dock, viewer, qtbot, make_napari_viewer, scan):
        segment(dock, qtbot)
        block(dock)
        other = make_napari_viewer()
        other.open(str(scan), plugin=PLUGIN)
        second = open_dock(other)
        choose(second, "phantom", qtbot)
        segment(second, qtbot)
        show_preview(dock, qtbot)
        dock.correct.range_brush.on.setChecked(True)
        assert second.correct.tools.preview_shown is None
        assert not second.correct.range_brush.on.isChecked()
        assert KeyBinding.from_str("Enter") not in other.keymap
        viewer.layers.clear()
        assert mask_of(second) in other.layers
