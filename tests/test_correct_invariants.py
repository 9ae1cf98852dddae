"""What every tool promises: it writes nothing, stays in its box, and has nothing to say of an empty mask."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from napari_medattn.correct.between import fill_between
from napari_medattn.correct.brush import threshold_in_brush
from napari_medattn.correct.clean import fill_holes, keep_largest, remove_island, remove_islands, smooth
from napari_medattn.correct.grow import grow
from napari_medattn.correct.relabel import copy_slice, merge, relabel
from napari_medattn.correct.split import split
from napari_medattn.errors import InputError
from tests.correct_tools import applied

SHAPE = (5, 9, 10)
IMAGE = np.random.default_rng(0).normal(size=SHAPE)
CENTRE = (2, 4, 5)


def strokes():
    return {1: np.array([[2, 4, 5], [2, 4, 6]]), 0: np.array([[2, 2, 2]])}


TOOLS = {
    "smooth": lambda labels, box: smooth(labels, 1.0, box=box),
    "fill holes": lambda labels, box: fill_holes(labels, box=box),
    "remove islands": lambda labels, box: remove_islands(labels, 6, box=box),
    "remove island": lambda labels, box: remove_island(labels, CENTRE, box=box),
    "keep the largest": lambda labels, box: keep_largest(labels, box=box),
    "fill between": lambda labels, box: fill_between(labels, box=box),
    "grow": lambda labels, box: grow(labels, strokes(), image=IMAGE, box=box, reach=3),
    "split": lambda labels, box: split(labels, 1, box=box),
    "merge": lambda labels, box: merge(labels, [1, 2], 3, box=box),
    "relabel": lambda labels, box: relabel(labels, CENTRE, 3, box=box),
    "copy slice": lambda labels, box: copy_slice(labels, 1, 2, box=box),
    "threshold": lambda labels, box: threshold_in_brush(labels, IMAGE, CENTRE, 3, 1, box=box),
}
SETTLES = {"fill holes", "remove islands", "keep the largest", "fill between", "merge", "copy slice", "threshold"}
DRAWS = {"grow", "threshold"}
ADDS_ONLY = {"fill holes", "fill between", "threshold"}
each_tool = pytest.mark.parametrize("name", TOOLS)
BOXES = {"all": (), "slice": np.s_[2:3, 0:9, 0:10], "selection": np.s_[1:4, 2:8, 3:9]}
each_box = pytest.mark.parametrize("box", BOXES.values(), ids=BOXES)


def some_masks():
    """Blobs and dust of three classes."""
    return st.integers(0, 10_000).map(_mask)


def _mask(seed):
    random = np.random.default_rng(seed)
    labels = np.zeros(SHAPE, np.uint8)
    for _ in range(6):
        corner = [random.integers(0, n) for n in SHAPE]
        labels[tuple(slice(c, c + random.integers(1, 5)) for c in corner)] = random.integers(0, 4)
    return labels


@each_tool
@each_box
@settings(max_examples=8)
@given(labels=some_masks())
def test_nothing_changes_outside_of_the_box(name, box, labels):
    proposal = TOOLS[name](labels, box)
    outside = np.ones(SHAPE, bool)
    outside[box] = False
    assert np.array_equal(applied(labels, proposal)[outside], labels[outside])


@each_tool
@settings(max_examples=8)
@given(labels=some_masks())
def test_the_mask_itself_is_not_written_to(name, labels):
    before = labels.copy()
    labels.flags.writeable = False
    TOOLS[name](labels, ())
    assert np.array_equal(labels, before)


@each_tool
@settings(max_examples=8)
@given(labels=some_masks())
def test_changes_are_exactly_what_differs(name, labels):
    proposal = TOOLS[name](labels, ())
    assert np.array_equal(proposal.changes, proposal.labels != labels[proposal.box])


@each_tool
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint32, np.int64])
def test_the_type_of_the_mask_is_kept(name, dtype):
    assert TOOLS[name](_mask(3).astype(dtype), ()).labels.dtype == dtype


@pytest.mark.parametrize("name", sorted(set(TOOLS) - DRAWS))
def test_an_empty_mask_gives_an_empty_proposal(name):
    assert TOOLS[name](np.zeros(SHAPE, np.uint8), ()).count == 0


@pytest.mark.parametrize("name", sorted(SETTLES))
@settings(max_examples=8)
@given(labels=some_masks())
def test_doing_it_again_changes_nothing(name, labels):
    once = applied(labels, TOOLS[name](labels, ()))
    assert TOOLS[name](once, ()).count == 0


@pytest.mark.parametrize("name", sorted(ADDS_ONLY))
@settings(max_examples=8)
@given(labels=some_masks())
def test_it_fills_background_only(name, labels):
    assert np.array_equal(applied(labels, TOOLS[name](labels, ()))[labels > 0], labels[labels > 0])


@each_tool
@pytest.mark.parametrize(
    "box",
    [np.s_[0:2, 0:2], np.s_[0:2, 0:3, 4:4], np.s_[0:6, 0:3, 0:3], np.s_[-2:5, 0:3, 0:3], np.s_[0:4:2, 0:3, 0:3]],
    ids=["two axes", "empty", "outside", "negative", "steps"],
)
def test_a_box_that_does_not_fit_is_refused(name, box):
    with pytest.raises(InputError, match="box"):
        TOOLS[name](_mask(1), box)


@each_tool
def test_a_mask_of_fractions_is_refused(name):
    with pytest.raises(InputError, match="float64"):
        TOOLS[name](np.zeros(SHAPE), ())


@each_tool
def test_huge_and_negative_labels_are_no_trouble(name):
    labels = _mask(5).astype(np.int64)
    labels[labels == 2] = 2**40
    labels[0, 0, 0] = -3
    after = applied(labels, TOOLS[name](labels, ()))
    assert set(np.unique(after)) <= {*np.unique(labels), 0, 1, 3, 2**40 + 1}
