"""The log of what a person did to a mask: it must know which voxels somebody vouches for, and no others."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, strategies as st

from napari_medattn.errors import GeometryError
from napari_medattn.store.edits import Edit, EditLog

SHAPE = (4, 6, 6)


class Editor:
    """A mask and its log; `paint` reports a step as napari does, undo and redo happen without a report."""

    def __init__(self, shape=SHAPE, masked=True) -> None:
        self.labels = np.zeros(shape, np.uint8)
        self.log = EditLog(shape)
        self.masked = masked
        self.done, self.undone = [], []

    def paint(self, box, value, *, human=True):
        before = self.labels.copy()
        edit = Edit.from_atoms([self.atom(box, value)], self.labels.shape, tool="paint", human=human)
        if edit is not None:
            self.log.append(edit)
            self.done.append((before, self.labels.copy()))
            self.undone.clear()
        return edit

    def atom(self, box, value):
        mask = self.labels[box] != value
        old = self.labels[box][mask].copy()
        indices = tuple(axis[mask] for axis in np.indices(self.labels.shape)[(slice(None), *box)])
        self.labels[box] = value
        if self.masked:
            return SimpleNamespace(slice_key=box, mask=mask, old_values=old, new_value=value)
        return indices, old, value

    def undo(self):
        if self.done:
            self.undone.append(self.done.pop())
            self.labels[:] = self.undone[-1][0]
        return self.log.follow(self.labels)

    def redo(self):
        if self.undone:
            self.done.append(self.undone.pop())
            self.labels[:] = self.done[-1][1]
        return self.log.follow(self.labels)


def box(z, y, x):
    return tuple(slice(*pair) for pair in (z, y, x))


A = box((0, 1), (0, 3), (0, 3))
B = box((0, 1), (2, 5), (2, 5))  # shares one voxel with A
FAR = box((3, 4), (5, 6), (5, 6))


@pytest.fixture(params=[True, False], ids=["masked atoms", "index atoms"])
def editor(request) -> Editor:
    return Editor(masked=request.param)


class TestEdit:
    def test_painted_voxels_are_edited(self, editor):
        editor.paint(A, 1)
        np.testing.assert_array_equal(editor.log.edited, editor.labels == 1)

    def test_voxels_that_already_had_the_label_are_not_edited(self, editor):
        editor.labels[0, 0, 0] = 1
        assert editor.paint(A, 1).count == 8

    def test_a_stroke_that_changes_nothing_is_no_edit(self, editor):
        assert editor.paint(A, 0) is None

    def test_the_box_is_as_small_as_its_atoms(self, editor):
        assert editor.paint(FAR, 2).box == FAR

    def test_overlapping_atoms_keep_the_first_old_and_the_last_new_value(self, editor):
        editor.labels[0, 2, 2] = 7
        atoms = [editor.atom(A, 1), editor.atom(B, 2)]
        edit = Edit.from_atoms(atoms, SHAPE, tool="paint")
        at = tuple(np.array([0, 2, 2]) - [s.start for s in edit.box])
        position = np.flatnonzero(edit.changed.ravel()).tolist().index(np.ravel_multi_index(at, edit.changed.shape))
        assert (edit.before[position], edit.after[position]) == (7, 2)

    def test_atoms_that_cancel_each_other_are_no_edit(self, editor):
        atoms = [editor.atom(A, 1), editor.atom(A, 0)]
        assert Edit.from_atoms(atoms, SHAPE, tool="paint") is None

    def test_an_atom_without_a_mask_means_its_whole_box(self):
        old = np.full((1, 3, 3), 4, np.uint8)
        atom = SimpleNamespace(slice_key=A, mask=None, old_values=old, new_value=2)
        assert Edit.from_atoms([atom], SHAPE, tool="fill").count == 9

    def test_an_open_slice_means_the_whole_axis(self):
        key = (slice(0, 1), slice(None), slice(None))
        atom = SimpleNamespace(slice_key=key, mask=None, old_values=np.zeros((1, 6, 6), np.uint8), new_value=2)
        assert Edit.from_atoms([atom], SHAPE, tool="fill").count == 36

    def test_no_atoms_are_no_edit(self):
        empty = ((np.array([], int),) * 3, np.array([], np.uint8), 1)
        assert Edit.from_atoms([empty], SHAPE, tool="paint") is None


class TestUndo:
    def test_undoing_takes_the_standing_away(self, editor):
        editor.paint(A, 1)
        editor.undo()
        assert editor.log.edited_count == 0

    def test_redoing_gives_it_back(self, editor):
        editor.paint(A, 1)
        editor.undo()
        editor.redo()
        assert editor.log.edited_count == 9

    def test_follow_tells_whether_something_changed(self, editor):
        editor.paint(A, 1)
        assert (editor.log.follow(editor.labels), editor.undo(), editor.redo()) == (False, True, True)

    def test_undoing_one_of_two_overlapping_edits_keeps_the_shared_voxel(self, editor):
        editor.paint(A, 1)
        first = editor.log.edited.copy()
        editor.paint(B, 2)
        editor.undo()
        np.testing.assert_array_equal(editor.log.edited, first)

    def test_several_undos_between_two_looks_are_all_noticed(self, editor):
        editor.paint(A, 1)
        editor.paint(B, 2)
        editor.paint(FAR, 3)
        editor.labels[:] = 0
        editor.log.follow(editor.labels)
        assert len(editor.log) == 0

    def test_after_a_new_edit_nothing_can_be_redone(self, editor):
        editor.paint(A, 1)
        editor.undo()
        editor.paint(FAR, 3)
        editor.labels[A] = 1
        editor.log.follow(editor.labels)
        assert editor.log.edited_count == 1

    @given(st.data(), st.booleans())
    def test_any_sequence_agrees_with_a_plain_model(self, data, masked):
        """The model keeps a full copy of the edited voxels after every step."""
        editor = Editor((2, 3, 4), masked)
        history, position = [np.zeros((2, 3, 4), bool)], 0
        for action in data.draw(st.lists(st.sampled_from(["paint", "paint", "segment", "undo", "redo"]), max_size=14)):
            if action == "undo":
                editor.undo()
                position = max(0, position - 1)
            elif action == "redo":
                editor.redo()
                position = min(len(history) - 1, position + 1)
            else:
                bounds = [sorted(data.draw(st.tuples(st.integers(0, n), st.integers(0, n)))) for n in (2, 3, 4)]
                before = editor.labels.copy()
                edit = editor.paint(box(*bounds), data.draw(st.integers(0, 2)), human=action == "paint")
                if edit is not None:
                    edited = history[position].copy()
                    edited[editor.labels != before] = action == "paint"
                    history[position + 1 :] = [edited]
                    position += 1
            np.testing.assert_array_equal(editor.log.edited, history[position])


class TestStanding:
    def test_what_a_network_writes_is_nobodys_word(self, editor):
        editor.paint(A, 1, human=False)
        assert editor.log.edited_count == 0

    def test_a_network_that_writes_over_an_edit_takes_its_standing(self, editor):
        editor.paint(A, 1)
        editor.paint(B, 2, human=False)
        assert editor.log.edited_count == 8

    def test_undoing_the_network_gives_the_standing_back(self, editor):
        editor.paint(A, 1)
        editor.paint(B, 2, human=False)
        editor.undo()
        assert editor.log.edited_count == 9

    def test_erasing_is_an_edit_too(self, editor):
        editor.labels[A] = 3
        editor.paint(A, 0)
        assert editor.log.edited_count == 9

    def test_confirmed_voxels_are_trusted_beside_edited_ones(self, editor):
        editor.paint(A, 1)
        editor.log.confirm(editor.labels, box((1, 2), (0, 6), (0, 6)))
        assert int(editor.log.trusted(editor.labels).sum()) == 9 + 36

    def test_a_confirmation_can_be_taken_back(self, editor):
        editor.log.confirm(editor.labels, A)
        editor.log.confirm(editor.labels, A, right=False)
        assert not editor.log.confirmed(editor.labels, A).any()

    def test_only_wholly_confirmed_slices_are_listed(self, editor):
        editor.log.confirm(editor.labels, box((1, 3), (0, 6), (0, 6)))
        editor.log.confirm(editor.labels, A)
        assert editor.log.confirmed_slices(editor.labels) == [1, 2]

    def test_a_network_that_changes_a_confirmed_label_takes_the_confirmation(self, editor):
        """Nobody has seen the new label."""
        editor.log.confirm(editor.labels, A)
        editor.paint(A, 2, human=False)
        assert not editor.log.trusted(editor.labels)[A].any()

    def test_a_confirmation_comes_back_with_the_label_it_was_given_to(self, editor):
        editor.log.confirm(editor.labels, A)
        editor.paint(A, 2, human=False)
        editor.undo()
        assert editor.log.trusted(editor.labels)[A].all()

    def test_a_stroke_undone_after_its_slice_was_confirmed_is_no_truth(self, editor):
        editor.paint(A, 1)
        editor.log.confirm(editor.labels, A)
        editor.undo()
        assert not editor.log.trusted(editor.labels)[A].any()

    def test_a_stroke_that_is_being_painted_over_was_not_undone(self, editor):
        """In the middle of an erasing stroke the older one looks undone; the eraser's report mends that."""
        editor.paint(A, 1)
        editor.labels[A] = 0
        editor.log.follow(editor.labels)
        editor.labels[A] = 1
        editor.paint(A, 0)
        editor.undo()
        assert editor.log.edited[A].all()


class TestReconcile:
    def test_an_unchanged_mask_loses_nothing(self, editor):
        editor.paint(A, 1)
        editor.paint(B, 2)
        assert (editor.log.reconcile(editor.labels), editor.log.edited_count) == (0, 17)

    def test_labels_written_behind_the_log_lose_their_standing(self, editor):
        editor.paint(A, 1)
        editor.labels[0, 0, :2] = 5
        assert (editor.log.reconcile(editor.labels), editor.log.edited_count) == (2, 7)

    def test_the_newest_edit_of_a_voxel_counts(self, editor):
        editor.paint(A, 1)
        editor.paint(B, 2)
        editor.labels[0, 2, 2] = 1  # what the older edit said
        assert editor.log.reconcile(editor.labels) == 1

    def test_an_undo_nobody_reported_is_noticed(self, editor):
        editor.paint(A, 1)
        editor.labels[:] = 0
        editor.log.reconcile(editor.labels)
        assert len(editor.log) == 0

    def test_a_mask_of_another_shape_is_refused(self, editor):
        with pytest.raises(GeometryError, match=r"\(2, 2, 2\)"):
            editor.log.reconcile(np.zeros((2, 2, 2), np.uint8))
