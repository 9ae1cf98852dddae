"""The review queue in the window: where it goes, what it frames, what it can be asked to look for."""

from __future__ import annotations

import numpy as np
import pytest

from napari_medattn.widgets.correct.where import selection_layer
from tests.correct_window import block, mask_of, press, told  # noqa: F401
from tests.window_tools import PATIENCE, choose, open_dock, segment


@pytest.fixture
def ready(dock, qtbot):
    segment(dock, qtbot)
    return dock


def find(dock, qtbot):
    review = dock.correct.review
    review.next()
    qtbot.waitUntil(lambda: bool(review.places) and not review.busy, timeout=PATIENCE)
    return review


def frame_of(review):
    """The frame's extent in voxels of the mask."""
    corners = np.asarray(review.mark.layer.data[0])
    return corners.min(0).tolist(), corners.max(0).tolist()


class TestFrame:
    def test_it_lies_around_the_place_and_moves_along(self, ready, qtbot):
        review = find(ready, qtbot)
        for _ in range(2):
            box = review.place.box
            low, high = frame_of(review)
            assert low[0] == high[0] == review.place.index
            assert low[1:] == [side.start - 0.5 for side in box[1:]]
            assert high[1:] == [side.stop - 0.5 for side in box[1:]]
            review.next()
        np.testing.assert_array_equal(review.mark.layer.scale, mask_of(ready).scale)
        assert ready.session.viewer.layers.selection.active == mask_of(ready)

    def test_it_can_be_left_out(self, ready, viewer, qtbot):
        review = find(ready, qtbot)
        layer = review.mark.layer
        review.framed.setChecked(False)
        qtbot.waitUntil(lambda: layer not in viewer.layers)
        review.next()
        assert review.mark.layer is None
        review.framed.setChecked(True)
        assert review.mark.layer in viewer.layers

    def test_a_frame_that_is_deleted_comes_with_the_next_place(self, ready, viewer, qtbot):
        review = find(ready, qtbot)
        viewer.layers.remove(review.mark.layer)
        review.next()
        assert review.mark.layer in viewer.layers

    def test_it_goes_with_the_dock(self, ready, viewer, qtbot):
        layer = find(ready, qtbot).mark.layer
        viewer.window.remove_dock_widget(ready.parent())
        assert layer not in viewer.layers


class TestView:
    def test_it_does_not_jump_while_the_place_is_in_view(self, ready, viewer, qtbot):
        find(ready, qtbot)
        mask_of(ready).corner_pixels = np.array([[0, 0, 0], [31, 47, 47]])  # what the window shows
        centre = viewer.scene.camera.center
        ready.correct.review.next()
        assert viewer.scene.camera.center == centre

    @pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 0, 1)])
    def test_a_place_outside_of_the_view_is_brought_to_its_middle(self, ready, viewer, qtbot, order):
        viewer.dims.order = order
        review = find(ready, qtbot)
        mask_of(ready).corner_pixels = np.zeros((2, 3), int)  # what the window shows
        review.next()
        middle = mask_of(ready).data_to_world([(side.start + side.stop - 1) / 2 for side in review.place.box])
        np.testing.assert_allclose(viewer.scene.camera.center[1:], [middle[axis] for axis in order[1:]])

    def test_a_2d_image_says_why_there_is_no_queue(self, viewer, qtbot):
        viewer.add_image(np.random.default_rng(0).random((64, 64)).astype(np.float32), name="slice")
        dock = open_dock(viewer)
        choose(dock, "phantom-2d", qtbot)
        segment(dock, qtbot)
        assert not dock.correct.review.next_button.isEnabled()
        assert "2-D image is one slice" in dock.correct.review.next_button.toolTip()


class TestOptions:
    def test_both_are_off_at_first_and_say_what_was_measured(self, ready):
        for action in (ready.correct.review.mirrored, ready.correct.review.attended):
            assert not action.isChecked()
            assert "Measured" in action.toolTip()

    @pytest.mark.parametrize(("option", "sign"), [("mirrored", "disagreement"), ("attended", "attention")])
    def test_what_is_asked_for_is_looked_for(self, ready, qtbot, option, sign):
        review = ready.correct.review
        find(ready, qtbot)
        assert getattr(review._evidence, sign, None) is None
        getattr(review, option).setChecked(True)
        assert review.places == ()
        find(ready, qtbot)
        assert getattr(review._evidence, sign).shape == mask_of(ready).data.shape
        assert review._evidence.uncertainty is not None

    def test_without_the_network_that_made_the_mask_it_is_said(self, ready, qtbot):
        choose(ready, "hippocampus", qtbot)
        ready.correct.review.mirrored.setChecked(True)
        find(ready, qtbot)
        assert ready.correct.message.text.startswith("Mirrored runs and attention need the network")

    def test_a_swapped_image_is_looked_at_anew(self, ready, qtbot):
        review = find(ready, qtbot)
        ready.session.image.data = np.ascontiguousarray(ready.session.image.data[:, ::-1])
        assert (review.places, review._evidence) == ((), None)


class TestConfirmByKey:
    def test_the_case(self, ready, viewer):
        press(viewer, "Alt-Shift-C")
        assert ready.session.case.is_confirmed(())
        assert ready.correct.message.text == "Confirmed the case."
        press(viewer, "Alt-Shift-C")
        assert ready.session.case.confirmed_slices() == 0

    def test_the_selection(self, ready, viewer):
        block(ready)
        ready.correct.tools.choose("smooth", "selection")
        ready.correct.tools.draw.click()
        corners = [[16, 4, 4], [16, 4, 12], [16, 12, 12], [16, 12, 4]]
        selection_layer(ready.session.case).add_rectangles(np.array(corners, float))
        press(viewer, "Alt-B")
        assert np.count_nonzero(ready.session.case.watch.log.confirmed(mask_of(ready).data)) == 81

    def test_in_3d_there_is_no_selection(self, ready, viewer):
        viewer.dims.ndisplay = 3
        press(viewer, "Alt-B")
        assert ready.session.case.confirmed_slices() == 0
        assert "switch the viewer to 2-D" in ready.correct.message.text
        assert "switch the viewer to 2-D" in ready.correct.confirm.toolTip()

    def test_without_a_mask_nothing_happens(self, dock, viewer):
        for keys in ("Alt-B", "Alt-Shift-C", "Alt-C"):
            press(viewer, keys)
        assert dock.session.case.mask is None

    def test_the_tooltip_names_the_keys(self, ready):
        tip = ready.correct.confirming.more.toolTip()
        assert "Alt+B" in tip
        assert "Alt+Shift+C" in tip


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_it_fits_350_pixels_whatever_is_shown(ready, viewer, theme):
    viewer.theme = theme
    correct = ready.correct
    correct.tools.choose("remove islands", "selection")
    assert correct.minimumSizeHint().width() <= 335
    correct.confirm.click()
    assert correct.minimumSizeHint().width() <= 335
    correct.review.next()
    assert correct.review.busy
    assert correct.minimumSizeHint().width() <= 335


def test_a_size_has_the_unit_of_what_is_looked_at(ready):
    tools, units = ready.correct.tools, []
    for where in ("slice", "3-D", "selection"):
        tools.choose("remove islands", where)
        units.append(tools.amount_name.text())
    assert units == ["below, mm²", "below, mm³", "below, mm²"]
