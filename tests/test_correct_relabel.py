"""Split, merge, relabel, copy and threshold, on masks that one can check by eye."""

from __future__ import annotations

import numpy as np
import pytest

from napari_medattn.correct.brush import threshold_in_brush
from napari_medattn.correct.relabel import copy_slice, merge, relabel
from napari_medattn.correct.split import split, split_at_waist
from napari_medattn.errors import InputError
from tests.correct_tools import applied, ball, disk, drawn


class TestSplit:
    def test_the_largest_part_keeps_the_label(self):
        labels = drawn("1.11.1 1.11.. ..11..")
        assert applied(labels, split(labels, 1)).tolist() == drawn("2.11.3 2.11.. ..11..").tolist()

    def test_new_labels_come_after_the_highest(self):
        labels = drawn("11.1.7")
        assert applied(labels, split(labels, 1)).tolist() == drawn("11.8.7").tolist()

    def test_or_where_one_says(self):
        labels = drawn("11.1.7")
        assert applied(labels, split(labels, 1, first=3)).tolist() == drawn("11.3.7").tolist()

    def test_one_part_stays(self):
        assert split(drawn("111"), 1).count == 0

    def test_labels_that_the_mask_cannot_hold_are_refused(self):
        with pytest.raises(InputError, match="256"):
            split(np.array([[255, 0, 255]], np.uint8), 255)


class TestWaist:
    LEFT, RIGHT = disk((30, 50), (15, 15), 9), disk((30, 50), (15, 32), 10)

    def test_two_disks_that_overlap_are_cut_between(self):
        labels = (self.LEFT | self.RIGHT).astype(np.uint8)
        after = applied(labels, split_at_waist(labels, (15, 15)))
        assert np.array_equal(after > 0, labels > 0)
        assert set(after[:, :22][labels[:, :22] > 0]) == {2}
        assert set(after[:, 26:][labels[:, 26:] > 0]) == {1}

    def test_in_a_slice_of_a_volume(self):
        labels = np.stack([(self.LEFT | self.RIGHT).astype(np.uint8)] * 3)
        after = applied(labels, split_at_waist(labels, (1, 15, 15), box=np.s_[1:2, 0:30, 0:50], spacing=(9, 1, 1)))
        assert np.array_equal(after[1], applied(labels[1], split_at_waist(labels[1], (15, 15))))
        assert np.array_equal(after[0], labels[0])

    def test_in_3d(self):
        labels = (ball((16, 18, 30), (8, 9, 9), 6) | ball((16, 18, 30), (8, 9, 20), 6)).astype(np.uint8)
        after = applied(labels, split_at_waist(labels, (8, 9, 9)))
        assert after[8, 9, 9] != after[8, 9, 20]
        assert sorted(np.unique(after)) == [0, 1, 2]

    def test_three_parts(self):
        labels = np.zeros((20, 60), np.uint8)
        for x in (10, 28, 46):
            labels[disk((20, 60), (10, x), 9.4)] = 4
        after = applied(labels, split_at_waist(labels, (10, 10), 3))
        assert len({int(after[10, x]) for x in (10, 28, 46)}) == 3

    def test_other_parts_of_the_class_stay(self):
        labels = (self.LEFT | self.RIGHT).astype(np.uint8)
        labels[0, 49] = 1
        assert applied(labels, split_at_waist(labels, (15, 15)))[0, 49] == 1

    def test_a_disk_has_no_waist(self):
        with pytest.raises(InputError, match="2 bulges"):
            split_at_waist(self.LEFT.astype(np.uint8), (15, 15))

    def test_background_cannot_be_split(self):
        with pytest.raises(InputError, match="background"):
            split_at_waist(self.LEFT.astype(np.uint8), (0, 0))


class TestMergeAndRelabel:
    def test_sources_become_the_target(self):
        labels = drawn("1223.4")
        assert applied(labels, merge(labels, [2, 4], 3)).tolist() == drawn("1333.3").tolist()

    def test_merging_with_the_background_deletes(self):
        labels = drawn("12")
        assert applied(labels, merge(labels, [2], 0)).tolist() == [[1, 0]]

    def test_the_background_is_no_source(self):
        with pytest.raises(InputError, match="0 is no class"):
            merge(drawn("12"), [0, 1], 2)

    def test_only_the_part_that_was_clicked(self):
        labels = drawn("11.1")
        assert applied(labels, relabel(labels, (0, 3), 5)).tolist() == drawn("11.5").tolist()

    def test_background_stays_background(self):
        assert relabel(drawn("11.1"), (0, 2), 5).count == 0

    def test_a_label_that_the_mask_cannot_hold_is_refused(self):
        with pytest.raises(InputError, match="cannot hold"):
            relabel(drawn("1"), (0, 0), 300)


class TestCopy:
    LABELS = np.stack([drawn("112. 112."), drawn("..33 ...1"), drawn(".... ....")])

    def test_everything_is_as_there(self):
        after = applied(self.LABELS, copy_slice(self.LABELS, 0, 1))
        assert np.array_equal(after[1], self.LABELS[0])
        assert np.array_equal(after[[0, 2]], self.LABELS[[0, 2]])

    def test_onto_background_only(self):
        after = applied(self.LABELS, copy_slice(self.LABELS, 0, 1, background_only=True))
        assert after[1].tolist() == drawn("1133 1121").tolist()

    def test_chosen_classes_look_as_there_and_others_stay(self):
        after = applied(self.LABELS, copy_slice(self.LABELS, 0, 1, classes=[1]))
        assert after[1].tolist() == drawn("1133 11..").tolist()

    @pytest.mark.parametrize("axis", [1, 2, -1])
    def test_along_another_axis(self, axis):
        turned = np.moveaxis(self.LABELS, 0, axis)
        after = np.moveaxis(applied(turned, copy_slice(turned, 0, 1, axis=axis)), axis, 0)
        assert np.array_equal(after[1], self.LABELS[0])

    def test_within_a_box(self):
        after = applied(self.LABELS, copy_slice(self.LABELS, 0, 2, box=np.s_[0:3, 0:1, 0:4]))
        assert after[2].tolist() == drawn("112. ....").tolist()

    @pytest.mark.parametrize("target", [-1, 3])
    def test_a_slice_that_is_not_there_is_refused(self, target):
        with pytest.raises(InputError, match="no slice"):
            copy_slice(self.LABELS, 0, target)


class TestThreshold:
    IMAGE = np.tile(np.arange(20.0), (20, 1))
    EMPTY = np.zeros((20, 20), np.uint8)

    def test_between_the_limits_under_the_brush(self):
        after = applied(self.EMPTY, threshold_in_brush(self.EMPTY, self.IMAGE, (10, 10), 4, 3, lower=9, upper=12))
        assert np.array_equal(after == 3, disk((20, 20), (10, 10), 4) & (self.IMAGE >= 9) & (self.IMAGE <= 12))

    @pytest.mark.parametrize(("x", "side"), [(12, "bright"), (7, "dark")])
    def test_without_limits_the_side_of_the_middle(self, x, side):
        image = np.where(np.arange(20)[None] >= 10, 5.0, 1.0) * np.ones((20, 1))
        after = applied(self.EMPTY, threshold_in_brush(self.EMPTY, image, (10, x), 4, 1))
        assert np.array_equal(after == 1, disk((20, 20), (10, x), 4) & ((image > 3) == (side == "bright")))

    def test_a_flat_image_is_all_taken(self):
        after = applied(self.EMPTY, threshold_in_brush(self.EMPTY, self.EMPTY, (10, 10), 2, 1))
        assert np.array_equal(after == 1, disk((20, 20), (10, 10), 2))

    def test_foreground_stays_unless_asked(self):
        labels = self.EMPTY + np.uint8(2)
        assert threshold_in_brush(labels, self.IMAGE, (10, 10), 4, 1, lower=0).count == 0
        assert threshold_in_brush(labels, self.IMAGE, (10, 10), 4, 1, lower=0, background_only=False).count == 49

    def test_a_ball_in_millimetres(self):
        labels, image = np.zeros((9, 9, 9), np.uint8), np.ones((9, 9, 9))
        after = applied(labels, threshold_in_brush(labels, image, (4, 4, 4), 4, 1, lower=0, spacing=(4, 2, 1)))
        assert [int(np.ptp(axis)) for axis in np.nonzero(after)] == [2, 4, 8]

    def test_partly_outside_of_the_image(self):
        after = applied(self.EMPTY, threshold_in_brush(self.EMPTY, self.IMAGE, (-1, 0), 3, 1, lower=-1))
        assert np.array_equal(after == 1, disk((20, 20), (-1, 0), 3))

    def test_nan_is_never_taken(self):
        image = self.IMAGE.copy()
        image[10, 10] = np.nan
        assert applied(self.EMPTY, threshold_in_brush(self.EMPTY, image, (10, 10), 4, 1))[10, 10] == 0

    @pytest.mark.parametrize("radius", [0, -1, float("nan")])
    def test_no_brush_is_refused(self, radius):
        with pytest.raises(InputError, match="brush"):
            threshold_in_brush(self.EMPTY, self.IMAGE, (10, 10), radius, 1)

    def test_an_image_of_another_shape_is_refused(self):
        with pytest.raises(InputError, match="image has shape"):
            threshold_in_brush(self.EMPTY, self.IMAGE[:9], (10, 10), 2, 1)
