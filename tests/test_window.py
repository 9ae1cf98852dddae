"""The dock in a real napari: the whole way from opening a scan to learning from its correction."""

import nibabel as nib
import numpy as np
import pytest
from qtpy.QtCore import Qt

from napari_medattn.errors import MedAttnError
from napari_medattn.store import load_checkpoint, save_checkpoint
from tests.window_tools import (
    PATIENCE,
    PLUGIN,
    choose,
    is_ticked,
    open_dock,
    segment,
    show_all_maps,
    tick,
    wait_for_maps,
)

CHECKPOINT = "phantom"
QUICK = "phantom-2d"  # to learn with
SMALL = (32, 48, 48)


@pytest.fixture
def told(monkeypatch):
    """Notifications that napari would have shown."""
    said = []
    monkeypatch.setattr("napari_medattn.widgets.parts.show_error", said.append)
    return said


def paint(mask, at, label, size=3):
    mask.mode = "paint"
    mask.brush_size = size
    mask.selected_label = label
    mask.paint(at, label)


def test_the_whole_loop(dock, viewer, scan, qtbot, tmp_path):
    choose(dock, QUICK, qtbot)
    segment(dock, qtbot)
    case = dock.session.case
    mask = case.mask
    assert set(np.unique(mask.data)) == {0, 1, 2}

    before = mask.data.copy()
    paint(mask, (16, 4, 4), 2)
    kept = mask.data.copy()
    paint(mask, (16, 40, 40), 1)
    mask.undo()
    np.testing.assert_array_equal(mask.data, kept)
    assert case.edited == np.count_nonzero(kept != before) > 0

    dock.learn.choices.time.addItem("2 s", 2.0)
    dock.learn.choices.time.setCurrentText("2 s")
    names = {c.name for c in dock.session.checkpoints}
    with qtbot.waitSignal(dock.learn.ended, timeout=PATIENCE):
        dock.learn.run.click()
    new = next(c for c in dock.session.checkpoints if c.name not in names)
    assert new.card.parent == load_checkpoint(QUICK).card.weights_sha256
    if dock.session.checkpoint.name != new.name:
        dock.learn.result.use.click()
    qtbot.waitUntil(lambda: dock.session.checkpoint.name == new.name, timeout=PATIENCE)
    qtbot.waitUntil(lambda: dock.session.predictor is not None, timeout=PATIENCE)

    segment(dock, qtbot)
    assert case.mask is mask
    edited = case.watch.log.edited
    np.testing.assert_array_equal(mask.data[edited], kept[edited])
    assert mask.metadata["medattn"]["record"]["checkpoint"] == new.name

    target = tmp_path / "mask.nii.gz"
    viewer.layers.selection.active = mask
    assert viewer.layers.save(str(target), selected=True, plugin=PLUGIN) == [str(target)]
    written, source = nib.load(target), nib.load(scan)
    assert written.affine.tobytes() == source.affine.tobytes()
    for field in ("srow_x", "srow_y", "srow_z", "qform_code", "sform_code", "pixdim", "quatern_b", "qoffset_x"):
        assert written.header[field].tobytes() == source.header[field].tobytes(), field
    np.testing.assert_array_equal(np.asarray(written.dataobj).T, mask.data)


def test_mask_and_maps_lie_exactly_on_the_image(dock, viewer, qtbot):
    segment(dock, qtbot)
    show_all_maps(dock, qtbot)
    case = dock.session.case
    assert len(case.maps) == 3
    for layer in (case.mask, *case.maps.values()):
        assert layer.data.shape == case.image.data.shape
        np.testing.assert_array_equal(layer.scale, case.image.scale)
        np.testing.assert_array_equal(layer.translate, case.image.translate)
        assert layer.units == case.image.units
        assert layer.axis_labels == case.image.axis_labels
    for layer in case.maps.values():
        assert tuple(layer.contrast_limits) == (0.0, 1.0)
        values = np.asarray(layer.data)
        assert 0 <= values.min() < values.max() <= 1


def test_class_names_show_under_the_cursor(dock, qtbot):
    segment(dock, qtbot)
    mask = dock.session.case.mask
    voxel = tuple(int(i) for i in np.argwhere(mask.data == 1)[0])
    status = mask.get_status(mask.data_to_world(voxel), world=True)
    assert "large organ" in status["value"]


def test_unticking_a_site_hides_its_map(dock, qtbot):
    segment(dock, qtbot)
    tick(dock, "skip4.gate1")
    wait_for_maps(dock, 1, qtbot)
    layer = dock.session.case.maps["skip4.gate1"]
    assert layer.visible
    tick(dock, "skip4.gate1", False)
    assert not layer.visible


def test_ticks_follow_the_eye_in_the_layer_list(dock, qtbot):
    segment(dock, qtbot)
    show_all_maps(dock, qtbot)
    layer = dock.session.case.maps["skip4.gate1"]
    layer.visible = False
    assert not is_ticked(dock, "skip4.gate1")
    layer.visible = True
    assert is_ticked(dock, "skip4.gate1")


def test_cancel_leaves_nothing_behind(dock, viewer, qtbot):
    layers = list(viewer.layers)
    dock.segment.run.click()
    dock.segment.stop.click()
    qtbot.waitUntil(lambda: not dock.segment.running, timeout=PATIENCE)
    assert list(viewer.layers) == layers
    assert dock.segment.message.text == "Cancelled; nothing was changed."
    assert dock.segment.run.isEnabled()


def test_cancelled_learning_saves_no_checkpoint(dock, qtbot):
    choose(dock, QUICK, qtbot)
    segment(dock, qtbot)
    paint(dock.session.case.mask, (16, 4, 4), 2)
    names = [c.name for c in dock.session.checkpoints]
    dock.learn.run.click()
    qtbot.waitUntil(lambda: len(dock.learn.curves.losses) > 0, timeout=PATIENCE)
    dock.learn.stop.click()
    qtbot.waitUntil(lambda: not dock.learn.running, timeout=PATIENCE)
    dock.session.refresh_checkpoints()
    assert [c.name for c in dock.session.checkpoints] == names


def test_a_rerun_is_one_undo_step(dock, qtbot):
    segment(dock, qtbot)
    case = dock.session.case
    with case.watch.machine("test"):
        everything = np.nonzero(np.ones(case.mask.data.shape, bool))
        case.mask.data_setitem(everything, np.zeros(everything[0].size, case.mask.data.dtype))
    segment(dock, qtbot)
    assert case.mask.data.any()
    case.mask.undo()
    assert not case.mask.data.any()


def test_without_keep_my_edits_a_rerun_overwrites_them(dock, qtbot):
    segment(dock, qtbot)
    mask = dock.session.case.mask
    first = mask.data.copy()
    paint(mask, (16, 4, 4), 2)
    dock.segment.keep_edits.value = False
    segment(dock, qtbot)
    np.testing.assert_array_equal(mask.data, first)
    assert dock.session.case.edited == 0


def test_a_confirmed_slice_survives_a_rerun_and_counts_for_learning(dock, viewer, qtbot):
    segment(dock, qtbot)
    case = dock.session.case
    with case.watch.machine("test"):
        where = np.nonzero(case.mask.data[10])
        case.mask.data_setitem((np.full_like(where[0], 10), *where), np.zeros(where[0].size, np.uint8))
    viewer.dims.set_current_step(0, 10)
    dock.correct.confirm.click()
    segment(dock, qtbot)
    assert not case.mask.data[10].any()
    assert case.example().weights[10].all()
    assert not case.example().weights[11].any()
    dock.correct.confirm.click()
    assert not case.example().weights.any()


def test_a_result_for_a_closed_scan_is_dropped(dock, viewer, qtbot):
    dock.segment.run.click()
    viewer.layers.clear()
    qtbot.waitUntil(lambda: not dock.segment.running, timeout=PATIENCE)
    assert len(viewer.layers) == 0


def test_a_deleted_mask_is_made_anew(dock, viewer, qtbot):
    segment(dock, qtbot)
    viewer.layers.remove(dock.session.case.mask)
    assert dock.session.case.mask is None
    segment(dock, qtbot)
    assert dock.session.case.mask in list(viewer.layers)


def test_two_docks_do_not_share_a_session(make_napari_viewer, scan, qtbot):
    one, two = make_napari_viewer(), make_napari_viewer()
    one.open(str(scan), plugin=PLUGIN)
    first, second = open_dock(one), open_dock(two)
    assert first.session.image is not None
    assert second.session.image is None


def test_an_rgb_image_is_refused_in_one_sentence(dock, viewer, qtbot, told):
    viewer.add_image(np.zeros((48, 48, 3), np.uint8), rgb=True, name="photo")
    assert dock.session.image.name == "photo"
    segment(dock, qtbot)
    assert "photo is an RGB image" in dock.segment.message.text
    assert told == [dock.segment.message.text]
    assert "Choose" in dock.segment.message.text
    assert dock.segment.run.isEnabled()


def test_a_constant_image_is_refused_in_one_sentence(dock, viewer, qtbot, told):
    viewer.add_image(np.zeros(SMALL, np.uint8), name="blank")
    segment(dock, qtbot)
    assert "nothing to segment" in dock.segment.message.text


def test_a_damaged_checkpoint_does_not_spoil_the_list(viewer, tmp_path, qtbot):
    good = load_checkpoint(CHECKPOINT)
    folder = save_checkpoint(good.card, good.build()).path.parent
    (folder / "broken.safetensors").write_bytes(b"not a checkpoint")
    dock = open_dock(viewer)
    assert CHECKPOINT in [c.name for c in dock.session.checkpoints]
    assert "1 damaged" in dock.header.state.text()


def test_saving_to_a_missing_folder_says_so(dock, tmp_path, qtbot, told):
    segment(dock, qtbot)
    saving = dock.correct.save_mask(tmp_path / "nowhere" / "mask.nii.gz")
    qtbot.waitUntil(lambda: not saving.running, timeout=PATIENCE)
    assert "could not be saved" in dock.correct.message.text


def test_a_damaged_file_is_refused_by_the_reader(viewer, tmp_path, scan):
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(scan.read_bytes()[:2000])
    with pytest.raises(MedAttnError, match=r"broken\.nii\.gz is damaged"):
        viewer.open(str(broken), plugin=PLUGIN)


@pytest.mark.parametrize("theme", ["dark", "light"])
def test_the_dock_fits_a_small_screen(dock, viewer, theme):
    viewer.theme = theme
    assert dock.minimumSizeHint().width() <= 420
    assert dock.minimumSizeHint().height() <= 700


@pytest.mark.parametrize(("sample", "checkpoint"), [("slice", "phantom-2d"), ("volume", "phantom-2d")])
def test_a_two_dimensional_network_segments_slices_and_volumes(viewer, qtbot, sample, checkpoint):
    (image,) = viewer.open_sample(PLUGIN, sample)
    dock = open_dock(viewer)
    choose(dock, checkpoint, qtbot)
    segment(dock, qtbot)
    show_all_maps(dock, qtbot)
    case = dock.session.case
    for layer in (case.mask, *case.maps.values()):
        assert layer.data.shape == image.data.shape
    assert set(np.unique(case.mask.data)) == {0, 1, 2}


def test_a_single_slice_is_refused_by_a_three_dimensional_network(viewer, qtbot, told):
    viewer.open_sample(PLUGIN, "slice")
    dock = open_dock(viewer)
    choose(dock, CHECKPOINT, qtbot)
    segment(dock, qtbot)
    assert "Choose a 2-D checkpoint" in dock.segment.message.text


def test_a_two_dimensional_mask_can_be_confirmed_and_learned_from(viewer, qtbot):
    viewer.open_sample(PLUGIN, "slice")
    dock = open_dock(viewer)
    choose(dock, "phantom-2d", qtbot)
    segment(dock, qtbot)
    dock.correct.confirm.click()
    assert dock.session.case.confirmed_slices() == 1
    assert dock.session.case.example().weights.all()


def test_asking_for_a_device_that_is_not_there_is_said(dock, qtbot, told):
    dock.header.device.addItem("cuda:7")
    dock.header.device.setCurrentText("cuda:7")
    qtbot.waitUntil(lambda: bool(told), timeout=PATIENCE)
    assert "'cuda:7' is not available" in dock.segment.message.text


def test_a_checkpoint_of_other_classes_gets_a_mask_of_its_own(dock, viewer, qtbot):
    segment(dock, qtbot)
    case = dock.session.case
    mine = case.mask
    paint(mine, (16, 4, 4), 2)
    edited = case.edited
    choose(dock, "hippocampus", qtbot)
    assert not dock.learn.run.isEnabled()
    assert "other classes" in dock.learn.summary.text()
    segment(dock, qtbot)
    assert case.mask != mine
    assert case.edited == 0
    choose(dock, CHECKPOINT, qtbot)
    segment(dock, qtbot)
    assert case.mask == mine
    assert case.edited == edited > 0


def test_a_saved_mask_is_taken_up_again(dock, viewer, scan, qtbot, tmp_path):
    segment(dock, qtbot)
    saved = dock.session.case.mask.data.copy()
    saving = dock.correct.save_mask(tmp_path / "scan_mask.nii.gz")
    qtbot.waitUntil(lambda: not saving.running, timeout=PATIENCE)
    viewer.layers.clear()
    viewer.open(str(scan), plugin=PLUGIN)
    (layer,) = viewer.open(str(tmp_path / "scan_mask.nii.gz"), plugin=PLUGIN)
    case = dock.session.case
    assert case.mask == layer
    np.testing.assert_array_equal(case.mask.data, saved)
    paint(layer, (16, 4, 4), 2)
    assert case.edited > 0


def test_labels_drawn_on_the_scan_are_saved_with_its_geometry(dock, viewer, scan, tmp_path):
    layer = viewer.add_labels(np.ones(viewer.layers[0].data.shape, np.uint8), scale=viewer.layers[0].scale)
    target = tmp_path / "drawn.nii.gz"
    layer.save(str(target), plugin=PLUGIN)
    assert nib.load(target).affine.tobytes() == nib.load(scan).affine.tobytes()


def test_a_mask_swapped_for_one_of_another_shape_does_not_break_the_window(dock, qtbot):
    segment(dock, qtbot)
    case = dock.session.case
    case.mask.data = np.zeros((4, 5, 6), np.uint8)
    assert case.edited == 0
    segment(dock, qtbot)
    assert case.mask.data.shape == case.image.data.shape


def test_maps_of_the_scan_that_was_segmented_are_brought_up_to_date(dock, viewer, qtbot):
    segment(dock, qtbot)
    show_all_maps(dock, qtbot)
    first = dock.session.case
    hidden, shown = next(iter(first.maps)), list(first.maps)[1:]
    first.hide_map(hidden)
    dock.segment.run.click()
    viewer.open_sample(PLUGIN, "volume")
    qtbot.waitUntil(lambda: not dock.segment.running, timeout=PATIENCE)
    record = dict(first.prediction.record)
    qtbot.waitUntil(lambda: all(first.maps[key].metadata["medattn"]["record"] == record for key in shown))
    assert hidden not in first.maps


def test_a_second_uncertainty_takes_the_place_of_the_first(dock, viewer, qtbot):
    dock.segment.more.uncertainty.setCurrentText("entropy")
    segment(dock, qtbot)
    segment(dock, qtbot)
    names = [layer.name for layer in viewer.layers]
    assert sum("uncertainty" in name for name in names) == 1


def test_a_renamed_scan_is_listed_by_its_new_name(dock, viewer):
    viewer.layers[0].name = "patient 7"
    assert dock.header.scan.currentText() == "patient 7"


def test_a_mask_does_not_change_under_a_moving_brush(dock, qtbot, monkeypatch):
    segment(dock, qtbot)
    case = dock.session.case
    pressed = [Qt.MouseButton.LeftButton]
    monkeypatch.setattr("napari_medattn.widgets.segment_panel.QApplication.mouseButtons", lambda: pressed[0])
    with case.watch.machine("test"):
        everything = np.nonzero(np.ones(case.mask.data.shape, bool))
        case.mask.data_setitem(everything, np.zeros(everything[0].size, case.mask.data.dtype))
    dock.segment.run.click()
    qtbot.waitUntil(lambda: not dock.segment.running, timeout=PATIENCE)
    assert not case.mask.data.any()
    pressed[0] = Qt.MouseButton.NoButton
    qtbot.waitUntil(lambda: bool(case.mask.data.any()), timeout=PATIENCE)


def test_closing_the_dock_forgets_no_edit_and_stops_the_work(dock, viewer, qtbot):
    segment(dock, qtbot)
    paint(dock.session.case.mask, (16, 4, 4), 2)
    dock.correct.confirm.click()
    edited, jobs = dock.session.case.edited, dock.jobs
    dock.learn.run.click()
    names = [c.name for c in dock.session.checkpoints]
    viewer.window.remove_dock_widget(dock)
    qtbot.waitUntil(lambda: not jobs._running, timeout=PATIENCE)
    again = open_dock(viewer)
    choose(again, CHECKPOINT, qtbot)
    assert again.session.case.edited == edited > 0
    assert again.correct.confirm.text() == "Take back"
    assert again.learn.run.isEnabled()
    assert [c.name for c in again.session.checkpoints] == names


def test_the_button_says_what_it_does_to_the_slice_in_view(dock, viewer, qtbot):
    segment(dock, qtbot)
    viewer.dims.set_current_step(0, 10)
    dock.correct.confirm.click()
    assert dock.correct.confirm.text() == "Take back"
    viewer.dims.set_current_step(0, 11)
    assert dock.correct.confirm.text() == "Confirm slice"
    viewer.dims.ndisplay = 3
    assert not dock.correct.confirm.isEnabled()


def test_the_end_of_learning_is_brought_into_view(dock, viewer, qtbot):
    choose(dock, QUICK, qtbot)
    segment(dock, qtbot)
    dock.correct.confirm.click()
    with qtbot.waitSignal(dock.learn.wants_attention, timeout=PATIENCE):
        dock.learn.run.click()
    dock.learn.stop.click()
    with qtbot.waitSignal(dock.learn.wants_attention, timeout=PATIENCE) as ended:
        pass
    assert ended.signal_triggered
    assert not dock.learn.running


def test_a_map_that_is_unticked_at_once_stays_out_of_view(dock, qtbot):
    segment(dock, qtbot)
    tick(dock, "skip4.gate1")
    tick(dock, "skip4.gate1", False)
    qtbot.waitUntil(lambda: not dock.look.live.busy, timeout=PATIENCE)
    assert not any(layer.visible for layer in dock.session.case.maps.values())
