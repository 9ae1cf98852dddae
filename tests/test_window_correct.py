"""The Correct part of the dock: classes, tools, confirming, the review queue and figures."""

from __future__ import annotations

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QMenu

from napari_medattn.widgets.correct.class_table import count_steps
from napari_medattn.widgets.correct.classes import Classes
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

    def test_a_renamed_class_can_be_learned_from(self, ready):
        ready.correct.table.rename(1, "ventricle")
        put(ready, mask_of(ready).data == 1, 2)
        ready.learn.refresh()
        assert ready.learn.run.isEnabled()

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
