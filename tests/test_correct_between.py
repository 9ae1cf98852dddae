"""Filling between slices: shapes whose middle is known."""

from __future__ import annotations

import numpy as np
import pytest

from napari_medattn.correct.between import fill_between
from napari_medattn.errors import InputError
from tests.correct_tools import applied, disk

PLANE = (31, 33)


def stack(*layers):
    return np.stack([np.zeros(PLANE, np.uint8) if layer is None else layer.astype(np.uint8) for layer in layers])


def filled(labels, **options):
    return applied(labels, fill_between(labels, **options))


class TestShapes:
    def test_between_equal_slices_it_repeats_them(self):
        same = disk(PLANE, (15, 16), 8)
        assert (filled(stack(same, None, None, same)) == same).all()

    def test_halfway_between_two_disks_the_radius_is_halfway(self):
        after = filled(stack(disk(PLANE, (15, 16), 4), None, disk(PLANE, (15, 16), 10)))
        assert np.abs(after[1].sum() / np.pi) ** 0.5 == pytest.approx(7, abs=0.5)

    def test_a_cone_is_filled_slice_by_slice(self):
        labels = stack(disk(PLANE, (15, 16), 3), None, None, None, None, disk(PLANE, (15, 16), 13))
        radii = np.sqrt(filled(labels).sum(axis=(1, 2)) / np.pi)
        assert np.allclose(radii, [3, 5, 7, 9, 11, 13], atol=0.6)

    def test_what_runs_askew_is_followed(self):
        labels = stack(disk(PLANE, (6, 6), 4), None, disk(PLANE, (24, 26), 4))
        assert np.array_equal(filled(labels)[1] > 0, disk(PLANE, (15, 16), 4))

    def test_as_published_outlines_that_do_not_overlap_leave_nothing(self):
        labels = stack(disk(PLANE, (6, 6), 4), None, disk(PLANE, (24, 26), 4))
        assert fill_between(labels, follow=False).count == 0

    def test_shapes_at_the_edge_of_the_image(self):
        corner = np.zeros(PLANE, bool)
        corner[:4, :5] = True
        assert (filled(stack(corner, None, corner))[1] == corner).all()

    def test_pixels_that_are_no_squares(self):
        labels = stack(disk(PLANE, (15, 16), 4), None, disk(PLANE, (15, 16), 10))
        same = fill_between(labels, spacing=(5, 1, 1)), fill_between(labels, spacing=(1, 2, 2))
        other = fill_between(labels, spacing=(1, 1, 4))
        assert np.array_equal(applied(labels, same[0]), applied(labels, same[1]))
        assert not np.array_equal(applied(labels, same[0]), applied(labels, other))

    @pytest.mark.parametrize("axis", [0, 1, 2, -1])
    def test_along_any_axis(self, axis):
        labels = stack(disk(PLANE, (15, 16), 4), None, disk(PLANE, (15, 16), 10))
        turned = np.ascontiguousarray(np.moveaxis(labels, 0, axis))
        assert np.array_equal(np.moveaxis(filled(turned, axis=axis), axis, 0), filled(labels))


class TestWhere:
    def test_only_between_slices_that_hold_the_class(self):
        one = disk(PLANE, (15, 16), 5)
        after = filled(stack(None, one, None, one, None))
        assert after.any(axis=(1, 2)).tolist() == [False, True, True, True, False]

    def test_what_is_drawn_in_between_stays(self):
        one, two = disk(PLANE, (15, 16), 8), 2 * disk(PLANE, (15, 16), 3)
        labels = stack(one, two, one)
        after = filled(labels)
        assert (after[1][two > 0] == 2).all()
        assert (after[1][one & (two == 0)] == 1).all()

    def test_each_class_by_itself(self):
        one, two = disk(PLANE, (15, 7), 5), disk(PLANE, (15, 24), 5)
        after = filled(stack(one + 2 * two, None, one, None, one + 2 * two))
        assert (after == one + 2 * two).all()

    def test_only_chosen_classes(self):
        one, two = disk(PLANE, (15, 7), 5), disk(PLANE, (15, 24), 5)
        assert set(np.unique(filled(stack(one + 2 * two, None, one + 2 * two), classes=[2])[1])) == {0, 2}

    def test_neighbours_do_not_grow_into_each_other(self):
        left, right = np.zeros(PLANE, bool), np.zeros(PLANE, bool)
        left[5:25, 5:16], right[5:25, 16:27] = True, True
        labels = stack(left + 2 * right, None, left + 2 * right)
        assert np.array_equal(filled(labels)[1], labels[0])

    def test_between_given_slices_leftovers_are_completed(self):
        same = disk(PLANE, (15, 16), 8)
        scrap = disk(PLANE, (15, 16), 2)
        labels = stack(same, scrap, same)
        assert fill_between(labels).count == 0
        assert (filled(labels, slices=[2, 0])[1] == same).all()

    def test_given_slices_are_counted_in_the_whole_mask(self):
        same = disk(PLANE, (15, 16), 8)
        labels = stack(None, same, None, same)
        box = np.s_[1:4, 0:31, 0:33]
        assert (filled(labels, box=box, slices=[1, 3])[2] == same).all()

    def test_a_slice_that_is_not_there_is_refused(self):
        with pytest.raises(InputError, match="no slice 7"):
            fill_between(np.ones((3, 4, 4), np.uint8), slices=[0, 7])

    def test_a_single_slice_has_nothing_between(self):
        with pytest.raises(InputError, match=r"\(4, 4\)"):
            fill_between(np.ones((4, 4), np.uint8))
