"""A lazy map reads like the array that it stands for, and draws nothing that nobody looks at."""

import numpy as np
import pytest

from napari_medattn.widgets.look.lazy import LazyMap

VALUES = np.arange(3 * 4 * 5, dtype=np.float32).reshape(3, 4, 5)


@pytest.fixture
def lazy():
    return LazyMap(VALUES.shape, 3, lambda box: VALUES[box])


@pytest.mark.parametrize(
    "index",
    [
        np.s_[1],
        np.s_[-1],
        np.s_[1, :, :],
        np.s_[:, 2],
        np.s_[..., 3],
        np.s_[0, ..., 4],
        np.s_[:, ::-1, 1:3],
        np.s_[::2, 3:0:-2],
        np.s_[2, 3, 4],
        np.s_[np.int64(1), 1:1],
        (),
    ],
    ids=str,
)
def test_it_is_indexed_like_an_array(lazy, index):
    found = lazy[index]
    np.testing.assert_array_equal(found, VALUES[index])
    assert np.shape(found) == np.shape(VALUES[index])


def test_it_becomes_an_array(lazy):
    np.testing.assert_array_equal(np.asarray(lazy), VALUES)
    assert (len(lazy), lazy.size, lazy.dtype) == (3, 60, np.float32)


def test_only_what_is_looked_at_is_drawn():
    boxes = []
    lazy = LazyMap((3, 4, 5), 3, lambda box: boxes.append(box) or VALUES[box])
    assert boxes == []
    assert lazy[1, 1:3].shape == (2, 5)
    assert boxes == [np.s_[1:2, 1:3, 0:5]]


def test_a_2d_image_is_the_slice_at_zero():
    lazy = LazyMap((1, 4, 5), 2, lambda box: VALUES[box])
    assert lazy.shape == (4, 5)
    np.testing.assert_array_equal(lazy[2], VALUES[0, 2])


def test_what_is_unknown_is_nan():
    assert np.isnan(LazyMap((3, 4, 5), 3, lambda box: None)[0]).all()


@pytest.mark.parametrize("index", [3, -4, np.s_[0, 4]])
def test_outside_there_is_nothing(lazy, index):
    with pytest.raises(IndexError, match="out of bounds"):
        lazy[index]
