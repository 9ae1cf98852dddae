"""The journal under a log of edits: what was done is there again, whatever byte the file breaks off at."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, strategies as st

from napari_medattn.errors import JournalError, SaveError
from napari_medattn.geometry import Grid
from napari_medattn.store import journal as journal_module
from napari_medattn.store.edit import Edit
from napari_medattn.store.edits import EditLog
from napari_medattn.store.journal import Journal, State
from napari_medattn.store.journal_header import Header
from napari_medattn.store.journals import (
    forget,
    free_path,
    in_use,
    journal_folder,
    sweep,
    unsaved_work,
)
from napari_medattn.store.records import read_records, step_frame, step_of
from napari_medattn.store.replay import look, replay
from napari_medattn.store.scan_id import scan_id

SHAPE = (3, 5, 6)
GRID = Grid.from_spacing(SHAPE, (2.0, 1.0, 1.0))
SCAN = "ab" * 16


def begin(path: Path, labels, log=None, **options) -> tuple[Journal, EditLog]:
    """A journal that is open."""
    log = EditLog(labels.shape) if log is None else log
    header = Header.of(SCAN, GRID, labels, ("background", "organ"), {"checkpoint": "c", "image": "Jane Doe"})
    journal = Journal(path, header, **options)
    journal.begin(log, labels)()
    journal.settle()
    return journal, log


def stroke(labels, log, box, value, *, human=True, tool="paint"):
    after = labels.copy()
    after[box] = value
    edit = Edit.between(labels, after, tool=tool, human=human)
    if edit is not None:
        log.append(edit)
        edit.do(labels)


def state(labels, log) -> tuple:
    """All that a journal must bring back."""
    stack = [(e.places.tolist(), e.before.tolist(), e.after.tolist(), e.tool, e.human, e.time) for e in log.edits]
    redo = [(e.places.tolist(), e.before.tolist(), e.after.tolist(), e.tool, e.human) for e in log.redoable]
    confirmed = log.confirmed(labels).tolist()
    return labels.tolist(), stack, redo, log.edited.tolist(), confirmed, sorted(log.locked_classes)


def brought_back(path) -> tuple:
    found = replay(path)
    return state(found.labels, found.log)


@st.composite
def boxes(draw, shape=SHAPE):
    ends = [sorted(draw(st.tuples(st.integers(0, n), st.integers(0, n)))) for n in shape]
    return tuple(slice(a, b) for a, b in ends)


ACTIONS = st.lists(
    st.tuples(st.sampled_from(["paint", "paint", "segment", "undo", "redo", "confirm", "unconfirm", "lock"]), boxes()),
    max_size=12,
)


def act(labels, log, action, box, value):
    if action in ("paint", "segment"):
        stroke(labels, log, box, value, human=action == "paint", tool=action)
    elif action == "undo" and log.next_undo:
        log.mark_undone().undo(labels)
    elif action == "redo" and log.next_redo:
        log.mark_redone().do(labels)
    elif action in ("confirm", "unconfirm"):
        log.confirm(labels, box, action == "confirm")
    elif action == "lock":
        log.lock({value})


class TestReplay:
    @given(ACTIONS, st.data())
    def test_it_equals_the_live_state_after_every_action_and_every_cut(self, tmp_path, actions, data):
        path = tmp_path / "a.journal"
        labels = np.arange(90, dtype=np.uint8).reshape(SHAPE) % 3
        journal, log = begin(path, labels)
        states, ends = [state(labels, log)], [journal.size]
        for action, box in actions:
            act(labels, log, action, box, data.draw(st.integers(0, 3)))
            assert brought_back(path) == state(labels, log)
            if journal.size > ends[-1]:
                states.append(state(labels, log))
                ends.append(journal.size)
        whole = path.read_bytes()
        cut = data.draw(st.integers(ends[0], len(whole)))
        path.write_bytes(whole[:cut])
        assert brought_back(path) == states[max(n for n, end in enumerate(ends) if end <= cut)]
        journal.close()

    def test_every_single_cut_of_a_stroke_gives_the_state_before_it(self, tmp_path):
        labels = np.zeros(SHAPE, np.uint8)
        journal, log = begin(tmp_path / "a.journal", labels)
        before, start = state(labels, log), journal.size
        stroke(labels, log, (slice(0, 1), slice(1, 4), slice(2, 5)), 1)
        whole = journal.path.read_bytes()
        for cut in range(start, len(whole)):
            journal.path.write_bytes(whole[:cut])
            assert brought_back(journal.path) == before
        journal.close()

    @given(ACTIONS, st.data())
    def test_a_journal_that_begins_late_holds_all_that_was_done(self, tmp_path, actions, data):
        labels, log = np.zeros(SHAPE, np.int32), EditLog(SHAPE)
        for action, box in actions:
            act(labels, log, action, box, data.draw(st.integers(-3, 70000)))
        journal, _ = begin(tmp_path / "b.journal", labels, log)
        assert brought_back(journal.path) == state(labels, log)
        journal.close()

    def test_strokes_made_while_the_mask_is_being_written_are_there(self, tmp_path):
        labels, log = np.zeros(SHAPE, np.uint8), EditLog(SHAPE)
        journal = Journal(tmp_path / "a.journal", Header.of(SCAN, GRID, labels, ("a", "b"), {}))
        work = journal.begin(log, labels)
        stroke(labels, log, (slice(0, 1),), 1)  # the work will find it in the mask already
        work()
        stroke(labels, log, (slice(1, 2),), 2)
        log.mark_undone().undo(labels)
        journal.settle()
        assert brought_back(journal.path) == state(labels, log)
        journal.close()

    def test_going_on_after_bringing_back(self, tmp_path):
        labels = np.zeros(SHAPE, np.uint8)
        journal, log = begin(tmp_path / "a.journal", labels)
        stroke(labels, log, (slice(0, 1),), 1)
        journal.close()
        with journal.path.open("ab") as file:
            file.write(b"half a reco")
        found = replay(journal.path)
        assert found.torn == 11
        again = Journal(journal.path, found.header)
        again.claim()
        again.resume(found.log, found.end)
        stroke(found.labels, found.log, (slice(2, 3),), 4)
        assert brought_back(again.path) == state(found.labels, found.log)
        again.close()

    def test_labels_of_another_type_than_before(self, tmp_path):
        labels = np.zeros(SHAPE, np.uint8)
        journal, log = begin(tmp_path / "a.journal", labels)
        stroke(labels, log, (slice(0, 1),), 1)
        wide = labels.astype(np.int32)
        wide[1] = 70000
        log.replace(labels, wide)
        found = replay(journal.path)
        assert found.labels.dtype == np.int32
        assert state(found.labels, found.log) == state(wide, log)
        journal.close()

    def test_a_confirmation_of_what_the_journal_never_saw_is_left_out(self, tmp_path):
        labels = np.zeros(SHAPE, np.uint8)
        journal, log = begin(tmp_path / "a.journal", labels)
        labels[0, 0, 0] = 9  # written behind the log's back
        log.confirm(labels, (slice(0, 1),))
        found = replay(journal.path)
        assert found.doubtful == 1
        assert not found.log.confirmed(found.labels).any()
        journal.close()

    def test_negative_and_huge_labels_come_back(self, tmp_path):
        labels = np.zeros(SHAPE, np.int64)
        journal, log = begin(tmp_path / "a.journal", labels)
        stroke(labels, log, (slice(0, 1),), -(2**62))
        stroke(labels, log, (slice(1, 2),), 2**62)
        assert brought_back(journal.path) == state(labels, log)
        journal.close()

    @given(st.sets(st.integers(0, 89), min_size=1), st.sampled_from(["u1", "<i4", ">i2"]))
    def test_any_set_of_voxels_survives_as_a_record(self, places, kind):
        places = np.array(sorted(places), np.int32)
        edit = Edit(SHAPE, places, np.zeros(places.size, kind), np.arange(1, places.size + 1).astype(kind), "t")
        (record,) = read_records(b"MEDATTN journal 1\n" + step_frame(edit))
        again = step_of(record, SHAPE)
        np.testing.assert_array_equal(again.places, places)
        np.testing.assert_array_equal(again.after, edit.after)


class TestDamage:
    def test_a_flipped_bit_ends_the_journal_there(self, tmp_path):
        labels = np.zeros(SHAPE, np.uint8)
        journal, log = begin(tmp_path / "a.journal", labels)
        before, start = state(labels, log), journal.size
        stroke(labels, log, (slice(0, 1),), 1)
        stroke(labels, log, (slice(1, 2),), 1)
        data = bytearray(journal.path.read_bytes())
        data[start + 20] ^= 1
        journal.path.write_bytes(data)
        assert brought_back(journal.path) == before
        assert replay(journal.path).torn == len(data) - start
        journal.close()

    @pytest.mark.parametrize("keep", [0, 7, 30])
    def test_nothing_is_recovered_from_less_than_a_header(self, tmp_path, keep):
        journal, _ = begin(tmp_path / "a.journal", np.zeros(SHAPE, np.uint8))
        journal.close()
        journal.path.write_bytes(journal.path.read_bytes()[:keep])
        with pytest.raises(JournalError, match="breaks off before its header"):
            replay(journal.path)

    def test_a_missing_mask_is_told(self, tmp_path):
        journal, _ = begin(tmp_path / "a.journal", np.zeros(SHAPE, np.uint8))
        journal.close()
        next(tmp_path.glob("*.base")).unlink()
        with pytest.raises(JournalError, match="is gone"):
            replay(journal.path)

    def test_a_changed_mask_is_told(self, tmp_path):
        journal, _ = begin(tmp_path / "a.journal", np.zeros(SHAPE, np.uint8))
        journal.close()
        next(tmp_path.glob("*.base")).write_bytes(b"something else")
        with pytest.raises(JournalError, match="not the one"):
            replay(journal.path)


class TestTrouble:
    @pytest.fixture
    def full(self, monkeypatch):
        """A disk that is full while the switch is on."""
        switch, write = [False], os.write

        def limited(file, data):
            if switch[0]:
                if len(data) > 10:
                    return write(file, data[:10])  # a part still fits
                raise OSError(errno.ENOSPC, "No space left on device")
            return write(file, data)

        monkeypatch.setattr(journal_module.os, "write", limited)
        return switch

    def test_a_full_disk_is_told_once_and_leaves_whole_records(self, tmp_path, full):
        told, labels = [], np.zeros(SHAPE, np.uint8)
        journal, log = begin(tmp_path / "a.journal", labels, on_trouble=told.append)
        stroke(labels, log, (slice(0, 1),), 1)
        before = state(labels, log)
        full[0] = True
        for n in range(3):
            stroke(labels, log, (slice(1, 2),), n + 1)
        assert journal.state is State.BROKEN
        assert [type(error) for error in told] == [SaveError]
        assert "no space left" in str(told[0])
        assert (brought_back(journal.path), replay(journal.path).torn) == (before, 0)
        journal.close()

    def test_it_is_whole_again_when_writing_works_again(self, tmp_path, full):
        told, labels = [], np.zeros(SHAPE, np.uint8)
        journal, log = begin(tmp_path / "a.journal", labels, on_trouble=told.append)
        full[0] = True
        stroke(labels, log, (slice(0, 1),), 1)
        stroke(labels, log, (slice(1, 2),), 2)
        full[0] = False
        journal.begin(log, labels)()
        journal.settle()
        stroke(labels, log, (slice(2, 3),), 3)
        assert brought_back(journal.path) == state(labels, log)
        assert len(list(tmp_path.glob("*.base"))) == 1
        full[0] = True
        stroke(labels, log, (slice(0, 1),), 4)
        assert len(told) == 2
        journal.close()

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
    def test_an_unwritable_folder(self, tmp_path):
        tmp_path.chmod(0o500)
        with pytest.raises(SaveError):
            begin(tmp_path / "a.journal", np.zeros(SHAPE, np.uint8))
        tmp_path.chmod(0o700)

    def test_a_folder_that_is_a_file(self, tmp_path):
        (tmp_path / "journals").write_text("")
        with pytest.raises(SaveError):
            begin(tmp_path / "journals" / "a.journal", np.zeros(SHAPE, np.uint8))

    def test_a_second_window_is_refused(self, tmp_path):
        labels = np.zeros(SHAPE, np.uint8)
        journal, _ = begin(tmp_path / "a.journal", labels)
        with pytest.raises(JournalError, match="open in another window"):
            begin(tmp_path / "a.journal", labels)
        journal.close()
        begin(tmp_path / "a.journal", labels)[0].close()


class TestHeader:
    def test_it_names_nobody(self, tmp_path):
        journal, _ = begin(tmp_path / "a.journal", np.zeros(SHAPE, np.uint8))
        assert b"Jane" not in journal.path.read_bytes()
        assert replay(journal.path).header.made_by == {"checkpoint": "c"}
        journal.close()

    def test_a_scan_of_another_geometry_is_refused(self):
        header = Header.of(SCAN, GRID, np.zeros(SHAPE, np.uint8), (), {})
        header.check(SCAN, GRID)
        with pytest.raises(JournalError, match="another geometry"):
            header.check(SCAN, Grid.from_spacing(SHAPE, (3.0, 1.0, 1.0)))

    def test_another_scan_of_the_same_geometry_is_refused(self):
        header = Header.of(SCAN, GRID, np.zeros(SHAPE, np.uint8), (), {})
        with pytest.raises(JournalError, match="another scan"):
            header.check("cd" * 16, GRID)

    def test_a_later_format_is_refused(self):
        header = Header.of(SCAN, GRID, np.zeros(SHAPE, np.uint8), (), {})
        with pytest.raises(JournalError, match="format 2"):
            Header.from_plain({**header.to_plain(), "version": 2})


class TestScanId:
    def test_one_voxel_makes_another_scan(self):
        image = np.zeros(SHAPE, np.float32)
        first = scan_id(image, GRID)
        image[1, 2, 3] = 1
        assert scan_id(image, GRID) != first

    def test_geometry_makes_another_scan(self):
        image = np.zeros(SHAPE, np.float32)
        assert scan_id(image, GRID) != scan_id(image, Grid.from_spacing(SHAPE, (2.0, 1.0, 1.5)))

    def test_the_way_it_lies_in_memory_does_not(self):
        image = np.random.default_rng(0).random(SHAPE)
        assert scan_id(image, GRID) == scan_id(np.asfortranarray(image), GRID)

    def test_of_a_large_volume_only_a_part_is_read(self):
        seen = []

        class Lazy:
            shape, dtype = (4000, 512, 512), np.dtype(np.float32)

            def __getitem__(self, index):
                seen.append(index)
                return np.zeros((512, 512), np.float32)

        scan_id(Lazy(), GRID)
        assert len(seen) == 64
        assert (seen[0], seen[-1]) == (0, 3999)


class TestFolder:
    @pytest.fixture
    def kept(self):
        """A journal in the user's folder with one stroke."""
        labels = np.zeros(SHAPE, np.uint8)
        journal, log = begin(free_path(SCAN, ("background", "organ")), labels)
        stroke(labels, log, (slice(0, 1),), 1)
        yield journal, log, labels
        journal.close()

    def test_unsaved_work_is_found_once_nobody_has_it_open(self, kept):
        journal, _, _ = kept
        assert unsaved_work(SCAN) == []
        assert in_use(SCAN, ("background", "organ"))
        journal.close()
        (found,) = unsaved_work(SCAN)
        assert (found.edits, found.path) == (1, journal.path)
        assert not in_use(SCAN, ("background", "organ"))

    def test_another_scan_has_none(self, kept):
        kept[0].close()
        assert unsaved_work("cd" * 16) == []

    def test_a_saved_mask_is_no_unsaved_work(self, kept):
        journal, log, labels = kept
        journal.saving()
        journal.saved()
        assert not look(journal.path).changed
        stroke(labels, log, (slice(1, 2),), 1)
        assert look(journal.path).edits == 1

    def test_a_stroke_made_while_saving_is_unsaved(self, kept):
        journal, log, labels = kept
        journal.saving()
        stroke(labels, log, (slice(1, 2),), 1)
        journal.saved()
        assert (look(journal.path).edits, look(journal.path).changed) == (1, True)

    def test_undoing_what_was_saved_is_unsaved_work(self, kept):
        journal, log, labels = kept
        journal.saving()
        journal.saved()
        log.mark_undone().undo(labels)
        assert look(journal.path).changed

    def test_what_was_undone_or_made_by_a_tool_is_no_work(self, kept):
        journal, log, labels = kept
        log.mark_undone().undo(labels)
        stroke(labels, log, (slice(1, 2),), 1, human=False)
        assert not look(journal.path).changed

    def test_a_confirmation_is_work_until_it_is_taken_back(self, kept):
        journal, log, labels = kept
        log.mark_undone().undo(labels)
        log.confirm(labels, (slice(0, 1),))
        assert (look(journal.path).confirmations, look(journal.path).changed) == (1, True)
        log.confirm(labels, (slice(0, 1),), right=False)
        assert not look(journal.path).changed

    def test_what_was_saved_stays_known_when_the_journal_is_written_anew(self, kept):
        journal, log, labels = kept
        log.confirm(labels, (slice(0, 1),))
        journal.saving()
        journal.saved()
        journal.begin(log, labels)()
        journal.settle()
        assert not look(journal.path).changed
        stroke(labels, log, (slice(1, 2),), 1)
        assert look(journal.path).edits == 1

    def test_what_is_forgotten_is_not_offered_again(self, kept):
        kept[0].close()
        forget(kept[0].path)
        assert unsaved_work(SCAN) == []

    def test_a_new_journal_never_takes_the_name_of_one_that_is_there(self, kept):
        assert free_path(SCAN, ("background", "organ")) != kept[0].path

    def test_only_old_journals_without_unsaved_work_are_deleted(self, kept):
        journal, _, _ = kept
        later = journal.path.stat().st_mtime + 31 * 24 * 3600
        assert sweep(now=later) == 0  # open
        journal.close()
        assert sweep(now=later) == 0  # unsaved
        forget(journal.path)
        assert sweep() == 0  # young
        assert sweep(now=later + 60) == 1
        assert list(journal_folder().iterdir()) == []


CLASSES = {"names": ["background", "organ", "lesion"], "colours": {"2": "#ff0000"}, "order": [2, 1]}


class TestClasses:
    def test_the_last_word_holds_and_is_there_after_beginning_anew(self, tmp_path):
        labels = np.zeros(SHAPE, np.uint8)
        journal, log = begin(tmp_path / "a.journal", labels)
        journal.call_classes({**CLASSES, "order": [1, 2]})
        journal.call_classes(CLASSES)
        assert replay(journal.path).classes == CLASSES
        journal.begin(log, labels)()
        journal.settle()
        assert replay(journal.path).classes == CLASSES
        assert look(journal.path).class_names == ("background", "organ", "lesion")

    def test_the_same_word_is_written_once(self, tmp_path):
        journal, _ = begin(tmp_path / "a.journal", np.zeros(SHAPE, np.uint8))
        journal.call_classes(CLASSES)
        size = journal.size
        journal.call_classes(dict(CLASSES))
        assert journal.size == size

    def test_names_alone_are_no_unsaved_work(self, tmp_path):
        journal, _ = begin(tmp_path / "a.journal", np.zeros(SHAPE, np.uint8))
        journal.call_classes(CLASSES)
        assert not look(journal.path).changed


def test_records_that_contradict_each_other_are_told(tmp_path):
    journal, _ = begin(tmp_path / "a.journal", np.zeros(SHAPE, np.uint8))
    journal.undone()  # of nothing
    with pytest.raises(JournalError, match="contradict each other"):
        look(journal.path)
    with pytest.raises(JournalError, match="contradict each other"):
        replay(journal.path)
