"""The window that compares two checkpoints of one network."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from qtpy.QtCore import Qt

from napari_medattn.data import Preparation
from napari_medattn.models import create_model
from napari_medattn.store import Card, save_checkpoint
from tests.window_tools import PATIENCE, PLUGIN, choose, open_dock

ARGUMENTS = {"in_channels": 1, "num_classes": 2, "spatial_dims": 2, "widths": [8, 16, 24]}
KEY = "encode1.block2.efficient"


def save(name, scale=1.0, **facts):
    torch.manual_seed(0)
    model = create_model("dae_former", **{**ARGUMENTS, **facts.get("arguments", {})})
    with torch.no_grad():
        model.encode1.block2.efficient.queries.weight.mul_(scale)
        model.encode1.block2.efficient.keys.weight.mul_(scale)
    card = Card(name, "dae_former", ARGUMENTS, ("background", "a"), Preparation(), (1, 48, 48))
    return save_checkpoint(replace(card, **facts), model)


@pytest.fixture
def dock(viewer, scan, qtbot):
    """A dock with two DAE-Formers, the second made from the first."""
    parent = save("first").card.weights_sha256
    save("second", 20.0, parent=parent)
    viewer.open(str(scan), plugin=PLUGIN)
    dock = open_dock(viewer)
    choose(dock, "second", qtbot)
    return dock


@pytest.fixture
def tool(dock):
    return dock.look.open_tool("Compare", "compare", "CompareTool")


@pytest.fixture
def compared(tool, qtbot):
    tool.where.setCurrentText("in view")
    tool.run.click()
    wait(tool, qtbot)
    return tool


def wait(tool, qtbot):
    qtbot.waitUntil(lambda: tool.work._job is None, timeout=PATIENCE)


class TestChoice:
    def test_only_other_checkpoints_of_the_network_are_listed(self, tool):
        listed = [tool.other.itemText(number) for number in range(tool.other.count())]
        assert listed == ["first", "hippocampus-dae-former"]
        assert tool.other.currentText() == "first"

    def test_the_parent_is_the_one_before(self, tool):
        assert tool.order.text() == "before: first\nafter: second"

    def test_without_a_second_checkpoint_it_says_so(self, dock, tool, qtbot):
        choose(dock, "hippocampus-emf-former", qtbot)
        assert not tool.run.isEnabled()
        assert "no second checkpoint of emf_former" in tool.order.text()

    def test_one_that_differs_cannot_be_chosen_and_says_why(self, tool):
        number = tool.other.findText("hippocampus-dae-former")
        assert not tool.other.model().item(number).isEnabled()
        assert "widths is" in tool.other.itemData(number, Qt.ItemDataRole.ToolTipRole)

    def test_where_all_differ_it_says_so(self, dock, tool, qtbot):
        choose(dock, "hippocampus-dae-former", qtbot)
        assert not tool.run.isEnabled()
        assert "no other checkpoint of the same options" in tool.order.text()

    def test_a_checkpoint_whose_file_is_gone_is_an_error_in_the_window(self, dock, tool, qtbot):
        tool._chosen.path.unlink()
        tool.run.click()
        wait(tool, qtbot)
        assert "first" in tool.work.message.text
        assert tool.table.rows == []
        assert tool.run.isEnabled()


class TestTable:
    def test_sites_come_by_how_much_they_changed(self, compared):
        values = [change.value for change in compared.table.rows]
        assert values == sorted(values, reverse=True)
        assert {change.key for change in compared.table.rows} == set(compared.work.predictor.sites)
        assert next(change for change in compared.table.rows if change.key == "encode1.block1.efficient").value == 0

    def test_a_chosen_site_is_pointed_at(self, compared):
        compared.choose(KEY, None)
        assert compared.table.current.key == KEY


class TestLayer:
    def show(self, tool, key, qtbot):
        tool.table.select(lambda change: change.key == key)
        tool.table.activated.emit(tool.table.currentIndex())
        wait(tool, qtbot)

    def test_it_lies_on_the_image_with_symmetric_limits(self, compared, dock, qtbot):
        self.show(compared, KEY, qtbot)
        layer, image = dock.viewer.layers[-1], dock.session.image
        assert layer.name == f"{image.name} encoder 1 block 2 efficient attention, second minus first"
        assert layer.data.shape == image.data.shape
        np.testing.assert_allclose(layer.scale, image.scale)
        np.testing.assert_allclose(layer.translate, image.translate)
        assert layer.contrast_limits[0] == -layer.contrast_limits[1] < 0
        assert "red more, blue less" in layer.metadata["medattn"]["legend"]
        assert dock.session.images == [image]

    def test_nothing_is_clear_and_the_ends_differ(self, compared, dock, qtbot):
        self.show(compared, KEY, qtbot)
        low, middle, high = dock.viewer.layers[-1].colormap.map([0.0, 0.5, 1.0])
        assert middle[3] < 0.05
        assert low[2] > low[0]
        assert high[0] > high[2]

    def test_what_was_not_kept_is_made_when_it_is_asked_for(self, compared, dock, qtbot):
        kept = compared.comparison.differences[KEY].on_image()
        compared.comparison = replace(compared.comparison, differences={})
        self.show(compared, KEY, qtbot)
        np.testing.assert_allclose(dock.viewer.layers[-1].data, kept, rtol=1e-5, atol=1e-6)

    def test_channels_have_no_place_on_the_image(self, compared, dock, qtbot):
        count = len(dock.viewer.layers)
        self.show(compared, "encode1.block2.channel", qtbot)
        assert "no place on the image" in compared.work.message.text
        assert len(dock.viewer.layers) == count


class TestLate:
    def test_cancel(self, tool, qtbot):
        tool.run.click()
        tool.stop.click()
        assert not tool.work.running
        wait(tool, qtbot)
        assert tool.work.message.text == "Cancelled."
        assert tool.table.rows == []

    def test_the_result_of_a_scan_that_is_gone_is_dropped(self, tool, dock, qtbot):
        tool.run.click()
        dock.viewer.layers.remove(dock.session.image)
        wait(tool, qtbot)
        assert tool.table.rows == []
        assert tool.comparison is None

    def test_another_network_empties_the_table(self, compared, dock, qtbot):
        choose(dock, "first", qtbot)
        assert compared.table.rows == []
        assert compared.order.text() == "before: first\nafter: second"

    def test_new_checkpoints_do_not_disturb_what_was_found(self, compared, dock):
        rows = compared.table.rows
        save("third", 3.0)
        dock.session.refresh_checkpoints()
        assert compared.table.rows == rows
        assert compared.other.count() == 3
