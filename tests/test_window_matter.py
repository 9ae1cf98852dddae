"""The window that asks whether attention matters, in a real napari."""

from __future__ import annotations

import numpy as np
import pytest
from napari.layers import Labels

from napari_medattn.layerdata import KEY
from napari_medattn.models import AttentionSite
from napari_medattn.widgets.look.erase_view import EraseView
from napari_medattn.widgets.look.matter import MatterTool
from napari_medattn.widgets.look.switch_view import WHICH
from tests.window_tools import PATIENCE, choose, segment

ERASE, SWITCH, RANDOMISE = range(3)


@pytest.fixture
def tool(dock, viewer, qtbot) -> MatterTool:
    """The tool as the panel opens it, for a mask that is there, at a slice that shows both classes."""
    choose(dock, "phantom-2d", qtbot)
    segment(dock, qtbot)
    found = MatterTool(dock.session, dock.jobs)
    viewer.window.add_dock_widget(found, name="Does it matter?")
    mask = dock.session.case.mask
    both = np.minimum(*((mask.data == label).sum(axis=(1, 2)) for label in (1, 2)))
    go_to(found, int(np.argmax(both)))
    return found


def go_to(tool: MatterTool, index: int) -> None:
    mask = tool.session.case.mask
    tool.session.viewer.dims.set_point(0, mask.data_to_world((index, 0, 0))[0])


def index_in_view(tool: MatterTool) -> int:
    return tool.session.viewer.dims.current_step[0]


def ended(tool: MatterTool, qtbot) -> None:
    qtbot.waitUntil(lambda: tool.work._job is None, timeout=PATIENCE)


def ask(tool: MatterTool, question: int, qtbot) -> None:
    tool.question.setCurrentIndex(question)
    assert tool.run.isEnabled()
    tool.run.click()
    assert tool.stop.isEnabled()
    ended(tool, qtbot)


def layers_of(tool: MatterTool) -> list[Labels]:
    return [layer for layer in tool.session.viewer.layers if layer.metadata.get(KEY, {}).get("kind") == "what if"]


class TestErase:
    def test_curves_and_their_areas_come_in_words(self, tool, qtbot):
        tool.choose("skip2.gate1", None)
        tool.erase.up_to.setCurrentText("10 %")
        ask(tool, ERASE, qtbot)
        shares, most = tool.erase.curves[0].getData()
        np.testing.assert_allclose(shares, np.arange(11))
        np.testing.assert_array_equal(most, tool.erase.found.most.dice)
        assert f"{abs(tool.erase.found.most_below_random()):.3f} Dice" in tool.erase.words.text()
        assert tool.where.text() == f"Of slice {index_in_view(tool) + 1} of 32, as the network cuts the scan."

    def test_another_measure_is_drawn_without_another_run(self, tool, qtbot):
        ask(tool, ERASE, qtbot)
        tool.erase.measure.setCurrentIndex(1)
        np.testing.assert_array_equal(tool.erase.curves[2].getData()[1], tool.erase.found.least.probability)
        assert "class probability" in tool.erase.words.text()
        assert not tool.work.running

    def test_every_control_reaches_the_run(self, tool, qtbot):
        tool.erase.label.setCurrentIndex(1)
        tool.erase.instead.setCurrentText("mean")
        tool.erase.up_to.setCurrentText("25 %")
        tool.reference.setCurrentIndex(1)
        ask(tool, ERASE, qtbot)
        found = tool.erase.found
        assert (found.label, found.replacement, found.shares[-1]) == (2, "mean", 0.25)
        assert found.most.reference[0] == 1  # the reference is the mask itself

    def test_channels_have_no_place_to_erase(self):
        channel = AttentionSite("channel", "channel attention", "channel", ())
        assert "no place on the image" in EraseView().why_not(channel)

    def test_a_class_that_is_not_in_the_slice_is_named(self, tool, qtbot):
        mask = tool.session.case.mask
        go_to(tool, next(index for index in range(len(mask.data)) if not (mask.data[index] == 1).any()))
        ask(tool, ERASE, qtbot)
        assert "is not in the mask of this slice" in tool.work.message.text
        assert tool.erase.found is None


class TestSwitchOff:
    def test_every_site_is_listed_with_what_became_of_the_mask(self, tool, qtbot):
        tool.switch.which.setCurrentText(WHICH[1])
        ask(tool, SWITCH, qtbot)
        rows = tool.switch.table.rows
        assert {row.site.key for row in rows} == set(tool.work.predictor.sites)
        assert [row.moved for row in rows] == sorted((row.moved for row in rows), reverse=True)
        assert f"{rows[0].voxels:,} of" in tool.switch.words.text()

    def test_the_mask_without_one_lies_on_the_image_and_is_nobodys_mask(self, tool, qtbot):
        case = tool.session.case
        own = case.mask
        active = tool.session.viewer.layers.selection.active
        ask(tool, SWITCH, qtbot)
        tool.switch.table.selectRow(0)
        tool.switch.mask.click()
        ended(tool, qtbot)
        (layer,) = layers_of(tool)
        row = tool.switch.table.current
        assert layer.name == f"{case.image.name} mask without {row.site.title}, slice {index_in_view(tool) + 1} of 32"
        assert layer.data.shape == own.data.shape
        np.testing.assert_allclose(layer.scale, own.scale)
        np.testing.assert_allclose(layer.translate, own.translate)
        index = index_in_view(tool)
        assert np.count_nonzero(layer.data[index] != own.data[index]) == row.voxels > 0
        assert not np.delete(layer.data, index, axis=0).any()
        assert case.mask is own
        assert tool.session.viewer.layers.selection.active == active

    def test_asking_for_the_same_mask_again_shows_the_layer_that_is_there(self, tool, qtbot):
        ask(tool, SWITCH, qtbot)
        for _ in range(2):
            tool.switch.table.row_activated.emit(tool.switch.table.rows[0])
            ended(tool, qtbot)
            (layer,) = layers_of(tool)
            layer.visible = not layer.visible
        assert not layer.visible  # it was shown again, and hidden again

    def test_it_jumps_to_the_site(self, tool, qtbot):
        ask(tool, SWITCH, qtbot)
        tool.switch.table.selectRow(0)
        with qtbot.waitSignal(tool.wants_site) as heard:
            tool.switch.site.click()
        assert heard.args == [tool.switch.table.current.site.key, None]

    def test_it_is_no_reference_for_others(self, tool, qtbot):
        ask(tool, SWITCH, qtbot)
        tool.switch.table.row_activated.emit(tool.switch.table.rows[0])
        ended(tool, qtbot)
        offered = [tool.reference.itemText(index) for index in range(tool.reference.count())]
        assert offered == ["none", tool.session.case.mask.name]


class TestRandomise:
    def test_the_block_and_the_network_are_listed(self, tool, qtbot):
        ask(tool, RANDOMISE, qtbot)
        assert [row.weights for row in tool.randomise.table.rows] == ["the site's own block", "the whole network"]
        assert "rank correlation" in tool.randomise.words.text()

    def test_a_checkpoint_that_is_gone_is_named(self, tool, qtbot):
        tool.session.checkpoints = []
        ask(tool, RANDOMISE, qtbot)
        assert "phantom-2d, which made this mask, is no longer there" in tool.work.message.text


class TestJob:
    def test_cancel_stops_it_and_shows_nothing(self, tool, qtbot):
        tool.run.click()
        job = tool.work._job
        tool.stop.click()
        ended(tool, qtbot)
        assert job.cancelled
        assert tool.work.message.text == "Cancelled."
        assert tool.erase.found is None
        assert tool.run.isEnabled()

    def test_a_scan_that_is_gone_gets_no_result(self, tool, qtbot):
        tool.run.click()
        tool.session.viewer.layers.remove(tool.session.image)
        ended(tool, qtbot)
        assert tool.erase.found is None
        assert "Needs a scan" in tool.work.message.text
        assert not tool.run.isEnabled()

    def test_an_image_swapped_meanwhile_gets_no_result(self, tool, qtbot):
        tool.switch.which.setCurrentText(WHICH[1])
        tool.question.setCurrentIndex(SWITCH)
        tool.run.click()
        tool.session.image.data = np.array(tool.session.image.data[:, ::-1])
        ended(tool, qtbot)
        assert tool.switch.found is None

    def test_closing_the_window_stops_the_job(self, tool, viewer, qtbot):
        tool.run.click()
        job = tool.work._job
        viewer.window.remove_dock_widget(tool)
        assert job.cancelled
        qtbot.waitUntil(lambda: not job.running, timeout=PATIENCE)
        tool.deleteLater()


def test_choosing_a_site_and_a_head(tool):
    tool.choose("skip3.gate1", 0)
    assert (tool.chosen.key, tool.head.currentData()) == ("skip3.gate1", 0)
    tool.choose("no such site", None)
    assert tool.chosen.key == "skip3.gate1"


def test_every_control_has_a_name_and_says_what_it_does(tool):
    controls = [tool.question, tool.site, tool.head, tool.reference, tool.run, tool.stop]
    controls += [tool.erase.label, tool.erase.instead, tool.erase.up_to, tool.erase.measure]
    controls += [tool.switch.which, tool.switch.mask, tool.switch.site]
    assert all(control.accessibleName() and control.toolTip() for control in controls)
