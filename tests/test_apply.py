"""Applying what a tool proposes: only what nobody vouches for and nothing locks, as one step."""

from __future__ import annotations

import numpy as np
import pytest

from napari_medattn.correct.apply import admit, apply
from napari_medattn.correct.proposal import Proposal
from napari_medattn.errors import GeometryError, InputError
from napari_medattn.store.edit import Edit
from napari_medattn.store.edits import EditLog

SHAPE = (4, 6, 6)
BOX = (slice(1, 3), slice(0, 6), slice(0, 6))


@pytest.fixture
def labels():
    return np.zeros(SHAPE, np.uint8)


@pytest.fixture
def log(labels):
    """A log in which a person painted one row with class 1."""
    log = EditLog(SHAPE)
    after = labels.copy()
    after[1, 2] = 1
    edit = Edit.between(labels, after, tool="paint", human=True)
    edit.do(labels)
    log.append(edit)
    return log


def fill(value=2, box=BOX, dtype=np.uint8):
    size = [s.stop - s.start for s in box]
    return Proposal(box, np.full(size, value, dtype), np.ones(size, bool), "grow")


def test_what_a_person_painted_is_kept(labels, log):
    admitted = apply(fill(), labels, log)
    assert (admitted.changed, admitted.kept, admitted.locked) == (66, 6, 0)
    assert (labels[1, 2] == 1).all()
    assert np.count_nonzero(labels == 2) == 66


def test_what_a_person_confirmed_is_kept(labels, log):
    log.confirm(labels, (slice(2, 3),))
    assert apply(fill(), labels, log).kept == 6 + 36
    assert not labels[2].any()


def test_unless_it_was_asked_for(labels, log):
    admitted = apply(fill(), labels, log, over_trusted=True)
    assert (admitted.changed, admitted.kept) == (72, 0)
    assert log.edited_count == 0


def test_a_locked_class_is_kept_even_then(labels, log):
    log.lock([1])
    admitted = apply(fill(), labels, log, over_trusted=True)
    assert (admitted.changed, admitted.locked) == (66, 6)


def test_it_is_one_step_that_nobody_vouches_for(labels, log):
    before, edited = labels.copy(), log.edited.copy()
    apply(fill(), labels, log)
    assert (len(log), log.edits[-1].tool, log.edits[-1].human) == (2, "grow", False)
    np.testing.assert_array_equal(log.edited, edited)
    log.mark_undone().undo(labels)
    np.testing.assert_array_equal(labels, before)


def test_voxels_that_have_the_label_already_are_not_counted(labels, log):
    assert apply(fill(value=0), labels, log, over_trusted=True).changed == 6


def test_only_the_changes_are_made(labels, log):
    changes = np.zeros((2, 6, 6), bool)
    changes[1, 5, 5] = True
    apply(Proposal(BOX, np.full((2, 6, 6), 3, np.uint8), changes, "clean"), labels, log)
    assert np.argwhere(labels == 3).tolist() == [[2, 5, 5]]


def test_nothing_left_to_change_is_no_step(labels, log):
    log.confirm(labels, ())
    assert (apply(fill(), labels, log).edit, len(log)) == (None, 1)


def test_admitting_changes_nothing(labels, log):
    before = labels.copy()
    admit(fill(), labels, log)
    np.testing.assert_array_equal(labels, before)
    assert len(log) == 1


@pytest.mark.parametrize(
    "box", [(slice(3, 5), slice(0, 6), slice(0, 6)), (slice(0, 1),) * 4, (slice(9, 11), slice(0, 6), slice(0, 6))]
)
def test_a_box_that_does_not_lie_in_the_mask_is_refused(labels, log, box):
    with pytest.raises(GeometryError, match="grow"):
        apply(fill(box=box), labels, log)


@pytest.mark.parametrize("value", [-1, 256])
def test_labels_that_the_mask_cannot_hold_are_refused(labels, log, value):
    with pytest.raises(InputError, match="uint8 cannot hold"):
        apply(fill(value, dtype=np.int64), labels, log)


def test_a_flat_mask(log):
    labels, flat = np.zeros((6, 6), np.uint8), EditLog((6, 6))
    apply(Proposal((slice(0, 2), slice(1, 3)), np.ones((2, 2), np.uint8), np.ones((2, 2), bool), "t"), labels, flat)
    assert labels.sum() == 4
