"""Drawing only in a range of intensities: what lies outside stays, one stroke is one step, the journal is truthful."""

from __future__ import annotations

import numpy as np
import pytest
from napari.utils._test_utils import read_only_mouse_event
from napari.utils.interactions import mouse_move_callbacks, mouse_press_callbacks, mouse_release_callbacks

from napari_medattn.correct.brush import between
from napari_medattn.store.replay import replay
from tests.correct_window import brush, mask_of, told, wait_until_kept  # noqa: F401
from tests.window_tools import segment


@pytest.fixture
def ranged(dock, qtbot):
    """A mask of background on an image that rises along x from 0 to 47; strokes change 20 to 30."""
    segment(dock, qtbot)
    case = dock.session.case
    case.image.data = np.broadcast_to(np.arange(48, dtype=np.float32), (32, 48, 48)).copy()
    with case.watch.machine("test"):
        everywhere = np.nonzero(case.mask.data)
        case.mask.data_setitem(everywhere, np.zeros(everywhere[0].size, np.uint8))
    wait_until_kept(dock, qtbot)
    part = dock.correct.range_brush
    part.low.setValue(20)
    part.high.setValue(30)
    part.on.setChecked(True)
    return dock


def stroke(mask, x=range(10, 40, 2), label=2):
    """As the mouse does it: reported at the end."""
    with mask.block_history():
        for at in x:
            brush(mask, (16, 24, at), label, size=5)


def columns(mask):
    """Which x hold a label."""
    return set(np.nonzero(mask.data.any(axis=(0, 1)))[0].tolist())


class TestLimits:
    def test_both_ends_are_inside_and_what_is_no_number_is_not(self):
        values = np.array([1, 2, 3, np.nan])
        assert between(values, 2, 3).tolist() == [False, True, True, False]
        assert between(values, None, None).tolist() == [True, True, True, False]
        assert between(np.array([0, 255], np.uint8), -5, 1e6).all()


class TestStroke:
    def test_only_what_lies_in_the_range_changes(self, ranged):
        stroke(mask_of(ranged))
        assert columns(mask_of(ranged)) == set(range(20, 31))

    def test_it_is_one_step_that_can_be_undone_and_done_again(self, ranged):
        case = ranged.session.case
        count = len(case.watch.log)
        stroke(case.mask)
        painted = case.mask.data.copy()
        assert len(case.watch.log) == count + 1
        case.undo()
        assert not case.mask.data.any()
        case.redo()
        np.testing.assert_array_equal(case.mask.data, painted)

    def test_the_journal_tells_what_the_mask_shows(self, ranged):
        stroke(mask_of(ranged))
        found = replay(ranged.correct.keeper.journal.path)
        np.testing.assert_array_equal(found.labels, mask_of(ranged).data)
        np.testing.assert_array_equal(found.log.edited, mask_of(ranged).data == 2)

    def test_naparis_own_undo_and_redo_bring_nothing_from_outside(self, ranged):
        mask = mask_of(ranged)
        stroke(mask)
        painted = mask.data.copy()
        mask.undo()
        assert not mask.data.any()
        ranged.correct.range_brush.on.setChecked(False)
        mask.redo()
        np.testing.assert_array_equal(mask.data, painted)
        assert ranged.session.case.edited == np.count_nonzero(painted)

    @pytest.mark.parametrize("mode", ["erase", "fill", "polygon"])
    def test_the_other_hands_too(self, ranged, mode):
        mask = mask_of(ranged)
        with ranged.session.case.watch.machine("test"):
            mask.data_setitem(np.nonzero(mask.data == 0), 1)
        mask.mode = mode
        ranged.session.viewer.dims.set_current_step(0, 16)
        if mode == "erase":
            mask.brush_size = 100
            mask.paint((16, 24, 24), 0)
        elif mode == "fill":
            mask.fill((16, 24, 24), 2)
        else:
            mask.paint_polygon([[16, 3, 3], [16, 3, 46], [16, 40, 46], [16, 40, 3]], 2)
        changed = np.nonzero(mask.data[16] != 1)[1]
        assert set(changed.tolist()) == set(range(20, 31))

    def test_a_locked_class_stays_too(self, ranged):
        case = ranged.session.case
        with case.watch.machine("test"):
            where = np.nonzero(np.indices(case.mask.data.shape)[2] == 25)
            case.mask.data_setitem(where, 1)
        case.lock([1])
        stroke(case.mask)
        assert (case.mask.data[:, :, 25] == 1).all()
        assert set(np.nonzero((case.mask.data == 2).any(axis=(0, 1)))[0].tolist()) == {*range(20, 31)} - {25}

    def test_a_stroke_that_changes_nothing_is_said(self, ranged):
        stroke(mask_of(ranged), range(5, 12))
        assert "no intensity under the paint tool is from 20 to 30" in ranged.correct.message.text
        assert ranged.session.case.edited == 0

    def test_tools_and_reruns_are_not_held_back(self, ranged, qtbot):
        segment(ranged, qtbot)
        with ranged.session.case.watch.machine("test"):
            mask_of(ranged).data_setitem((np.array([3]), np.array([3]), np.array([3])), 2)
        assert mask_of(ranged).data[3, 3, 3] == 2

    def test_in_3d_brushes_too(self, ranged):
        mask = mask_of(ranged)
        mask.n_edit_dimensions = 3
        stroke(mask)
        assert columns(mask) == set(range(20, 31))
        assert len(np.nonzero(mask.data.any(axis=(1, 2)))[0]) > 1


class TestMouse:
    """What napari's own mouse handling does while it draws."""

    def drag(self, dock, qtbot, xs, seen=None, between=None):
        mask = mask_of(dock)
        dock.session.viewer.dims.set_current_step(0, 16)

        def event(kind, x):
            at = tuple(mask.data_to_world((16, 24, x)))
            dragging = kind != "mouse_press"
            return read_only_mouse_event(
                kind, is_dragging=dragging, button=1, position=at, dims_displayed=[1, 2], pos=np.array([x, x])
            )

        mouse_press_callbacks(mask, event("mouse_press", xs[0]))
        for n, x in enumerate(xs[1:]):
            mouse_move_callbacks(mask, event("mouse_move", x))
            if seen is not None:
                seen.append(columns(mask))
            if between is not None and n == 3:
                between()
        mouse_release_callbacks(mask, event("mouse_release", xs[-1]))
        qtbot.wait(1)

    def brush_in_hand(self, dock, dims=2):
        mask = mask_of(dock)
        mask.mode, mask.brush_size, mask.selected_label, mask.n_edit_dimensions = "paint", 5, 2, dims
        return mask

    @pytest.mark.parametrize("dims", [2, 3])
    def test_what_lies_outside_never_stays_while_drawing(self, ranged, qtbot, dims):
        mask, case, seen = self.brush_in_hand(ranged, dims), ranged.session.case, []
        count = len(case.watch.log)
        self.drag(ranged, qtbot, range(10, 40), seen)
        assert all(found <= set(range(20, 31)) for found in seen)
        assert seen[-1] == columns(mask) == set(range(20, 31))
        assert len(case.watch.log) == count + 1
        found = replay(ranged.correct.keeper.journal.path)
        np.testing.assert_array_equal(found.labels, mask.data)
        case.undo()
        assert not mask.data.any()

    def test_locked_classes_stay_while_drawing(self, ranged, qtbot):
        mask, case = self.brush_in_hand(ranged), ranged.session.case
        with case.watch.machine("test"):
            mask.data_setitem(np.nonzero(np.indices(mask.data.shape)[2] == 25), 1)
        case.lock([1])
        seen = []
        self.drag(ranged, qtbot, range(10, 40), seen)
        assert all(25 in found for found in seen)
        assert (mask.data[:, :, 25] == 1).all()

    def test_a_tool_that_applies_in_the_middle_is_not_taken_back(self, ranged, qtbot):
        mask, case = self.brush_in_hand(ranged), ranged.session.case

        def tool():
            with case.watch.machine("test"):
                mask.data_setitem((np.array([16]), np.array([2]), np.array([2])), 1)

        self.drag(ranged, qtbot, range(10, 40), between=tool)
        assert mask.data[16, 2, 2] == 1
        assert columns(mask) == {2, *range(20, 31)}
        replayed = replay(ranged.correct.keeper.journal.path)
        np.testing.assert_array_equal(replayed.labels, mask.data)

    def test_undo_in_the_middle(self, ranged, qtbot):
        mask, case = self.brush_in_hand(ranged), ranged.session.case
        self.drag(ranged, qtbot, range(22, 40), between=case.undo)
        np.testing.assert_array_equal(replay(ranged.correct.keeper.journal.path).labels, mask.data)
        assert columns(mask) <= set(range(20, 31))

    def test_afterwards_the_brush_is_free_where_the_option_is_off(self, ranged, qtbot):
        mask = self.brush_in_hand(ranged)
        self.drag(ranged, qtbot, range(10, 40))
        ranged.correct.range_brush.on.setChecked(False)
        self.drag(ranged, qtbot, range(10, 40))
        assert columns(mask) > set(range(12, 38))


class TestPart:
    def test_off_it_holds_nothing_back(self, ranged):
        ranged.correct.range_brush.on.setChecked(False)
        stroke(mask_of(ranged))
        assert min(columns(mask_of(ranged))) < 20

    def test_the_range_of_a_class(self, ranged):
        mask = mask_of(ranged)
        ranged.correct.range_brush.on.setChecked(False)
        stroke(mask, range(12, 15), label=1)
        mask.selected_label = 1
        ranged.session.viewer.dims.set_current_step(0, 16)
        ranged.correct.range_brush.fit.click()
        low, high = ranged.correct.range_brush.low.value(), ranged.correct.range_brush.high.value()
        assert min(columns(mask)) <= low < high <= max(columns(mask))

    def test_a_class_that_is_not_there_is_said(self, ranged):
        mask_of(ranged).selected_label = 2
        ranged.correct.range_brush.fit.click()
        assert "no voxel in this slice" in ranged.correct.message.text

    def test_another_scan_begins_without_it(self, ranged, viewer):
        viewer.add_image(np.zeros((32, 48, 48), np.uint16), name="other", contrast_limits=(3, 700))
        part = ranged.correct.range_brush
        assert not part.on.isChecked()
        assert (part.low.value(), part.high.value(), part.low.decimals()) == (3, 700, 0)

    def test_an_image_of_another_shape_is_said(self, ranged):
        ranged.session.case.image.data = np.zeros((8, 8, 8), np.float32)
        stroke(mask_of(ranged))
        assert "another shape" in ranged.correct.message.text

    def test_a_closed_dock_holds_nothing_back(self, ranged, viewer):
        mask = mask_of(ranged)
        viewer.window.remove_dock_widget(ranged.parent())
        stroke(mask)
        assert min(columns(mask)) < 20
