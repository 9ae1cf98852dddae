"""The window keeps what is done, says so, and offers back what was never saved."""

from __future__ import annotations

import numpy as np
import pytest
from app_model.types import KeyBinding
from napari.utils.key_bindings import KeymapHandler

from napari_medattn.correct.proposal import Proposal
from napari_medattn.errors import GeometryError, JournalError
from napari_medattn.store.journal import State
from napari_medattn.store.journals import journal_folder
from napari_medattn.store.replay import replay
from napari_medattn.widgets.correct.keeping import clock
from tests.window_tools import PATIENCE, PLUGIN, choose, open_dock, segment


@pytest.fixture
def told(monkeypatch):
    """Notifications that napari would have shown."""
    said = []
    monkeypatch.setattr("napari_medattn.widgets.parts.show_error", said.append)
    return said


@pytest.fixture
def kept(dock, qtbot):
    """The dock with a mask that is kept on disk."""
    segment(dock, qtbot)
    wait_until_kept(dock, qtbot)
    return dock


def wait_until_kept(dock, qtbot):
    def is_open():
        journal = dock.correct.keeper.journal
        assert journal is not None, dock.correct.message.text
        assert journal.state is State.OPEN, dock.correct.message.text

    qtbot.waitUntil(is_open, timeout=PATIENCE)


def wait_for_offer(dock, qtbot):
    qtbot.waitUntil(lambda: bool(dock.correct.keeper.offers), timeout=PATIENCE)


def brush(mask, at=(16, 4, 4), label=2, size=3):
    mask.mode = "paint"
    mask.brush_size = size
    mask.paint(at, label)


def press(layer, keys):
    handler = KeymapHandler()
    handler.keymap_providers = [layer]
    handler.press_key(KeyBinding.from_str(keys))


def mask_of(dock):
    return dock.session.case.mask


def abandon(viewer):
    """Close everything without saving, as a crash does, but for the process that goes on."""
    viewer.layers.clear()


class TestKeeping:
    def test_every_stroke_is_on_disk_when_it_is_done(self, kept):
        path = kept.correct.keeper.journal.path
        for x in range(4, 20, 4):
            brush(mask_of(kept), (16, 4, x))
            found = replay(path)
            np.testing.assert_array_equal(found.labels, mask_of(kept).data)
            np.testing.assert_array_equal(found.log.edited, kept.session.case.watch.log.edited)

    def test_the_summary_says_what_is_safe(self, kept, qtbot):
        brush(mask_of(kept))
        journal, edited = kept.correct.keeper.journal, kept.session.case.edited
        words = f"edited {edited} voxels, confirmed 0 slices - safe on disk {clock(journal.written)}"
        qtbot.waitUntil(lambda: kept.correct.summary.text() == words)

    def test_confirmations_and_locks_are_kept(self, kept, viewer):
        case = kept.session.case
        viewer.dims.set_current_step(0, 10)
        kept.correct.confirm.click()
        case.lock([1])
        found = replay(kept.correct.keeper.journal.path)
        assert found.log.confirmed_slices(found.labels) == [10]
        assert found.log.locked_classes == {1}

    def test_a_stroke_made_while_the_mask_is_written_is_kept(self, dock, qtbot):
        segment(dock, qtbot)
        brush(mask_of(dock))
        wait_until_kept(dock, qtbot)
        np.testing.assert_array_equal(replay(dock.correct.keeper.journal.path).labels, mask_of(dock).data)

    def test_trouble_is_said_once_and_mended(self, kept, qtbot, told, monkeypatch):
        keeper, journal = kept.correct.keeper, kept.correct.keeper.journal
        with monkeypatch.context() as broken:
            broken.setattr("os.write", _no_space)
            brush(mask_of(kept))
            brush(mask_of(kept), (16, 20, 4))
        assert (len(told), journal.state) == (1, State.BROKEN)
        assert told[0].startswith("Your edits are not safe on disk for now: ")
        assert "NOT safe" in kept.correct.summary.text()
        keeper.journals.look_after()
        qtbot.waitUntil(lambda: journal.state is State.OPEN, timeout=PATIENCE)
        assert kept.correct.message.text == "Your edits are safe on disk again."
        np.testing.assert_array_equal(replay(journal.path).labels, mask_of(kept).data)

    def test_a_folder_that_cannot_be_made(self, dock, qtbot, told):
        journal_folder().parent.mkdir(parents=True, exist_ok=True)
        journal_folder().write_text("in the way")
        segment(dock, qtbot)
        qtbot.waitUntil(lambda: bool(told), timeout=PATIENCE)
        brush(mask_of(dock))
        dock.correct.keeper.journals.look_after()
        journal = dock.correct.keeper.journal
        qtbot.waitUntil(lambda: journal.state is State.BROKEN, timeout=PATIENCE)
        assert len(told) == 1
        assert dock.session.case.edited > 0
        journal_folder().unlink()
        dock.correct.keeper.journals.look_after()
        qtbot.waitUntil(lambda: journal.state is State.OPEN, timeout=PATIENCE)
        assert replay(journal.path).log.edited_count == dock.session.case.edited

    def test_a_mask_of_another_shape_goes_on_without(self, kept, told):
        path = kept.correct.keeper.journal.path
        brush(mask_of(kept))
        edited = kept.session.case.edited
        mask_of(kept).data = np.zeros((8, 8, 8), np.uint8)
        brush(mask_of(kept), (2, 2, 2))
        assert kept.correct.keeper.journal is None
        assert replay(path).log.edited_count == edited
        assert told == []

    def test_a_reopened_dock_goes_on_with_the_same_journal(self, kept, viewer, qtbot):
        brush(mask_of(kept))
        path = kept.correct.keeper.journal.path
        viewer.window.remove_dock_widget(kept.parent())
        again = open_dock(viewer)
        wait_until_kept(again, qtbot)
        assert again.correct.keeper.journal.path == path
        assert again.correct.keeper.offers == []
        brush(mask_of(again), (16, 20, 4))
        np.testing.assert_array_equal(replay(path).labels, mask_of(again).data)


class TestOffers:
    @pytest.fixture
    def lost(self, kept, viewer, scan, qtbot):
        """A mask with two strokes and a confirmation, closed without being saved; then the scan again."""
        brush(mask_of(kept))
        brush(mask_of(kept), (16, 20, 4))
        viewer.dims.set_current_step(0, 10)
        kept.correct.confirm.click()
        self.labels = mask_of(kept).data.copy()
        self.edited = kept.session.case.watch.log.edited.copy()
        abandon(viewer)
        viewer.open(str(scan), plugin=PLUGIN)
        wait_for_offer(kept, qtbot)
        return kept

    def bring_back(self, dock, qtbot):
        dock.correct.offer.yes.click()
        qtbot.waitUntil(lambda: mask_of(dock) is not None, timeout=PATIENCE)

    def test_it_is_offered_in_words(self, lost):
        (offer,) = lost.correct.keeper.offers
        words = f"2 edits and 1 confirmation of {clock(offer.last)} (large organ, small organ) were not saved."
        assert lost.correct.offer.label.text() == words
        assert lost.correct.offer.isVisibleTo(lost.correct)

    def test_bringing_back_restores_mask_edits_confirmations_and_undo(self, lost, qtbot, viewer):
        self.bring_back(lost, qtbot)
        case = lost.session.case
        np.testing.assert_array_equal(case.mask.data, self.labels)
        np.testing.assert_array_equal(case.watch.log.edited, self.edited)
        assert case.watch.log.confirmed_slices(case.mask.data) == [10]
        np.testing.assert_array_equal(case.mask.scale, case.image.scale)
        assert not lost.correct.offer.isVisibleTo(lost.correct)
        case.undo()
        case.undo()
        assert case.edited == 0
        np.testing.assert_array_equal(replay(lost.correct.keeper.journal.path).labels, case.mask.data)

    def test_what_was_brought_back_survives_a_rerun(self, lost, qtbot):
        self.bring_back(lost, qtbot)
        choose(lost, "phantom", qtbot)
        mask = mask_of(lost)
        segment(lost, qtbot)
        assert mask_of(lost) is mask
        np.testing.assert_array_equal(mask.data[self.edited], self.labels[self.edited])

    def test_it_takes_the_place_of_a_mask_without_edits(self, lost, viewer, qtbot):
        segment(lost, qtbot)
        fresh = mask_of(lost)
        lost.correct.offer.yes.click()
        qtbot.waitUntil(lambda: mask_of(lost) not in (None, fresh), timeout=PATIENCE)
        assert fresh not in viewer.layers
        np.testing.assert_array_equal(mask_of(lost).data, self.labels)

    def test_a_mask_with_edits_is_not_replaced(self, lost, qtbot):
        segment(lost, qtbot)
        brush(mask_of(lost), (16, 40, 40))
        mask = mask_of(lost)
        lost.correct.offer.yes.click()
        assert "edits of its own" in lost.correct.message.text
        assert mask_of(lost) is mask
        assert len(lost.correct.keeper.offers) == 1

    def test_forgotten_edits_are_not_offered_again(self, lost, viewer, scan, qtbot):
        lost.correct.offer.no.click()
        assert lost.correct.keeper.offers == []
        abandon(viewer)
        viewer.open(str(scan), plugin=PLUGIN)
        qtbot.waitUntil(lambda: lost.correct.keeper._cases[lost.session.case].scan is not None, timeout=PATIENCE)
        assert lost.correct.keeper.offers == []

    def test_another_scan_is_offered_nothing(self, lost, viewer, qtbot):
        viewer.add_image(np.zeros((32, 48, 48), np.float32), name="other")
        qtbot.waitUntil(lambda: lost.correct.keeper._cases[lost.session.case].scan is not None, timeout=PATIENCE)
        assert lost.correct.keeper.offers == []

    def test_a_journal_of_another_scan_is_refused(self, lost, viewer, qtbot, told):
        (offer,) = lost.correct.keeper.offers
        viewer.add_image(np.zeros((32, 48, 48), np.float32), name="other")
        qtbot.waitUntil(lambda: lost.correct.keeper._cases[lost.session.case].scan is not None, timeout=PATIENCE)
        lost.correct.keeper.bring_back(offer)
        qtbot.waitUntil(lambda: bool(told), timeout=PATIENCE)
        assert told == [str(_refusal(offer, lost.session.case))]
        assert mask_of(lost) is None

    def test_a_deleted_mask_is_offered_back(self, kept, viewer, qtbot):
        mask = mask_of(kept)
        with mask.block_history():
            brush(mask)
            viewer.layers.remove(mask)  # in the middle of a stroke
        wait_for_offer(kept, qtbot)
        labels = mask.data.copy()
        self.bring_back(kept, qtbot)
        np.testing.assert_array_equal(mask_of(kept).data, labels)
        assert kept.session.case.edited > 0

    def test_a_saved_mask_is_not_offered(self, kept, viewer, scan, tmp_path, qtbot):
        brush(mask_of(kept))
        job = kept.correct.save_mask(tmp_path / "mask.nii.gz")
        qtbot.waitUntil(lambda: not job.running, timeout=PATIENCE)
        abandon(viewer)
        viewer.open(str(scan), plugin=PLUGIN)
        qtbot.waitUntil(lambda: kept.correct.keeper._cases[kept.session.case].scan is not None, timeout=PATIENCE)
        assert kept.correct.keeper.offers == []

    def test_naparis_own_save_counts_too(self, kept, viewer, scan, tmp_path, qtbot):
        brush(mask_of(kept))
        viewer.layers.selection.active = mask_of(kept)
        viewer.layers.save(str(tmp_path / "mask.nii.gz"), selected=True, plugin=PLUGIN)
        abandon(viewer)
        viewer.open(str(scan), plugin=PLUGIN)
        qtbot.waitUntil(lambda: kept.correct.keeper._cases[kept.session.case].scan is not None, timeout=PATIENCE)
        assert kept.correct.keeper.offers == []

    def test_a_second_image_of_the_same_scan_is_told_and_kept_apart(self, kept, viewer, scan, qtbot):
        first = kept.correct.keeper.journal
        viewer.open(str(scan), plugin=PLUGIN)
        segment(kept, qtbot)
        wait_until_kept(kept, qtbot)
        assert kept.correct.keeper.journal.path != first.path
        assert kept.correct.message.text.startswith("This mask is open elsewhere too")


class TestClasses:
    def test_a_mask_that_is_brought_back_has_the_persons_names_and_colours(self, kept, viewer, scan, qtbot):
        table = kept.correct.table
        table.rename(1, "ventricle")
        table.add("lesion")
        table.paint(2, "#ff0000")
        table.move(3, -2)
        brush(mask_of(kept), label=3)
        abandon(viewer)
        viewer.open(str(scan), plugin=PLUGIN)
        wait_for_offer(kept, qtbot)
        assert "(ventricle, small organ, lesion)" in kept.correct.offer.label.text()
        kept.correct.offer.yes.click()
        qtbot.waitUntil(lambda: mask_of(kept) is not None, timeout=PATIENCE)
        assert kept.session.case.class_names == ("background", "ventricle", "small organ", "lesion")
        assert kept.correct.table.labels == [3, 1, 2]
        np.testing.assert_allclose(mask_of(kept).get_color(2), [1, 0, 0, 1])
        assert kept.session.case.scheme == ("background", "large organ", "small organ")


class TestSwapped:
    """Another scan's data are put into the image layer."""

    def swap(self, dock, qtbot, turned=True):
        image = dock.session.image
        image.data = np.ascontiguousarray(image.data[:, ::-1]) if turned else image.data.copy()
        wait_until_kept(dock, qtbot)

    def test_edits_until_then_stay_with_the_scan_before(self, kept, qtbot):
        brush(mask_of(kept))
        first, labels = kept.correct.keeper.journal, mask_of(kept).data.copy()
        self.swap(kept, qtbot)
        assert kept.correct.message.text.startswith("The layer shows another scan now")
        brush(mask_of(kept), (16, 20, 4))
        np.testing.assert_array_equal(replay(first.path).labels, labels)
        second = kept.correct.keeper.journal
        assert second.header.scan != first.header.scan
        np.testing.assert_array_equal(replay(second.path).labels, mask_of(kept).data)

    def test_a_stroke_under_way_stays_with_the_scan_before_and_the_next_is_kept(self, kept, qtbot):
        first = kept.correct.keeper.journal
        with mask_of(kept).block_history():
            brush(mask_of(kept))
            labels = mask_of(kept).data.copy()
            self.swap(kept, qtbot)
        brush(mask_of(kept), (16, 20, 4))
        np.testing.assert_array_equal(replay(first.path).labels, labels)
        second = kept.correct.keeper.journal
        assert second is not first
        np.testing.assert_array_equal(replay(second.path).labels, mask_of(kept).data)

    def test_the_scan_before_offers_its_edits_again(self, kept, viewer, scan, qtbot):
        brush(mask_of(kept))
        self.swap(kept, qtbot)
        abandon(viewer)
        viewer.open(str(scan), plugin=PLUGIN)
        wait_for_offer(kept, qtbot)
        assert [offer.edits for offer in kept.correct.keeper.offers] == [1]

    def test_the_same_voxels_again_are_the_same_scan(self, kept, qtbot):
        brush(mask_of(kept))
        path = kept.correct.keeper.journal.path
        self.swap(kept, qtbot, turned=False)
        brush(mask_of(kept), (16, 20, 4))
        assert kept.correct.keeper.journal.path == path
        assert "another scan" not in kept.correct.message.text
        np.testing.assert_array_equal(replay(path).labels, mask_of(kept).data)

    def test_an_image_that_the_mask_does_not_lie_on_leaves_its_journal_with_the_scan(self, kept, qtbot):
        journal, keeper = kept.correct.keeper.journal, kept.correct.keeper
        kept.session.image.data = np.zeros((8, 8, 8), np.float32)
        qtbot.waitUntil(lambda: keeper._cases[kept.session.case].scan is not None, timeout=PATIENCE)
        brush(mask_of(kept))
        assert keeper.journal is journal
        np.testing.assert_array_equal(replay(journal.path).labels, mask_of(kept).data)


class TestSteps:
    def test_keys_undo_across_slices_and_say_what(self, kept, viewer):
        mask, before = mask_of(kept), mask_of(kept).data.copy()
        brush(mask)
        count = kept.session.case.edited
        viewer.dims.set_current_step(0, 3)
        press(mask, "Ctrl+Z")
        np.testing.assert_array_equal(mask.data, before)
        assert kept.correct.message.text == f"Undone: paint, {count} voxels."
        press(mask, "Ctrl+Shift+Z")
        assert kept.session.case.edited == count

    def test_keys_go_back_to_napari_when_the_dock_is_closed(self, kept, viewer):
        mask = mask_of(kept)
        viewer.window.remove_dock_widget(kept.parent())
        brush(mask)
        painted = mask.data.copy()
        press(mask, "Ctrl+Z")
        assert (mask.data != painted).any()

    def test_a_rerun_is_one_step_that_gives_back_what_it_overwrote(self, kept, qtbot):
        case = kept.session.case
        brush(case.mask)
        painted, edited = case.mask.data.copy(), case.watch.log.edited.copy()
        kept.segment.keep_edits.value = False
        segment(kept, qtbot)
        assert case.edited == 0
        case.undo()
        np.testing.assert_array_equal(case.mask.data, painted)
        np.testing.assert_array_equal(case.watch.log.edited, edited)

    def test_a_rerun_leaves_a_locked_class_alone(self, kept, qtbot):
        case = kept.session.case
        everywhere = np.nonzero(np.ones(case.mask.data.shape, bool))
        with case.watch.machine("test"):
            case.mask.data_setitem(everywhere, np.ones(everywhere[0].size, np.uint8))
        case.lock([1])
        segment(kept, qtbot)
        assert (case.mask.data == 1).all()

    def test_painting_over_a_locked_class_is_said(self, kept):
        case = kept.session.case
        locked = tuple(int(n) for n in np.argwhere(case.mask.data == 1)[0])
        case.lock([1])
        brush(case.mask, locked, size=1)
        assert case.mask.data[locked] == 1
        assert kept.correct.message.text == "1 voxel left alone: their class is locked."

    def test_a_proposal_without_a_mask(self, dock):
        with pytest.raises(GeometryError, match="no mask"):
            dock.session.case.apply(Proposal((), np.zeros(()), np.zeros((), bool), "grow"))

    def test_odd_labels_are_counted_without_harm(self, viewer, dock, qtbot, told):
        segment(dock, qtbot)
        mask = mask_of(dock)
        mask.data = mask.data.astype(np.int64)
        for label in (-7, 2**50):
            brush(mask, (16, 4, 4), label)
            dock.correct.refresh()
            qtbot.waitUntil(lambda: not dock.correct.table.counting, timeout=PATIENCE)
        assert told == []


def _no_space(*_):
    raise OSError(28, "No space left on device")


def _refusal(offer, case):
    from napari_medattn.layerdata import layer_place

    try:
        offer.header.check("", layer_place(case.image).grid)
    except JournalError as error:
        return error
    return None
