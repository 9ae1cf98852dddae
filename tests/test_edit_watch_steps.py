"""Undo of our own, class locks, and layers that change under a stroke: nothing is lost, nothing is raised."""

from __future__ import annotations

import gc

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from napari.components import ViewerModel

from napari_medattn.errors import InputError
from napari_medattn.layerdata import KEY
from napari_medattn.store.edit import Edit
from napari_medattn.widgets.edit_watch import EditWatch

SHAPE = (6, 20, 20)


@pytest.fixture
def viewer():
    return ViewerModel()


@pytest.fixture
def layer(viewer):
    return viewer.add_labels(np.zeros(SHAPE, np.uint8))


@pytest.fixture
def watch(layer):
    refused = []
    watch = EditWatch(layer, lambda: None, refused.append)
    watch.refused = refused
    yield watch
    watch.stop()


def brush(layer, at=(2, 10, 10), label=1, size=4):
    layer.mode = "paint"
    layer.brush_size = size
    layer.paint(at, label)


def stroke(layer, at=(2, 10, 4), label=1, steps=6):
    """As the mouse does it: reported at the end, after everything was written."""
    with layer.block_history():
        for x in range(steps):
            brush(layer, (at[0], at[1], at[2] + 2 * x), label)


class TestUndo:
    def test_it_reaches_further_back_than_napari(self, layer, watch):
        for n in range(130):
            layer.data_setitem((np.array([n % 6]), np.array([n // 6 % 20]), np.array([n % 20])), n % 7 + 1)
        for _ in range(130):
            watch.undo()
        assert not layer.data.any()
        assert (len(watch.log), watch.log.edited_count, len(watch.log.redoable)) == (0, 0, 130)

    def test_it_reaches_across_slices_and_displayed_axes(self, viewer, layer, watch):
        brush(layer, (2, 10, 10))
        viewer.dims.order = (1, 0, 2)
        viewer.dims.set_current_step(1, 4)
        viewer.dims.ndisplay = 3
        viewer.dims.ndisplay = 2
        layer.editable = False  # wipes napari's own history
        layer.editable = True
        watch.undo()
        assert not layer.data.any()
        watch.redo()
        assert layer.data[2, 10, 10] == 1

    def test_nothing_to_undo_or_redo(self, layer, watch):
        assert (watch.undo(), watch.redo()) == (None, None)

    def test_a_new_stroke_ends_redoing(self, layer, watch):
        brush(layer)
        watch.undo()
        brush(layer, (4, 5, 5))
        assert watch.redo() is None

    def test_a_tool_is_one_step_and_gives_back_what_a_person_painted(self, layer, watch):
        brush(layer)
        painted, edited = layer.data.copy(), watch.log.edited.copy()
        with watch.machine("grow"):
            for z in range(6):
                layer.data_setitem(tuple(axis + 0 for axis in np.nonzero(layer.data[z : z + 1] < 9)), 3)
        watch.undo()
        np.testing.assert_array_equal(layer.data, painted)
        np.testing.assert_array_equal(watch.log.edited, edited)

    def test_in_the_middle_of_a_stroke_it_takes_back_what_was_painted_so_far(self, layer, watch):
        with layer.block_history():
            brush(layer, (2, 5, 5))
            watch.undo()
            assert not layer.data.any()
            brush(layer, (2, 15, 15))
        assert len(watch.log) == 1
        np.testing.assert_array_equal(watch.log.edited, layer.data == 1)

    def test_labels_that_no_longer_fit_are_told(self, layer, watch):
        layer.data = layer.data.astype(np.int32)
        layer.data_setitem((np.array([0]), np.array([0]), np.array([0])), 70_000)
        layer.data_setitem((np.array([0]), np.array([0]), np.array([0])), 1)
        layer.data = layer.data.astype(np.uint8)
        with pytest.raises(InputError, match="uint8 cannot hold the labels 70000"):
            watch.undo()
        assert layer.data[0, 0, 0] == 1

    @settings(max_examples=100)
    @given(
        st.lists(
            st.sampled_from(["paint", "stroke", "tool", "ours", "ours again", "napari", "napari again"]), max_size=25
        )
    )
    def test_it_goes_with_naparis_own_undo(self, actions):
        """Whoever undoes, the log says what the mask shows: replaying it from the start gives the mask."""
        layer = ViewerModel().add_labels(np.zeros(SHAPE, np.uint8))
        watch = EditWatch(layer, lambda: None)
        for n, action in enumerate(actions):
            if action == "paint":
                brush(layer, (n % 2, 10, 8 + n % 5), n % 3)
            elif action == "stroke":
                stroke(layer, (n % 2, 10, 2), n % 3)
            elif action == "tool":
                with watch.machine("tool"):
                    layer.data_setitem(np.nonzero(layer.data == 1), 2)
            else:
                {"ours": watch.undo, "ours again": watch.redo, "napari": layer.undo, "napari again": layer.redo}[
                    action
                ]()
            replayed = np.zeros(SHAPE, np.uint8)
            for edit in watch.log.edits:
                np.testing.assert_array_equal(replayed.reshape(-1)[edit.places], edit.before)
                edit.do(replayed)
            np.testing.assert_array_equal(replayed, layer.data)
        watch.stop()


class TestLocks:
    @pytest.fixture
    def organ(self, layer, watch):
        """A locked class 2 that fills a part of the slice."""
        layer.data[2, :, 9:12] = 2
        watch.log.lock([2])
        return layer.data.copy()

    @pytest.mark.parametrize("how", [brush, stroke])
    def test_a_stroke_leaves_a_locked_class_alone(self, layer, watch, organ, how):
        how(layer)
        np.testing.assert_array_equal(layer.data == 2, organ == 2)
        assert layer.data[2, 10, 8] == 1
        np.testing.assert_array_equal(watch.log.edited, layer.data == 1)
        assert sum(watch.refused) > 0

    def test_the_eraser_too(self, layer, watch, organ):
        layer.mode = "erase"
        layer.paint((2, 10, 10), 0)
        np.testing.assert_array_equal(layer.data, organ)
        assert len(watch.log) == 0

    def test_a_polygon_too(self, layer, watch, organ):
        layer.mode = "polygon"
        layer.paint_polygon([[2, 3, 3], [2, 3, 16], [2, 16, 16], [2, 16, 3]], 1)
        np.testing.assert_array_equal(layer.data == 2, organ == 2)
        assert watch.log.edited_count == np.count_nonzero(layer.data == 1) > 0

    def test_a_locked_class_may_grow(self, layer, watch, organ):
        brush(layer, label=2)
        assert np.count_nonzero(layer.data == 2) > np.count_nonzero(organ == 2)

    def test_unlocked_it_can_be_painted_over(self, layer, watch, organ):
        watch.log.lock([])
        brush(layer)
        assert layer.data[2, 10, 10] == 1

    @pytest.mark.parametrize("how", [brush, stroke])
    def test_naparis_undo_and_redo_do_not_bring_it_back(self, layer, watch, organ, how):
        how(layer)
        painted = layer.data.copy()
        layer.undo()
        np.testing.assert_array_equal(layer.data, organ)
        layer.redo()
        np.testing.assert_array_equal(layer.data, painted)
        assert watch.log.edited_count == np.count_nonzero(painted == 1)

    def test_undo_of_a_stroke_that_was_refused_in_part(self, layer, watch, organ):
        stroke(layer)
        watch.undo()
        np.testing.assert_array_equal(layer.data, organ)


class TestLayersThatChange:
    def test_a_new_array_is_a_step_that_can_be_undone(self, layer, watch):
        brush(layer)
        painted = layer.data.copy()
        layer.data = np.full(SHAPE, 3, np.uint8)
        assert watch.log.edited_count == 0
        watch.undo()
        np.testing.assert_array_equal(layer.data, painted)
        assert watch.log.edited_count == np.count_nonzero(painted)

    def test_a_new_array_that_looks_as_if_a_stroke_was_undone(self, layer, watch):
        brush(layer)
        layer.data = np.zeros(SHAPE, np.uint8)
        watch.undo()
        assert layer.data[2, 10, 10] == 1

    def test_a_new_array_in_the_middle_of_a_stroke(self, layer, watch):
        with layer.block_history():
            brush(layer, (2, 5, 5))
            layer.data = np.full(SHAPE, 3, np.uint8)
            brush(layer, (2, 15, 15))
        np.testing.assert_array_equal(watch.log.edited, layer.data == 1)
        assert [edit.tool for edit in watch.log.edits] == ["paint", "replaced", "paint"]

    @pytest.mark.parametrize("shape", [(4, 20, 20), (6, 30, 30)])
    def test_another_shape_starts_another_log(self, layer, watch, shape):
        brush(layer)
        with layer.block_history():
            brush(layer, (1, 5, 5))
            layer.data = np.zeros(shape, np.uint8)
        assert (watch.log.shape, len(watch.log)) == (shape, 0)
        brush(layer)
        assert watch.log.edited_count == np.count_nonzero(layer.data) > 0

    def test_another_type_keeps_the_edits(self, layer, watch):
        brush(layer)
        edited = watch.log.edited.copy()
        layer.data = layer.data.astype(np.int16)
        np.testing.assert_array_equal(watch.log.edited, edited)
        watch.undo()
        assert not layer.data.any()
        assert layer.data.dtype == np.int16

    def test_what_was_written_into_the_array_and_assigned_again(self, layer, watch):
        brush(layer)
        layer.data[2] = 5
        layer.data = layer.data
        assert watch.log.edited_count == 0

    def test_a_duplicate_has_a_log_of_its_own(self, viewer, layer, watch):
        brush(layer)
        edited = watch.log.edited.copy()
        viewer.layers.selection.active = layer
        from napari.layers._layer_actions import _duplicate_layer

        _duplicate_layer(viewer.layers)
        twin = next(one for one in viewer.layers if one is not layer)
        other = EditWatch(twin, lambda: None)
        brush(twin, (4, 5, 5))
        np.testing.assert_array_equal(watch.log.edited, edited)
        np.testing.assert_array_equal(other.log.edited, twin.data == 1)
        assert layer.metadata[KEY]["edits"] is watch.log
        other.stop()

    def test_a_stroke_under_way_counts_when_the_watch_stops(self, layer):
        watch = EditWatch(layer, lambda: None)
        with layer.block_history():
            brush(layer)
            watch.stop()
        assert watch.log.edited_count == np.count_nonzero(layer.data) > 0

    def test_a_watch_that_starts_again_notices_what_was_painted_over(self, layer):
        watch = EditWatch(layer, lambda: None)
        brush(layer)
        watch.stop()
        layer.data[2, 10, 10] = 7
        again = EditWatch(layer, lambda: None)
        assert again.log is watch.log
        assert not again.log.edited[2, 10, 10]
        again.stop()

    def test_renaming_changes_nothing(self, layer, watch):
        with layer.block_history():
            brush(layer)
            layer.name = "another name"
        assert watch.log.edited_count == np.count_nonzero(layer.data)

    def test_the_log_does_not_keep_an_old_array(self, layer, watch):
        import weakref

        old = weakref.ref(layer.data)
        layer.data = np.ones(SHAPE, np.uint8)
        gc.collect()
        assert old() is None


class TestOddLabels:
    def test_painting_outside_changes_nothing(self, layer, watch):
        for at in ((2, -30, -30), (2, 500, 500)):
            brush(layer, at)
        assert len(watch.log) == 0

    def test_painting_over_the_edge(self, layer, watch):
        brush(layer, (2, 0, 19), size=8)
        np.testing.assert_array_equal(watch.log.edited, layer.data == 1)

    def test_indices_counted_from_the_end(self, layer, watch):
        layer.data_setitem((np.array([-1, 0]), np.array([-2, 3]), np.array([-3, 3])), 4)
        np.testing.assert_array_equal(watch.log.edited, layer.data == 4)

    @pytest.mark.parametrize("label", [-5, 2**40])
    def test_negative_and_huge_labels(self, viewer, label):
        layer = viewer.add_labels(np.zeros(SHAPE, np.int64))
        watch = EditWatch(layer, lambda: None)
        brush(layer, label=label)
        np.testing.assert_array_equal(watch.log.edited, layer.data == label)
        watch.undo()
        assert not layer.data.any()
        watch.stop()

    def test_an_error_inside_a_tool_leaves_its_part_as_a_tools_step(self, layer, watch):
        def run():
            with watch.machine("tool"):
                layer.data_setitem((np.array([1]), np.array([1]), np.array([1])), 2)
                raise ValueError("no")

        with pytest.raises(ValueError, match="no"):
            run()
        brush(layer, (4, 4, 4))
        assert [(edit.tool, edit.human) for edit in watch.log.edits] == [("tool", False), ("paint", True)]

    def test_a_stroke_on_a_mask_in_fortran_order(self, viewer):
        layer = viewer.add_labels(np.asfortranarray(np.zeros(SHAPE, np.uint8)))
        watch = EditWatch(layer, lambda: None)
        brush(layer)
        brush(layer, label=2)
        layer.undo()
        np.testing.assert_array_equal(watch.log.edited, layer.data == 1)
        watch.undo()
        assert not layer.data.any()
        watch.stop()


def test_the_difference_of_two_masks_leads_from_one_to_the_other():
    draw = np.random.default_rng(0)
    old, new = (draw.integers(0, 3, SHAPE, dtype=np.uint8) for _ in range(2))
    edit = Edit.between(old, new, tool="t")
    np.testing.assert_array_equal(edit.changed, (old != new)[edit.box])
    edit.do(old)
    np.testing.assert_array_equal(old, new)
