"""What a person does to a real Labels layer is seen, and what is undone is forgotten."""

import numpy as np
import pytest
from napari.components import ViewerModel
from napari.layers import Labels

from napari_medattn.widgets.edit_watch import EditWatch


@pytest.fixture
def layer():
    viewer = ViewerModel()
    return viewer.add_labels(np.zeros((6, 20, 20), np.uint8))


@pytest.fixture
def watch(layer):
    calls = []
    watch = EditWatch(layer, lambda: calls.append(1))
    watch.calls = calls
    yield watch
    watch.stop()


def brush(layer: Labels, at=(2, 10, 10), label=1, size=4):
    layer.mode = "paint"
    layer.brush_size = size
    layer.selected_label = label
    layer.paint(at, label)


def edited_equals_changed(watch, layer, before):
    return np.array_equal(watch.log.edited, np.asarray(layer.data) != before)


def test_brush_is_seen(watch, layer):
    before = layer.data.copy()
    brush(layer)
    assert watch.log.edited_count > 0
    assert edited_equals_changed(watch, layer, before)
    assert watch.log.edits[-1].tool == "paint"


def test_eraser_is_seen(layer):
    layer.data[2] = 3
    watch = EditWatch(layer, lambda: None)
    before = layer.data.copy()
    layer.mode = "erase"
    layer.paint((2, 5, 5), 0)
    assert edited_equals_changed(watch, layer, before)
    assert watch.log.edits[-1].tool == "erase"
    watch.stop()


def test_fill_is_seen(watch, layer):
    before = layer.data.copy()
    layer.n_edit_dimensions = 2
    layer.fill((3, 4, 4), 2)
    assert edited_equals_changed(watch, layer, before)
    assert watch.log.edited_count == 400


def test_polygon_is_seen(watch, layer):
    before = layer.data.copy()
    layer.mode = "polygon"
    layer.paint_polygon([[2, 3, 3], [2, 3, 12], [2, 12, 12], [2, 12, 3]], 1)
    assert watch.log.edited_count > 50
    assert edited_equals_changed(watch, layer, before)


def test_data_setitem_is_seen(watch, layer):
    layer.data_setitem((np.array([1, 2]), np.array([3, 4]), np.array([5, 6])), 7)
    assert watch.log.edited_count == 2
    assert watch.log.edited[1, 3, 5]
    assert watch.log.edited[2, 4, 6]


def test_a_whole_stroke_is_one_step(watch, layer):
    with layer.block_history():
        for x in range(4, 16):
            brush(layer, at=(2, 10, x), size=3)
    assert len(watch.log) == 1
    layer.undo()
    assert watch.log.edited_count == 0


def test_undo_and_redo_are_followed(watch, layer):
    brush(layer)
    count = watch.log.edited_count
    layer.undo()
    assert watch.log.edited_count == 0
    layer.redo()
    assert watch.log.edited_count == count


def test_undo_of_the_second_of_two_overlapping_strokes_keeps_the_first(watch, layer):
    brush(layer, at=(2, 10, 10), label=1)
    first = watch.log.edited.copy()
    brush(layer, at=(2, 10, 12), label=2)
    layer.undo()
    np.testing.assert_array_equal(watch.log.edited, first)


def test_the_networks_own_writing_is_no_edit(watch, layer):
    brush(layer)
    edited = watch.log.edited.copy()
    with watch.machine("segment"):
        layer.data_setitem((np.array([5]), np.array([5]), np.array([5])), 1)
    np.testing.assert_array_equal(watch.log.edited, edited)
    assert watch.log.edits[-1].tool == "segment"


def test_painting_over_what_the_network_wrote_is_an_edit(watch, layer):
    with watch.machine("segment"):
        layer.data_setitem((np.array([2]), np.array([10]), np.array([10])), 2)
    brush(layer, at=(2, 10, 10), size=1)
    assert watch.log.edited[2, 10, 10]
    layer.undo()
    assert not watch.log.edited[2, 10, 10]


def test_edits_outlive_a_change_of_the_displayed_axes():
    viewer = ViewerModel()
    layer = viewer.add_labels(np.zeros((6, 20, 20), np.uint8))
    watch = EditWatch(layer, lambda: None)
    brush(layer)
    edited = watch.log.edited.copy()
    viewer.dims.order = (1, 0, 2)
    viewer.dims.ndisplay = 3
    viewer.dims.ndisplay = 2
    np.testing.assert_array_equal(watch.log.edited, edited)
    watch.stop()


def test_a_new_array_takes_the_word_off_what_it_does_not_show(watch, layer):
    brush(layer)
    layer.data = np.zeros_like(layer.data)
    assert watch.log.edited_count == 0


def test_a_stopped_watch_hears_nothing(layer):
    watch = EditWatch(layer, lambda: None)
    watch.stop()
    brush(layer)
    assert watch.log.edited_count == 0
