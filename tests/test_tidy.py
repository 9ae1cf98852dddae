"""Tidying a mask after a run: what goes, what stays, and what takes its place."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy import ndimage

from napari_medattn.data.tidy import Tidy, tidy
from napari_medattn.errors import InputError

UNIT = (1.0, 1.0, 1.0)


def done(labels, step, spacing=UNIT):
    """The tidied copy; the count that is returned is checked against it."""
    after = np.array(labels, np.uint8)
    before = after.copy()
    changed = tidy(after, Tidy.parse(step), spacing)
    assert changed == np.count_nonzero(after != before)
    return after


def mask(shape=(8, 12, 12), **boxes):
    """Zeros with ``a1=(z, y, x, side)`` as cubes of class 1."""
    labels = np.zeros(shape, np.uint8)
    for name, (z, y, x, side) in boxes.items():
        labels[z : z + side, y : y + side, x : x + side] = int(name[1:].split("_")[0])
    return labels


class TestLargest:
    def test_the_smaller_part_becomes_background(self):
        labels = mask(a1=(0, 0, 0, 3), b1_2=(5, 6, 6, 2))
        np.testing.assert_array_equal(done(labels, "largest"), mask(a1=(0, 0, 0, 3)))

    def test_each_class_keeps_its_own(self):
        labels = mask(a1=(0, 0, 0, 3), b2=(0, 6, 6, 2), c2_2=(5, 0, 0, 1))
        np.testing.assert_array_equal(done(labels, "largest"), mask(a1=(0, 0, 0, 3), b2=(0, 6, 6, 2)))

    def test_an_island_inside_another_class_becomes_that_class(self):
        labels = mask(a1=(0, 0, 0, 5), b2=(2, 2, 2, 1), c2_2=(0, 8, 8, 3))
        np.testing.assert_array_equal(done(labels, "largest"), mask(a1=(0, 0, 0, 5), c2=(0, 8, 8, 3)))

    def test_other_classes_than_those_chosen_stay(self):
        labels = mask(a1=(0, 0, 0, 3), b1_2=(5, 6, 6, 2), c2=(0, 6, 6, 2), d2_2=(6, 0, 0, 1))
        expected = mask(a1=(0, 0, 0, 3), c2=(0, 6, 6, 2), d2_2=(6, 0, 0, 1))
        np.testing.assert_array_equal(done(labels, "largest@1"), expected)

    @given(st.integers(0, 1000))
    def test_one_part_of_each_class_is_left(self, seed):
        labels = np.random.default_rng(seed).integers(0, 3, (3, 6, 6)).astype(np.uint8)
        after = done(labels, "largest@1")
        assert ndimage.label(after == 1)[1] <= 1


class TestSmall:
    def test_the_size_is_in_cubic_millimetres(self):
        labels = mask(a1=(0, 0, 0, 2), b1_2=(4, 6, 6, 3))  # 8 and 27 voxels
        spacing = (2.0, 0.5, 0.5)  # half a cubic millimetre each
        np.testing.assert_array_equal(done(labels, "small:4", spacing), labels)
        np.testing.assert_array_equal(done(labels, "small:4.1", spacing), mask(b1=(4, 6, 6, 3)))

    def test_in_a_single_slice_it_is_in_square_millimetres(self):
        labels = np.zeros((1, 8, 8), np.uint8)
        labels[0, :2, :2] = 1
        np.testing.assert_array_equal(done(labels, "small:4", (5.0, 1.0, 1.0)), labels)

    def test_nothing_is_left_of_a_mask_of_small_parts(self):
        assert not done(mask(a1=(0, 0, 0, 1), b1_2=(4, 4, 4, 1)), "small:2").any()


class TestHoles:
    def test_an_enclosed_hole_is_filled(self):
        labels = mask(a1=(1, 1, 1, 5))
        hollow = labels.copy()
        hollow[3, 3, 3] = 0
        np.testing.assert_array_equal(done(hollow, "holes"), labels)

    def test_a_dent_is_no_hole(self):
        labels = mask(a1=(1, 1, 1, 5))
        labels[3:, 3, 3] = 0
        np.testing.assert_array_equal(done(labels, "holes"), labels)

    def test_a_larger_hole_than_allowed_stays(self):
        labels = mask(a1=(1, 1, 1, 6))
        labels[3:5, 3:5, 3:5] = 0
        np.testing.assert_array_equal(done(labels, "holes:7"), labels)
        np.testing.assert_array_equal(done(labels, "holes:8"), mask(a1=(1, 1, 1, 6)))

    def test_a_ring_in_a_2d_image_is_filled(self):
        labels = np.zeros((1, 7, 7), np.uint8)
        labels[0, 1:6, 1:6] = 1
        full = labels.copy()
        labels[0, 3, 3] = 0
        np.testing.assert_array_equal(done(labels, "holes"), full)

    def test_a_hole_that_holds_another_class_stays(self):
        labels = mask(a1=(0, 0, 0, 7))
        labels[2:5, 2:5, 2:5] = 0
        labels[3, 3, 3] = 2
        np.testing.assert_array_equal(done(labels, "holes@1"), labels)


class TestSmooth:
    def test_a_spike_goes_and_a_flat_side_stays(self):
        labels = np.zeros((12, 12, 12), np.uint8)
        labels[:, :6] = 1
        flat = labels.copy()
        labels[6, 6:9, 6] = 1
        np.testing.assert_array_equal(done(labels, "smooth:1"), flat)

    def test_it_goes_by_millimetres(self):
        labels = mask(a1=(2, 4, 4, 1))
        assert done(labels, "smooth:1", (50.0, 50.0, 50.0)).any()
        assert not done(labels, "smooth:1").any()


class TestText:
    @given(
        st.sampled_from([("largest", None), ("small", 12.5), ("holes", None), ("holes", 3.0), ("smooth", 0.75)]),
        st.sampled_from([(), (1,), (2, 5)]),
    )
    def test_it_comes_back_the_same(self, step, classes):
        made = Tidy(*step, classes)
        assert Tidy.parse(str(made)) == made

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("shave", "no step 'shave'"),
            ("small", "needs a size"),
            ("small:big", "'small:big' is no step"),
            ("smooth:-1", "by a size of -1"),
            ("largest:4", "whatever its size"),
            ("largest@0", "classes from 1 up"),
            ("small:nan", "by a size of nan"),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, text, why):
        with pytest.raises(InputError, match=why):
            Tidy.parse(text)
