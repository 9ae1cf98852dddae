"""The window of all heads: a table that sorts and jumps, and rollout as a layer."""

import csv

import numpy as np
import pytest
from qtpy.QtCore import Qt
from qtpy.QtWidgets import QComboBox, QFileDialog, QPushButton, QTableView

from napari_medattn.data import Preparation
from napari_medattn.models import create_model
from napari_medattn.store import Card, save_checkpoint
from napari_medattn.widgets.look.view import voxel_in_view
from tests.window_tools import PATIENCE, PLUGIN, choose, open_dock

ARGUMENTS = {"in_channels": 1, "num_classes": 2, "spatial_dims": 2, "widths": [8, 16, 24]}
SITE, DISTANCE = 0, 3


@pytest.fixture
def dae(viewer, scan, qtbot):
    """A dock with a DAE-Former that was never trained."""
    card = Card("dae", "dae_former", ARGUMENTS, ("background", "a"), Preparation(), (1, 48, 48))
    save_checkpoint(card, create_model("dae_former", **ARGUMENTS))
    viewer.open(str(scan), plugin=PLUGIN)
    dock = open_dock(viewer)
    choose(dock, "dae", qtbot)
    return dock


@pytest.fixture
def tool(dae):
    return dae.look.open_tool("All heads", "heads", "HeadsTool")


@pytest.fixture
def measured(tool, qtbot):
    tool.run.click()
    wait(tool, qtbot)
    return tool


def wait(tool, qtbot):
    qtbot.waitUntil(lambda: not tool.work.running, timeout=PATIENCE)


class TestTable:
    def test_every_head_has_a_row(self, measured):
        sites = measured.work.predictor.sites.values()
        assert len(measured.table.rows) == sum(site.heads for site in sites)
        assert measured.table.model().rowCount() == len(measured.table.rows)

    @pytest.mark.parametrize("order", [Qt.SortOrder.AscendingOrder, Qt.SortOrder.DescendingOrder])
    def test_it_sorts_by_number_with_the_undefined_last(self, measured, order):
        measured.table.sortByColumn(DISTANCE, order)
        found = [row.distance for row in measured.table.rows]
        known = [value for value in found if value is not None]
        assert known == sorted(known, reverse=order == Qt.SortOrder.DescendingOrder)
        assert found[len(known) :] == [None] * (len(found) - len(known))

    def test_numbers_do_not_sort_as_words(self, tool):
        from napari_medattn.look.across import HeadRow

        rows = [HeadRow("a", "a", 0, "axial", 0.5, far, "mm", 1.0, None, None, "") for far in (9.0, 10.0, 2.0)]
        tool.table.fill(rows)
        tool.table.sortByColumn(DISTANCE, Qt.SortOrder.AscendingOrder)
        assert [row.distance for row in tool.table.rows] == [2.0, 9.0, 10.0]

    def test_activating_a_row_jumps_to_its_head(self, measured, qtbot):
        measured.table.sortByColumn(DISTANCE, Qt.SortOrder.DescendingOrder)
        row = measured.table.rows[3]
        with qtbot.waitSignal(measured.wants_site) as heard:
            measured.table.selectRow(3)
            measured.table.activated.emit(measured.table.currentIndex())
        assert heard.args == [row.key, row.head]

    def test_the_jump_ticks_the_site(self, measured, dae):
        key = "encode1.block1.efficient"
        measured.table.select(lambda row: row.key == key)
        measured.table.activated.emit(measured.table.currentIndex())
        assert dae.look.live.shown(key)

    def test_a_chosen_site_is_pointed_at_once_it_is_measured(self, tool, qtbot):
        tool.choose("decode1.block2.efficient", None)
        assert tool.table.current is None
        tool.run.click()
        wait(tool, qtbot)
        assert tool.table.current.key == "decode1.block2.efficient"
        assert tool.rollout.stream.currentData() == "decoder 1"

    def test_it_is_saved(self, measured, tmp_path, monkeypatch):
        chosen = str(tmp_path / "heads")
        monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (chosen, ""))
        measured.save.click()
        with (tmp_path / "heads.csv").open(encoding="utf-8", newline="") as file:
            assert len(list(csv.DictReader(file))) == len(measured.table.rows)
        assert "Saved heads.csv" in measured.work.message.text

    def test_a_folder_that_is_not_there_is_an_error_in_the_window(self, measured, tmp_path, monkeypatch):
        chosen = str(tmp_path / "nowhere" / "heads.csv")
        monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (chosen, ""))
        measured.save.click()
        assert "could not be saved" in measured.work.message.text

    def test_the_whole_scan_is_averaged_over(self, measured, qtbot):
        one = measured.table.rows[0]
        measured.where.setCurrentText("whole scan")
        measured.run.click()
        wait(measured, qtbot)
        assert measured.table.rows[0].key == one.key
        assert measured.table.rows[0].distance != one.distance


class TestRollout:
    def test_it_is_a_layer_on_the_image(self, tool, dae, qtbot):
        tool.rollout.here.click()
        wait(tool, qtbot)
        layer, image = dae.viewer.layers[-1], dae.session.image
        at = [round(where) for where in voxel_in_view(dae.viewer, image)]
        assert layer.name == f"{image.name} rollout encoder 1, at {at[0]}, {at[1]}, {at[2]}"
        assert layer.data.shape == image.data.shape
        np.testing.assert_allclose(layer.scale, image.scale)
        np.testing.assert_allclose(layer.translate, image.translate)
        assert "approximation" in layer.metadata["medattn"]["legend"]
        assert np.flatnonzero(np.isfinite(layer.data).all(axis=(1, 2))).tolist() == at[:1]

    def test_it_is_no_scan_of_its_own(self, tool, dae, qtbot):
        image = dae.session.image
        tool.rollout.here.click()
        wait(tool, qtbot)
        assert dae.session.images == [image]
        assert dae.session.image is image

    def test_another_voxel_takes_the_place_of_the_first(self, tool, dae, qtbot):
        tool.rollout.here.click()
        wait(tool, qtbot)
        count = len(dae.viewer.layers)
        tool.rollout.clicks.take((3, 10.2, 20.4))
        wait(tool, qtbot)
        assert len(dae.viewer.layers) == count
        assert dae.viewer.layers[-1].name.endswith("at 3, 10, 20")
        assert np.isfinite(dae.viewer.layers[-1].data[3]).all()

    def test_a_layer_that_was_deleted_is_made_anew(self, tool, dae, qtbot):
        tool.rollout.here.click()
        wait(tool, qtbot)
        del dae.viewer.layers[-1]
        tool.rollout.mean.click()
        wait(tool, qtbot)
        assert dae.viewer.layers[-1].name.endswith("rollout encoder 1, mean of all")

    def test_a_click_is_listened_to_only_while_the_button_is_down(self, tool, dae):
        callbacks = dae.viewer.mouse_drag_callbacks
        before = len(callbacks)
        tool.rollout.pick.setChecked(True)
        assert len(callbacks) == before + 1
        tool.rollout.pick.setChecked(False)
        assert len(callbacks) == before

    def test_it_says_where_it_is_not_defined(self, tool):
        assert "moves nothing between positions" in tool.rollout.limits.text()
        assert "An approximation" in tool.rollout.limits.text()

    def test_a_network_without_such_blocks_has_it_off(self, dock):
        tool = dock.look.open_tool("All heads", "heads", "HeadsTool")
        assert not tool.rollout.here.isEnabled()
        assert "has no rows to multiply" in tool.rollout.limits.text()


class TestLate:
    def test_cancel_leaves_the_table_as_it_was(self, measured, qtbot):
        rows = measured.table.rows
        measured.where.setCurrentText("whole scan")
        measured.run.click()
        assert measured.work.running
        measured.stop.click()
        assert not measured.work.running
        qtbot.waitUntil(lambda: measured.work.message.text == "Cancelled.", timeout=PATIENCE)
        assert measured.table.rows == rows

    def test_the_result_of_a_scan_that_is_gone_is_dropped(self, tool, dae, qtbot):
        tool.run.click()
        dae.viewer.layers.remove(dae.session.image)
        qtbot.waitUntil(lambda: tool.work._job is None, timeout=PATIENCE)
        assert tool.table.rows == []

    def test_the_result_of_an_image_that_was_swapped_is_dropped(self, tool, dae, qtbot):
        tool.run.click()
        dae.session.image.data = np.array(dae.session.image.data)[::-1]
        qtbot.waitUntil(lambda: tool.work._job is None, timeout=PATIENCE)
        assert tool.table.rows == []

    def test_another_network_empties_the_table(self, measured, dae, qtbot):
        choose(dae, "phantom", qtbot)
        assert measured.table.rows == []
        assert not measured.save.isEnabled()

    def test_closing_the_window_stops_it(self, tool, dae, qtbot):
        tool.rollout.pick.setChecked(True)
        tool.where.setCurrentText("whole scan")
        tool.run.click()
        job, listening = tool.work._job, len(dae.viewer.mouse_drag_callbacks)
        dae.viewer.window.remove_dock_widget(tool)
        assert job.cancelled
        assert len(dae.viewer.mouse_drag_callbacks) == listening - 1
        qtbot.waitUntil(lambda: not job.running, timeout=PATIENCE)
        assert tool.table.rows == []


def test_every_control_has_a_name_and_says_what_it_does(tool):
    controls = [part for kind in (QPushButton, QComboBox) for part in tool.findChildren(kind)]
    assert len(controls) >= 8
    assert all(part.accessibleName() and part.toolTip() for part in controls)
    assert all(part.accessibleName() for part in tool.findChildren(QTableView))
    assert tool.minimumSizeHint().width() <= 420
