"""Smoothing, holes and islands, on masks that one can check by eye."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st

from napari_medattn.correct.clean import fill_holes, keep_largest, remove_island, remove_islands, smooth
from napari_medattn.errors import InputError
from tests.correct_tools import applied, ball, disk, drawn


class TestHoles:
    def test_a_hole_takes_the_class_around_it(self):
        labels = drawn("11111 1...1 1.1.1 1...1 11111")
        assert (applied(labels, fill_holes(labels)) == 1).all()

    def test_a_bay_is_no_hole(self):
        labels = drawn("11.11 1...1 11111")
        assert fill_holes(labels).count == 0

    def test_another_class_in_a_ring_stays(self):
        labels = drawn("22222 2.332 23332 22222")
        assert np.array_equal(applied(labels, fill_holes(labels)) == 3, labels == 3)

    def test_only_holes_that_the_chosen_classes_enclose(self):
        labels = drawn("1112222 1.12.32 1112222")
        assert applied(labels, fill_holes(labels, classes=[1])).tolist() == drawn("1112222 1112.32 1112222").tolist()

    def test_large_ones_can_be_left(self):
        labels = drawn("1111111 1.11..1 1111111")
        after = applied(labels, fill_holes(labels, largest=1.5))
        assert after.tolist() == drawn("1111111 1111..1 1111111").tolist()

    def test_size_is_in_square_millimetres_within_a_slice(self):
        labels = drawn("111 1.1 111")[None]
        assert fill_holes(labels, largest=5.9, spacing=(10, 2, 3)).count == 0
        assert fill_holes(labels, largest=6, spacing=(10, 2, 3)).count == 1

    def test_a_tunnel_is_a_hole_of_the_slice_but_not_in_3d(self):
        labels = np.ones((3, 3, 3), np.uint8)
        labels[:, 1, 1] = 0
        assert fill_holes(labels).count == 0
        assert fill_holes(labels, box=np.s_[1:2, 0:3, 0:3]).count == 1


class TestIslands:
    def test_small_parts_go_and_large_ones_stay(self):
        labels = drawn("111.2 111.. ....1")
        assert applied(labels, remove_islands(labels, 2)).tolist() == drawn("111.. 111.. .....").tolist()

    def test_an_island_in_another_class_becomes_that_class(self):
        labels = drawn("11111 11211 11111")
        assert (applied(labels, remove_islands(labels, 2)) == 1).all()

    def test_only_the_chosen_classes(self):
        labels = drawn("1.2")
        assert applied(labels, remove_islands(labels, 2, classes=[2])).tolist() == [[1, 0, 0]]

    def test_size_is_in_cubic_millimetres(self):
        labels = np.zeros((3, 3, 3), np.uint8)
        labels[1, 1, 1] = 1
        assert remove_islands(labels, 20, spacing=(5, 2, 2)).count == 0
        assert remove_islands(labels, 20.1, spacing=(5, 2, 2)).count == 1

    def test_a_part_that_goes_on_outside_of_the_box_stays(self):
        labels = drawn("..... .1111 ..... .1...")
        after = applied(labels, remove_islands(labels, 3, box=np.s_[0:4, 0:3]))
        assert after.tolist() == drawn("..... .1111 ..... .....").tolist()

    def test_in_a_slice_its_part_of_the_slice_counts(self):
        labels = np.zeros((3, 3, 3), np.uint8)
        labels[:, 1, 1] = 1
        assert remove_islands(labels, 2, box=np.s_[1:2, 0:3, 0:3]).count == 1

    def test_the_one_that_was_clicked(self):
        labels = drawn("1.1 1.1 ..2")
        assert applied(labels, remove_island(labels, (0, 2))).tolist() == drawn("1.. 1.. ..2").tolist()

    def test_a_click_on_background_does_nothing(self):
        assert remove_island(drawn("1.1"), (0, 1)).count == 0

    def test_a_click_beside_the_box_is_refused(self):
        with pytest.raises(InputError, match="does not lie in the box"):
            remove_island(drawn("1.1"), (0, 2), box=np.s_[0:1, 0:2])

    @given(seed=st.integers(0, 500))
    def test_each_class_has_one_part_afterwards(self, seed):
        from scipy import ndimage

        random = np.random.default_rng(seed)
        labels = random.integers(0, 2, (7, 8)).astype(np.uint8) * 2
        after = applied(labels, keep_largest(labels))
        assert ndimage.label(after == 2)[1] <= 1

    def test_the_largest_is_kept(self):
        labels = drawn("11..1 ...22 2..22")
        assert applied(labels, keep_largest(labels)).tolist() == drawn("11... ...22 ...22").tolist()


class TestSmooth:
    def test_a_spike_goes_and_the_body_stays(self):
        labels = disk((21, 21), (12, 10), 6).astype(np.uint8)
        labels[0:6, 10] = 1
        after = applied(labels, smooth(labels, 1.0))
        assert not after[:5].any()
        assert after[disk((21, 21), (12, 10), 5)].all()

    def test_a_straight_border_between_classes_stays(self):
        labels = np.ones((8, 12), np.uint8)
        labels[:, 6:] = 2
        assert smooth(labels, 2.0).count == 0

    def test_no_gap_opens_where_classes_touch(self):
        random = np.random.default_rng(0)
        border = 10 + random.integers(-2, 3, 20)
        labels = np.where(np.arange(20)[None] < border[:, None], 1, 2).astype(np.uint8)
        assert (applied(labels, smooth(labels, 1.5)) > 0).all()

    def test_classes_that_were_not_chosen_keep_every_voxel(self):
        random = np.random.default_rng(1)
        labels = random.integers(0, 4, (12, 12)).astype(np.uint8)
        after = applied(labels, smooth(labels, 1.0, classes=[1]))
        assert np.array_equal(np.isin(after, [2, 3]), np.isin(labels, [2, 3]))

    def test_a_box_gives_the_same_as_everything_inside_of_it(self):
        labels = (np.random.default_rng(2).random((24, 24)) < 0.6).astype(np.uint8)
        box = np.s_[6:15, 4:20]
        assert np.array_equal(applied(labels, smooth(labels, 1.0, box=box))[box], applied(labels, smooth(labels))[box])

    def test_millimetres_reach_fewer_thick_slices(self):
        labels = ball((9, 21, 21), (4, 10, 10), 4).astype(np.uint8)
        labels[0, 10, 10] = 1
        thick = applied(labels, smooth(labels, 2.0, spacing=(50, 1, 1)))
        for n in range(9):
            flat = applied(labels[n], smooth(labels[n], 2.0))
            assert np.array_equal(thick[n], flat)

    @pytest.mark.parametrize("sigma", [0, -1, float("nan")])
    def test_no_length_is_refused(self, sigma):
        with pytest.raises(InputError, match="above 0"):
            smooth(drawn("11"), sigma)

    @pytest.mark.parametrize("spacing", [(1, 1, 1), (1, 0), (1, -2), (1, float("inf"))])
    def test_a_voxel_size_that_does_not_fit_is_refused(self, spacing):
        with pytest.raises(InputError, match="voxel size"):
            smooth(drawn("11"), 1, spacing=spacing)
