"""The head of the dock on scans: where they lie, what was decided, which channels the network sees, CT windows."""

from __future__ import annotations

import numpy as np
import pytest

from napari_medattn.data import CT_WINDOWS, Preparation, Volume
from napari_medattn.data.seen import axes_in_words, seen_as_usual, sides_on_screen
from napari_medattn.errors import GeometryError, InputError
from napari_medattn.geometry import Grid
from napari_medattn.layerdata import choose_channels, chosen_channels, layer_to_volume, volume_to_layer
from napari_medattn.models import create_model
from napari_medattn.store import Card, save_checkpoint
from napari_medattn.widgets.scan_channels import parse_channels
from tests.test_geometry import stored_as
from tests.window_tools import choose, open_dock, segment

SHAPE = (6, 16, 16)


def add(viewer, volume: Volume):
    """Show a volume as the reader does."""
    from napari.layers import Layer

    return viewer.add_layer(Layer.create(*volume_to_layer(volume)))


def times(count=3, **facts) -> Volume:
    """A volume with several times, no two alike."""
    values = np.random.default_rng(0).normal(0, 100, (count, *SHAPE)).astype(np.float32)
    return Volume(values, Grid.from_spacing(SHAPE, (2, 1, 1)), name="cine", **facts)


def network(name: str, channels: int, **preparation) -> None:
    """A checkpoint that was never trained."""
    arguments = {"in_channels": channels, "num_classes": 2, "spatial_dims": 2, "feature_scale": 32}
    card = Card(name, "attention_unet", arguments, ("background", "a"), Preparation(**preparation), (1, 16, 16))
    save_checkpoint(card, create_model("attention_unet", **arguments))


@pytest.fixture
def head(viewer, own_home, qtbot):
    """The head of a dock with networks of one and of two channels, the first chosen."""
    network("one", 1)
    network("two", 2)
    network("ct", 1, intensity="window", window=(-100.0, 240.0))
    dock = open_dock(viewer)
    choose(dock, "one", qtbot)
    dock.header.dock = dock
    return dock.header


class TestWords:
    @pytest.mark.parametrize(
        ("orientation", "sides"),
        [
            ("LPS", "the patient's right is on the left, the front on top"),
            ("RAS", "the patient's left is on the left, the back on top"),
            ("LIP", "the patient's right is on the left, the head on top"),
            ("PIR", "the patient's front is on the left, the head on top"),
        ],
    )
    def test_sides_on_screen(self, orientation, sides):
        assert sides_on_screen(stored_as(orientation)) == sides

    def test_axes(self):
        assert axes_in_words(stored_as("LPS")) == "x runs to the patient's left, y to the back, z to the head."

    @pytest.mark.parametrize(("orientation", "usual"), [("LPS", True), ("LPI", True), ("RAS", False), ("RPS", False)])
    def test_what_is_usual(self, orientation, usual):
        assert seen_as_usual(stored_as(orientation)) is usual


class TestLine:
    def test_it_says_orientation_and_spacing(self, head, viewer):
        grid = stored_as("LPS")
        add(viewer, Volume(np.zeros((1, *grid.shape), np.int16), grid))
        assert "LPS" in head.line.place.text()
        assert "mm" in head.line.place.text()
        assert "drawn as stored" not in head.line.place.text()

    def test_a_scan_that_hangs_the_other_way_says_so(self, head, viewer):
        grid = stored_as("RAS")
        add(viewer, Volume(np.zeros((1, *grid.shape), np.int16), grid))
        assert "RAS" in head.line.place.text()
        assert "the patient's left is on the left" in head.line.place.text()

    def test_an_oblique_scan_is_said_to_be_drawn_along_its_own_axes(self, head, viewer):
        affine = np.eye(4)
        affine[:2, :2] = [[0.8, -0.6], [0.6, 0.8]]
        add(viewer, Volume(np.zeros((1, *SHAPE), np.int16), Grid(SHAPE, affine)))
        assert "oblique" in head.line.place.text()
        assert "saved with its true ones" in head.line.place.toolTip()

    def test_notes_stand_open_once_and_can_be_read_again(self, head, viewer):
        note = "Its sform and qform place the scan differently: the sform is taken as the truth."
        first = add(viewer, times(1, notes=(note,)).renamed("first"))
        assert (head.line.notes.isHidden(), head.line.notes.text(), head.line.again.text()) == (False, note, "1 note")
        add(viewer, times(1).renamed("second"))
        assert head.line.notes.isHidden()
        assert head.line.again.isHidden()
        viewer.layers.selection.active = first
        assert head.line.notes.isHidden()
        assert head.line.again.toolTip() == note
        head.line.again.click()
        assert (head.line.notes.isHidden(), head.line.notes.text()) == (False, note)

    def test_another_network_does_not_fold_the_notes_away(self, head, viewer, qtbot):
        add(viewer, times(1, notes=("A note.",)))
        choose(head.dock, "two", qtbot)
        assert not head.line.notes.isHidden()


class TestChannels:
    def test_they_are_offered_only_where_there_are_several(self, head, viewer):
        add(viewer, times(1))
        assert head.line.channels.isHidden()
        add(viewer, times(3))
        assert not head.line.channels.isHidden()
        box = head.line.channels.box
        assert [box.itemText(n) for n in range(box.count())] == ["all 3", "0", "1", "2"]

    def test_a_count_that_does_not_fit_is_said_before_anything_is_run(self, head, viewer):
        add(viewer, times(3))
        assert head.line.channels.message.text() == "one takes 1 channel, not 3: choose which of the scan's 3."

    def test_the_network_sees_the_chosen_one_and_so_does_the_person(self, head, viewer, qtbot):
        layer = add(viewer, times(3))
        box = head.line.channels.box
        box.activated.emit(box.findText("2"))
        np.testing.assert_array_equal(layer_to_volume(layer).array[0], times(3).array[2])
        assert viewer.dims.current_step[0] == 2
        assert head.line.channels.message.isHidden()
        segment(head.dock, qtbot)
        case = head.dock.session.case
        assert case.mask.data.shape == SHAPE
        assert "Of its 3 channels, the network sees 2." in case.prediction.record["notes"]

    def test_choosing_takes_no_copy(self):
        volume = times(4)
        assert np.shares_memory(volume.with_channels((2,)).array, volume.array)
        assert np.shares_memory(volume.with_channels((0, 2)).array, volume.array)
        np.testing.assert_array_equal(volume.with_channels((2, 0)).array, volume.array[[2, 0]])

    def test_another_choice_makes_what_the_network_said_void(self, head, viewer, qtbot):
        add(viewer, times(3))
        head.line.channels.choose((0,))
        segment(head.dock, qtbot)
        assert head.dock.session.case.prediction is not None
        head.line.channels.choose((1,))
        assert head.dock.session.case.prediction is None
        assert head.dock.session.case.mask is not None

    def test_several_in_the_networks_order(self, head, viewer, qtbot):
        layer = add(viewer, times(4))
        choose(head.dock, "two", qtbot)
        editor = head.line.channels.box.lineEdit()
        editor.setText("3, 1")
        editor.editingFinished.emit()
        assert chosen_channels(layer) == (3, 1)
        np.testing.assert_array_equal(layer_to_volume(layer).array, times(4).array[[3, 1]])
        assert head.line.channels.box.currentText() == "3, 1"

    @pytest.mark.parametrize(
        ("typed", "said"),
        [
            ("0, 1", "takes 1 channel, not 2"),
            ("7", "channels 0 to 2"),
            ("first", "names no channels"),
            ("", "names no"),
        ],
    )
    def test_what_does_not_fit_is_refused_with_a_sentence_and_changes_nothing(self, head, viewer, typed, said):
        layer = add(viewer, times(3))
        head.line.channels.choose((1,))
        editor = head.line.channels.box.lineEdit()
        editor.setText(typed)
        editor.editingFinished.emit()
        assert said in head.line.channels.message.text()
        assert chosen_channels(layer) == (1,)
        assert head.line.channels.box.currentText() == "1"

    def test_a_colour_image_gives_one_of_its_colours(self, head, viewer):
        values = np.random.default_rng(0).integers(0, 255, (16, 16, 3)).astype(np.uint8)
        layer = viewer.add_image(values, rgb=True)
        box = head.line.channels.box
        box.activated.emit(box.findText("1 (green)"))
        np.testing.assert_array_equal(layer_to_volume(layer).array[0, 0], values[..., 1])

    def test_a_choice_that_the_layer_cannot_give_any_more_is_refused(self, viewer):
        layer = add(viewer, times(3))
        choose_channels(layer, (2,))
        layer.data = layer.data[:2]
        with pytest.raises(GeometryError, match="channels 0 to 1"):
            layer_to_volume(layer)

    @pytest.mark.parametrize(("text", "channels"), [("2, 0 1", (2, 0, 1)), (" 1-3 ", (1, 2, 3)), ("5", (5,))])
    def test_what_can_be_typed(self, text, channels):
        assert parse_channels(text) == channels

    @pytest.mark.parametrize("text", ["", "3-1", "a", "1,,2", "-1", "1.5"])
    def test_what_cannot(self, text):
        with pytest.raises(InputError, match="names no channels"):
            parse_channels(text)


class TestWindow:
    def test_a_ct_window_is_one_click_away(self, head, viewer):
        layer = add(viewer, times(1, modality="CT"))
        box = head.line.ct_window.box
        assert box.currentText().startswith("soft tissue")
        box.activated.emit(next(n for n in range(box.count()) if box.itemText(n).startswith("lung")))
        assert tuple(layer.contrast_limits) == CT_WINDOWS["lung"]
        assert box.currentText() == "lung, -1350 to 150 HU"

    def test_the_networks_own_window_is_among_them(self, head, viewer, qtbot):
        layer = add(viewer, times(1, modality="CT"))
        choose(head.dock, "ct", qtbot)
        box = head.line.ct_window.box
        assert box.itemText(1) == "as the network sees it, -100 to 240 HU"
        box.activated.emit(1)
        assert tuple(layer.contrast_limits) == (-100.0, 240.0)

    def test_a_contrast_set_by_hand_is_no_window(self, head, viewer):
        layer = add(viewer, times(1, modality="CT"))
        layer.contrast_limits = (0, 17)
        assert head.line.ct_window.box.currentText() == "as it is"

    @pytest.mark.parametrize(
        ("modality", "kind", "there"), [("MR", np.int16, False), ("", np.uint8, False), ("", np.int16, True)]
    )
    def test_it_is_offered_where_there_may_be_hounsfield_units(self, head, viewer, modality, kind, there):
        volume = times(1, modality=modality)
        values = np.arange(volume.array.size).reshape(volume.array.shape).astype(kind)
        add(viewer, Volume(values, volume.grid, modality=modality))
        assert head.line.ct_window.isHidden() is not there
