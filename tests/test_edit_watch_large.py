"""Large steps go past napari's history: nothing of them is lost, and nothing of what napari remembered comes back."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from napari.components import ViewerModel

from napari_medattn.store.edit import Edit
from napari_medattn.widgets import edit_watch
from napari_medattn.widgets.edit_watch import EditWatch

SHAPE = (6, 20, 20)


def watched():
    layer = ViewerModel().add_labels(np.zeros(SHAPE, np.uint8))
    return layer, EditWatch(layer, lambda: None)


def brush(layer, at=(2, 10, 10), label=1):
    layer.mode = "paint"
    layer.brush_size = 4
    layer.paint(at, label)


def rerun(layer, watch, label=2):
    new = np.full(SHAPE, label, np.uint8)
    edit = Edit.between(np.asarray(layer.data), new, tool="segment")
    if edit is not None:
        watch.write(edit)


@pytest.fixture
def large(monkeypatch):
    monkeypatch.setattr(edit_watch, "LARGE", 100)
    layer, watch = watched()
    brush(layer)
    yield layer, watch
    watch.stop()


def test_it_is_one_step_that_can_be_undone_and_done_again(large):
    layer, watch = large
    before, edited = layer.data.copy(), watch.log.edited.copy()
    rerun(layer, watch)
    assert (layer.data == 2).all()
    assert [edit.tool for edit in watch.log.edits] == ["paint", "segment"]
    watch.undo()
    np.testing.assert_array_equal(layer.data, before)
    np.testing.assert_array_equal(watch.log.edited, edited)
    watch.redo()
    assert (layer.data == 2).all()
    watch.undo()
    watch.undo()
    assert not layer.data.any()


def test_naparis_own_undo_brings_nothing_stale(large):
    layer, watch = large
    rerun(layer, watch)
    layer.undo()
    assert (layer.data == 2).all()
    assert len(watch.log) == 2


def test_the_brush_stays_in_hand(large):
    layer, watch = large
    rerun(layer, watch)
    assert (str(layer.mode), layer.editable) == ("paint", True)
    brush(layer, (4, 5, 5), 3)
    assert watch.log.edits[-1].tool == "paint"


@settings(max_examples=60)
@given(st.lists(st.sampled_from(["paint", "rerun", "ours", "ours again", "napari", "napari again"]), max_size=20))
def test_the_log_says_what_the_mask_shows_whoever_undoes(actions):
    before, edit_watch.LARGE = edit_watch.LARGE, 100
    layer, watch = watched()
    try:
        for n, action in enumerate(actions):
            if action == "paint":
                brush(layer, (n % 2, 10, 8 + n % 5), n % 3)
            elif action == "rerun":
                rerun(layer, watch, n % 4)
            else:
                {"ours": watch.undo, "ours again": watch.redo, "napari": layer.undo, "napari again": layer.redo}[
                    action
                ]()
            replayed = np.zeros(SHAPE, np.uint8)
            for edit in watch.log.edits:
                edit.do(replayed)
            np.testing.assert_array_equal(replayed, layer.data)
    finally:
        edit_watch.LARGE = before
        watch.stop()


def test_the_box_of_a_dense_step_is_that_of_a_sparse_one():
    new = np.zeros(SHAPE, np.uint8)
    new[1:5, 3:17, 2:19] = 1
    edit = Edit.between(np.zeros(SHAPE, np.uint8), new, tool="t")
    assert edit.box == (slice(1, 5), slice(3, 17), slice(2, 19))
