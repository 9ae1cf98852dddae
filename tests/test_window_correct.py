"""The Correct part of the dock: classes, tools, confirming, the review queue and figures."""

from __future__ import annotations

import numpy as np
import pytest
from app_model.types import KeyBinding
from napari.utils.key_bindings import KeymapHandler
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QMenu

from napari_medattn.correct.proposal import Proposal
from napari_medattn.widgets.correct.class_table import count_steps
from napari_medattn.widgets.correct.classes import Classes
from napari_medattn.widgets.correct.figures import figure_steps
from napari_medattn.widgets.correct.recipes import RECIPES
from napari_medattn.widgets.correct.standing import CONFIRMED, EDITED, NOTHING, UNTOUCHED
from napari_medattn.widgets.correct.where import chosen_box, selection_layer
from tests.window_tools import PATIENCE, segment

SHOW, LOCK, ML, VOXELS = 1, 2, 3, 4


@pytest.fixture
def told(monkeypatch):
    """Notifications that napari would have shown."""
    said = []
    monkeypatch.setattr("napari_medattn.widgets.parts.show_error", said.append)
    return said


@pytest.fixture
def ready(dock, qtbot):
    """The dock with a mask, whose voxels are counted."""
    segment(dock, qtbot)
    wait_for_counts(dock, qtbot)
    return dock


def mask_of(dock):
    return dock.session.case.mask


def counted(labels):
    return {int(n): int(np.count_nonzero(labels == n)) for n in np.unique(labels) if n > 0}


def wait_for_counts(dock, qtbot):
    qtbot.waitUntil(lambda: dock.correct.table.counts == counted(mask_of(dock).data), timeout=PATIENCE)


def tick(table, row, column, on):
    table.item(row, column).setCheckState(Qt.CheckState.Checked if on else Qt.CheckState.Unchecked)


def put(dock, where, label):
    """A person's change of some voxels."""
    mask = mask_of(dock)
    mask.mode = "paint"
    places = np.nonzero(where)
    mask.data_setitem(places, np.full(places[0].size, label, mask.data.dtype))


def drain(steps):
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value


class TestCounting:
    def test_labels_small_and_huge(self):
        labels = np.zeros((3, 4, 5), np.int32)
        labels[0, 0] = 2
        labels[1, 0] = 1 << 20
        labels[2, 1, :2] = -3
        assert drain(count_steps(labels)) == {2: 5, 1 << 20: 5}


class TestClassTable:
    def test_rows_say_what_the_mask_holds(self, ready):
        table, counts = ready.correct.table, counted(mask_of(ready).data)
        assert [table.item(row, 0).text() for row in range(2)] == list(ready.session.case.class_names[1:])
        assert [table.item(row, VOXELS).text() for row in range(2)] == [f"{counts[n]:,}" for n in (1, 2)]
        assert table.item(0, ML).text() == f"{counts[1] * 1.5 * 1.5 * 2 / 1000:.2f}"

    def test_a_label_without_a_name_has_a_row(self, ready, qtbot):
        put(ready, mask_of(ready).data == 1, 7)
        qtbot.waitUntil(lambda: ready.correct.table.rowCount() == 3, timeout=PATIENCE)
        assert ready.correct.table.item(2, 0).text() == "label 7"

    def test_renaming_touches_no_voxel_and_the_network_still_knows_the_mask(self, ready, qtbot):
        mask = mask_of(ready)
        before = mask.data.copy()
        ready.correct.table.item(0, 0).setText("ventricle")
        assert ready.session.case.class_names[1] == "ventricle"
        np.testing.assert_array_equal(mask.data, before)
        segment(ready, qtbot)
        assert mask_of(ready) is mask
        assert ready.session.case.class_names[1] == "ventricle"

    def test_a_renamed_class_can_be_learned_from(self, ready, qtbot):
        ready.correct.table.rename(1, "ventricle")
        put(ready, mask_of(ready).data == 1, 2)
        qtbot.waitUntil(ready.learn.run.isEnabled, timeout=PATIENCE)

    def test_a_name_that_is_taken_is_refused(self, ready, told):
        names = ready.session.case.class_names
        ready.correct.table.item(0, 0).setText(names[2])
        assert "already" in told[0]
        assert ready.session.case.class_names == names
        assert ready.correct.table.item(0, 0).text() == names[1]

    def test_an_added_class_is_painted_with_and_survives_a_rerun(self, ready, qtbot):
        ready.correct.table.add("lesion")
        mask = mask_of(ready)
        assert mask.selected_label == 3
        put(ready, np.indices(mask.data.shape).sum(0) < 4, 3)
        painted = mask.data == 3
        segment(ready, qtbot)
        np.testing.assert_array_equal(mask_of(ready).data == 3, painted)
        assert not ready.learn.run.isEnabled()

    def test_the_order_is_the_tables_alone(self, ready):
        table, before = ready.correct.table, mask_of(ready).data.copy()
        table.move(2, -1)
        assert table.labels == [2, 1]
        np.testing.assert_array_equal(mask_of(ready).data, before)
        table.cellClicked.emit(0, 0)
        assert mask_of(ready).selected_label == 2

    def test_merging_is_one_undo_step(self, ready, qtbot):
        mask = mask_of(ready)
        before = mask.data.copy()
        job = ready.correct.table.merge(1, 2)
        qtbot.waitUntil(lambda: not job.running, timeout=PATIENCE)
        np.testing.assert_array_equal(mask.data, np.where(before == 1, 2, before))
        wait_for_counts(ready, qtbot)
        ready.session.case.undo()
        np.testing.assert_array_equal(mask.data, before)

    def test_a_lock_in_the_table_is_the_masks(self, ready, qtbot):
        tick(ready.correct.table, 0, LOCK, True)
        assert ready.session.case.locked == {1}
        job = ready.correct.table.merge(1, 2)
        qtbot.waitUntil(lambda: not job.running, timeout=PATIENCE)
        assert "locked" in ready.correct.message.text
        assert np.count_nonzero(mask_of(ready).data == 1) == ready.correct.table.counts[1]
        tick(ready.correct.table, 0, LOCK, False)
        assert ready.session.case.locked == frozenset()

    def test_a_hidden_class_is_clear_and_comes_back_in_its_colour(self, ready):
        table, mask = ready.correct.table, mask_of(ready)
        table.paint(1, "#ff0000")
        tick(table, 0, SHOW, False)
        assert mask.get_color(1)[3] == 0
        assert mask.get_color(2)[3] == 1
        tick(table, 0, SHOW, True)
        np.testing.assert_allclose(mask.get_color(1), [1, 0, 0, 1])

    def test_the_menu_offers_the_other_classes_to_merge_into(self, ready):
        table, menu = ready.correct.table, QMenu()
        table.selectRow(0)
        table.fill_menu(menu)
        merge = menu.actions()[-1].menu()
        assert [action.text() for action in merge.actions()] == [Classes(mask_of(ready)).name(2)]


def wait_for_preview(dock, qtbot):
    tools = dock.correct.tools
    qtbot.waitUntil(lambda: not tools.busy, timeout=PATIENCE)
    assert tools.preview_shown is not None, dock.correct.message.text


def press(holder, keys):
    handler = KeymapHandler()
    handler.keymap_providers = [holder]
    handler.press_key(KeyBinding.from_str(keys))


@pytest.fixture
def holed(ready):
    """A mask with a block that has a hole in the middle, made by no person."""
    mask, case = mask_of(ready), ready.session.case
    labels = np.zeros_like(mask.data)
    labels[8:24, 8:24, 8:24] = 1
    labels[16, 16, 16] = 0
    everything = np.ones(labels.shape, bool)
    case.apply(Proposal((slice(None),) * 3, labels, everything, "test"))
    ready.session.viewer.dims.set_current_step(0, 16)
    return ready


class TestTools:
    def test_a_preview_changes_nothing_and_shows_what_would_change(self, holed, viewer, qtbot):
        before = mask_of(holed).data.copy()
        holed.correct.tools.choose("fill holes", "3-D")
        holed.correct.tools.run.click()
        wait_for_preview(holed, qtbot)
        np.testing.assert_array_equal(mask_of(holed).data, before)
        layer = holed.correct.tools.preview_shown.layer
        assert layer in viewer.layers
        assert layer.data.tolist() == [[[1]]]
        np.testing.assert_allclose(layer.data_to_world((0, 0, 0)), mask_of(holed).data_to_world((16, 16, 16)))
        assert "1 voxel." in holed.correct.message.text

    @pytest.mark.parametrize("holder", ["viewer", "mask"])
    def test_enter_applies_as_one_undo_step(self, holed, viewer, qtbot, holder):
        before = mask_of(holed).data.copy()
        holed.correct.tools.choose("fill holes", "slice")
        holed.correct.tools.preview()
        wait_for_preview(holed, qtbot)
        press(viewer if holder == "viewer" else mask_of(holed), "Enter")
        assert mask_of(holed).data[16, 16, 16] == 1
        assert holed.correct.tools.preview_shown is None
        assert not any("preview" in layer.name for layer in viewer.layers)
        holed.session.case.undo()
        np.testing.assert_array_equal(mask_of(holed).data, before)

    def test_escape_discards(self, holed, viewer, qtbot):
        before = mask_of(holed).data.copy()
        holed.correct.tools.choose("smooth", "3-D")
        holed.correct.tools.preview()
        wait_for_preview(holed, qtbot)
        press(viewer, "Escape")
        np.testing.assert_array_equal(mask_of(holed).data, before)
        assert not any("preview" in layer.name for layer in viewer.layers)
        assert KeyBinding.from_str("Escape") not in viewer.keymap

    def test_a_slice_is_all_that_is_changed(self, holed, qtbot):
        holed.correct.tools.choose("smooth", "slice")
        holed.correct.tools.preview()
        wait_for_preview(holed, qtbot)
        assert holed.correct.tools._proposal.box[0] == slice(16, 17)

    def test_a_drawn_rectangle_is_the_selection(self, holed, qtbot):
        tools = holed.correct.tools
        tools.choose("smooth", "selection")
        tools.draw.click()
        layer = selection_layer(holed.session.case)
        assert str(layer.mode) == "add_rectangle"
        for z in (10, 12):
            layer.add_rectangles(np.array([[z, 4, 4], [z, 4, 12], [z, 12, 12], [z, 12, 4]], float))
        box = chosen_box(holed.session.case, "selection")
        assert box == (slice(10, 13), slice(4, 13), slice(4, 13))
        tools.amount.setValue(5)
        tools.preview()
        wait_for_preview(holed, qtbot)
        found = tools._proposal.box
        assert all(a.start >= b.start and a.stop <= b.stop for a, b in zip(found, box, strict=True))

    def test_what_a_person_painted_stays_and_is_counted(self, holed, qtbot):
        put(holed, np.isin(np.arange(32 * 48 * 48).reshape(32, 48, 48), [0]), 2)  # an island, by hand
        holed.correct.tools.choose("remove islands", "3-D")
        holed.correct.tools.preview()
        qtbot.waitUntil(lambda: not holed.correct.tools.busy, timeout=PATIENCE)
        assert holed.correct.tools.preview_shown is None
        assert "1 voxel that you painted or confirmed stays" in holed.correct.message.text

    def test_painting_takes_the_preview_away(self, holed, qtbot):
        holed.correct.tools.choose("fill holes", "3-D")
        holed.correct.tools.preview()
        wait_for_preview(holed, qtbot)
        put(holed, np.arange(32 * 48 * 48).reshape(32, 48, 48) == 5, 2)
        assert holed.correct.tools.preview_shown is None

    def test_cancelling_changes_nothing(self, holed, qtbot):
        tools, before = holed.correct.tools, mask_of(holed).data.copy()
        tools.choose("smooth", "3-D")
        tools.preview()
        assert tools.busy
        tools.stop.click()
        qtbot.waitUntil(lambda: not holed.jobs._running, timeout=PATIENCE)
        assert tools.preview_shown is None
        np.testing.assert_array_equal(mask_of(holed).data, before)

    def test_a_click_names_the_part(self, holed, qtbot):
        tools, mask = holed.correct.tools, mask_of(holed)
        mask.mode = "paint"
        tools.choose("remove a part", "3-D")
        tools.preview()
        assert str(mask.mode) == "pan_zoom"
        tools._clicked((10.2, 9.6, 10.0))
        assert str(mask.mode) == "paint"
        wait_for_preview(holed, qtbot)
        tools.accept()
        assert not mask.data.any()

    def test_strokes_grow(self, holed, qtbot):
        case, mask = holed.session.case, mask_of(holed)
        image = np.zeros(mask.data.shape, np.float32)
        image[16, 30:40, 30:40] = 100
        case.image.data = image
        where = np.zeros(mask.data.shape, bool)
        where[16, 33:37, 33:37] = True
        put(holed, where, 2)
        holed.correct.tools.choose("grow strokes", "slice")
        holed.correct.tools.grow()
        wait_for_preview(holed, qtbot)
        holed.correct.tools.accept()
        grown = mask.data == 2
        assert np.count_nonzero(grown & (image > 0)) > 80
        assert np.count_nonzero(grown & (image == 0)) < 20
        assert grown[where].all()

    def test_nothing_to_grow_is_said(self, holed, qtbot, told):
        holed.correct.tools.grow()
        qtbot.waitUntil(lambda: bool(told), timeout=PATIENCE)
        assert "no strokes" in told[0]

    @pytest.mark.parametrize("recipe", [recipe for recipe in RECIPES if not recipe.clicks], ids=lambda r: r.name)
    def test_every_tool_runs(self, holed, qtbot, recipe, told):
        put(holed, np.indices(mask_of(holed).data.shape).sum(0) < 3, 2)
        holed.correct.tools.choose(recipe.name, "3-D")
        holed.correct.tools.preview()
        qtbot.waitUntil(lambda: not holed.correct.tools.busy, timeout=PATIENCE)
        assert told == []
        assert recipe.name.split()[0] in holed.correct.message.text


class TestConfirming:
    def test_the_case_is_confirmed_and_taken_back(self, holed):
        case, confirming = holed.session.case, holed.correct.confirming
        confirming.confirm("3-D")
        assert case.is_confirmed(())
        menu = QMenu()
        confirming.fill_menu(menu)
        assert menu.actions()[-1].text() == "Take back the confirmation of the case (Alt+Shift+C)"
        menu.actions()[-1].trigger()
        assert case.confirmed_slices() == 0

    def test_a_drawn_box_is_confirmed(self, holed):
        case = holed.session.case
        holed.correct.tools.choose("smooth", "selection")
        holed.correct.tools.draw.click()
        corners = [[16, 4, 4], [16, 4, 12], [16, 12, 12], [16, 12, 4]]
        selection_layer(case).add_rectangles(np.array(corners, float))
        holed.correct.confirming.confirm("selection")
        right = case.watch.log.confirmed(mask_of(holed).data)
        assert right[16, 4:13, 4:13].all()
        assert np.count_nonzero(right) == 81

    def test_the_overlay_tells_edited_confirmed_and_untouched(self, holed, viewer):
        put(holed, np.arange(32 * 48 * 48).reshape(32, 48, 48) == 0, 2)
        viewer.dims.set_current_step(0, 10)
        holed.correct.confirm.click()
        holed.correct.confirming.show_standing.setChecked(True)
        layer = holed.correct.confirming.overlay
        shown = [layer.data[at] - 0.5 for at in ((0, 0, 0), (0, 0, 1), (10, 0, 0), (16, 10, 10))]
        assert shown == [EDITED, NOTHING, CONFIRMED, UNTOUCHED]
        assert holed.session.image == holed.session.case.image
        holed.correct.confirming.show_standing.setChecked(False)
        assert layer not in viewer.layers

    def test_an_overlay_that_is_deleted_unticks_itself(self, holed, viewer):
        holed.correct.confirming.show_standing.setChecked(True)
        viewer.layers.remove(holed.correct.confirming.overlay)
        assert not holed.correct.confirming.show_standing.isChecked()


class TestReview:
    @pytest.fixture
    def queue(self, ready, viewer, qtbot):
        press(viewer, "Alt-N")
        review = ready.correct.review
        qtbot.waitUntil(lambda: bool(review.places) and not review.busy, timeout=PATIENCE)
        return review

    def test_keys_walk_through_the_queue_and_the_viewer_follows(self, queue, viewer):
        seen = []
        for keys in ("Alt-N", "Alt-N", "Alt-P"):
            press(viewer, keys)
            seen.append(queue.at)
            assert viewer.dims.current_step[0] == queue.place.index
        assert seen == [1, 2, 1]
        assert queue.label.text().startswith(f"doubtful 2/{len(queue.places)}: slice {queue.place.index}, ")
        assert queue.place.reason in queue.label.text()

    def test_done_confirms_the_slice_and_goes_on(self, ready, queue, viewer):
        count, first, second = len(queue.places), queue.places[0], queue.places[1]
        press(viewer, "Alt-D")
        assert ready.session.case.watch.log.confirmed_slices(mask_of(ready).data) == [first.index]
        assert (len(queue.places), queue.place) == (count - 1, second)

    def test_it_goes_to_slices_along_the_axis_in_view(self, ready, viewer, qtbot):
        viewer.dims.order = (1, 0, 2)
        review = ready.correct.review
        review.next()
        qtbot.waitUntil(lambda: bool(review.places) and not review.busy, timeout=PATIENCE)
        assert review.place.axis == 1
        assert viewer.dims.current_step[1] == review.place.index

    def test_the_queue_of_a_deleted_mask_is_gone(self, ready, queue, viewer):
        viewer.layers.remove(mask_of(ready))
        assert queue.places == ()
        assert not queue.next_button.isEnabled()


class TestFigures:
    def test_the_share_of_edited_voxels(self):
        labels, edited = np.zeros((2, 4, 5), np.uint8), np.zeros((2, 4, 5), bool)
        labels[0, :2] = 1
        edited[0, 0] = edited[1, 0] = True
        figures = drain(figure_steps(labels, edited, 10, None, (1, 1, 1)))
        assert (figures.edited, figures.of_scan, figures.of_classes) == (10, 0.25, 0.5)

    def test_scores_by_hand(self):
        labels, truth = np.zeros((1, 8, 8), np.uint8), np.zeros((1, 8, 8), np.uint8)
        labels[0, 2:4, 2:6], truth[0, 2:6, 2:6] = 1, 1
        scores = drain(figure_steps(labels, labels > 9, 0, truth, (1.0, 1.0, 1.0))).scores
        assert list(scores) == [1]
        assert scores[1].dice == pytest.approx(16 / 24)
        assert scores[1].iou == pytest.approx(8 / 16)

    def test_a_reference_is_followed_while_painting(self, holed, viewer, qtbot):
        figures, mask = holed.correct.figures, mask_of(holed)
        reference = viewer.add_labels(mask.data.copy(), name="truth")
        figures.reference.setCurrentIndex(figures.reference.findText("truth"))
        qtbot.waitUntil(lambda: figures.table.rowCount() == 1, timeout=PATIENCE)
        assert figures.table.item(0, 1).text() == "1.000"
        put(holed, mask.data == 1, 0)
        qtbot.waitUntil(lambda: figures.figures and figures.figures.scores[1].dice == 0, timeout=PATIENCE)
        assert figures.table.item(0, 3).text() == "not there"
        viewer.layers.remove(reference)
        assert figures.chosen is None
        assert figures.table.rowCount() == 0


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_the_correct_part_fits_350_pixels(holed, viewer, theme):
    viewer.theme = theme
    holed.correct.tools.choose("remove islands", "selection")
    assert holed.correct.minimumSizeHint().width() <= 335


def test_closing_the_dock_takes_away_what_was_only_shown(holed, viewer, qtbot):
    holed.correct.tools.choose("fill holes", "3-D")
    holed.correct.tools.preview()
    wait_for_preview(holed, qtbot)
    holed.correct.confirming.show_standing.setChecked(True)
    viewer.window.remove_dock_widget(holed)
    assert not any("preview" in layer.name or "confirmed" in layer.name for layer in viewer.layers)
    assert KeyBinding.from_str("Enter") not in viewer.keymap
