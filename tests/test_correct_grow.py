"""Growing strokes: a few voxels mend a region, and nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest

from napari_medattn.correct.grow import grow
from napari_medattn.errors import InputError
from tests.correct_tools import applied, ball, disk

SHAPE = (64, 64)
ORGAN = disk(SHAPE, (30, 30), 10)


def scan(*organs, noise=0.15, seed=0):
    """Organs of brightness 1, 2, ... on 0, through noise."""
    image = np.random.default_rng(seed).normal(0, noise, organs[0].shape)
    for number, organ in enumerate(organs, start=1):
        image[organ] += number
    return image


def line(y, x0, x1):
    return np.array([[y, x] for x in range(x0, x1)])


class TestRegions:
    def test_one_stroke_in_a_missed_organ_finds_it(self):
        after = applied(
            np.zeros(SHAPE, np.uint8), grow(np.zeros(SHAPE, np.uint8), {1: line(30, 26, 34)}, image=scan(ORGAN))
        )
        assert 2 * (after[ORGAN] == 1).sum() / (after.sum() + ORGAN.sum()) > 0.95

    def test_one_stroke_of_background_takes_a_false_part_away(self):
        false = disk(SHAPE, (30, 48), 6)
        labels = (ORGAN | false).astype(np.uint8)
        after = applied(labels, grow(labels, {0: line(30, 45, 51)}, image=scan(ORGAN)))
        assert after[false & ~ORGAN].mean() < 0.05
        assert after[ORGAN].mean() > 0.95

    def test_probabilities_alone_will_do(self):
        sure = np.where(ORGAN, 0.9, 0.1)
        labels = np.zeros(SHAPE, np.uint8)
        after = applied(labels, grow(labels, {1: line(30, 26, 34)}, probabilities=np.stack([1 - sure, sure])))
        assert np.array_equal(after == 1, ORGAN)

    def test_probabilities_help_where_the_image_shows_nothing(self):
        labels, image = np.zeros(SHAPE, np.uint8), scan(ORGAN, noise=3)
        sure = np.where(ORGAN, 0.6, 0.1)
        wrong = [
            int((applied(labels, grow(labels, {1: line(30, 26, 34)}, image=image, probabilities=p)) != ORGAN).sum())
            for p in (None, np.stack([1 - sure, sure]))
        ]
        assert wrong[1] < wrong[0] / 2

    def test_strokes_of_two_classes_meet_at_the_edge(self):
        left, right = disk(SHAPE, (30, 22), 8), disk(SHAPE, (30, 38), 8)
        labels = np.zeros(SHAPE, np.uint8)
        proposal = grow(labels, {1: line(30, 18, 26), 2: line(30, 34, 42)}, image=scan(left, right))
        after = applied(labels, proposal)
        assert (after[left & ~right] == 1).mean() > 0.95
        assert (after[right & ~left] == 2).mean() > 0.95

    def test_in_3d(self):
        organ = ball((12, 32, 32), (6, 16, 16), 5)
        labels = np.zeros(organ.shape, np.uint8)
        stroke = np.array([[6, 16, x] for x in range(13, 20)])
        after = applied(labels, grow(labels, {1: stroke}, image=scan(organ), reach=12))
        assert (after[organ] == 1).mean() > 0.9
        assert after[~organ].mean() < 0.02

    def test_the_unit_of_brightness_does_not_matter(self):
        labels, stroke = np.zeros(SHAPE, np.uint8), {1: line(30, 26, 34)}
        plain = grow(labels, stroke, image=scan(ORGAN))
        assert np.array_equal(
            applied(labels, plain), applied(labels, grow(labels, stroke, image=1000 * scan(ORGAN) - 500))
        )

    def test_nan_and_infinity_in_the_image(self):
        image = scan(ORGAN)
        image[30, 40], image[20, 30] = np.nan, np.inf
        after = applied(np.zeros(SHAPE, np.uint8), grow(np.zeros(SHAPE, np.uint8), {1: line(30, 26, 34)}, image=image))
        assert (after[ORGAN] == 1).mean() > 0.9


class TestKeptAsItIs:
    def test_nothing_farther_than_the_reach_changes(self):
        labels = np.zeros(SHAPE, np.uint8)
        after = applied(labels, grow(labels, {1: line(30, 30, 31)}, image=np.zeros(SHAPE), reach=6))
        assert not after[~disk(SHAPE, (30, 30), 6)].any()

    def test_reach_is_in_millimetres(self):
        organ = np.ones((9, 40, 40), bool)
        labels = np.zeros(organ.shape, np.uint8)
        sure = np.stack([np.full(organ.shape, 0.1), np.full(organ.shape, 0.9)])
        stroke = {1: np.array([[4, 20, 20]])}
        changed = applied(labels, grow(labels, stroke, probabilities=sure, reach=8, spacing=(5, 1, 2))).astype(bool)
        extent = [np.ptp(axis) // 2 for axis in np.nonzero(changed)]
        assert extent[0] <= 1
        assert extent[2] <= extent[1] / 2 + 1

    def test_only_labels_under_the_stroke_may_change(self):
        labels = np.zeros(SHAPE, np.uint8)
        labels[:, 31:] = 2
        after = applied(labels, grow(labels, {1: line(30, 26, 30)}, image=scan(ORGAN)))
        assert np.array_equal(after[labels == 2], labels[labels == 2])

    def test_a_stroke_over_its_own_label_holds_it(self):
        labels, image = np.zeros(SHAPE, np.uint8), scan(ORGAN)
        hold = disk(SHAPE, (30, 30), 10) & (np.arange(64)[None] > 34)
        strokes = {1: line(30, 22, 28), 0: np.argwhere(hold)}
        after = applied(labels, grow(labels, strokes, image=image))
        assert not after[hold].any()
        assert after[30, 24] == 1

    def test_the_stroke_itself_becomes_what_it_says(self):
        random = np.random.default_rng(0)
        stroke = np.argwhere(random.random(SHAPE) < 0.02)
        labels = random.integers(0, 3, SHAPE).astype(np.uint8)
        after = applied(labels, grow(labels, {2: stroke}, image=scan(ORGAN)))
        assert (after[tuple(stroke.T)] == 2).all()

    def test_where_strokes_cross_the_later_one_holds(self):
        labels = np.zeros(SHAPE, np.uint8)
        strokes = {1: line(30, 20, 40), 2: np.array([[y, 30] for y in range(20, 40)])}
        assert applied(labels, grow(labels, strokes, image=scan(ORGAN)))[30, 30] == 2

    def test_a_slice_of_a_volume_is_grown_like_an_image(self):
        labels, image = np.zeros((3, *SHAPE), np.uint8), np.stack([scan(ORGAN, seed=n) for n in range(3)])
        stroke = np.column_stack([np.full(8, 1), line(30, 26, 34)])
        deep = applied(labels, grow(labels, {1: stroke}, image=image, box=np.s_[1:2, 0:64, 0:64], spacing=(9, 1, 1)))
        flat = applied(labels[1], grow(labels[1], {1: stroke[:, 1:]}, image=image[1]))
        assert np.array_equal(deep[1], flat)
        assert not deep[[0, 2]].any()

    def test_no_stroke_no_change(self):
        labels = ORGAN.astype(np.uint8)
        assert grow(labels, {}, image=scan(ORGAN)).count == 0
        assert grow(labels, {1: np.empty((0, 2), int)}, image=scan(ORGAN)).count == 0

    def test_strokes_beside_the_box_are_left_out(self):
        labels = np.zeros(SHAPE, np.uint8)
        assert grow(labels, {1: line(30, 26, 34)}, image=scan(ORGAN), box=np.s_[0:20, 0:64]).count == 0


class TestRefused:
    def test_nothing_to_grow_along(self):
        with pytest.raises(InputError, match="image or probabilities"):
            grow(np.zeros(SHAPE, np.uint8), {1: line(30, 26, 34)})

    @pytest.mark.parametrize("what", ["image", "probabilities"])
    def test_arrays_of_another_shape(self, what):
        array = np.zeros((2, 64, 63) if what == "probabilities" else (64, 63))
        with pytest.raises(InputError, match=what):
            grow(np.zeros(SHAPE, np.uint8), {1: line(30, 26, 34)}, **{what: array})

    @pytest.mark.parametrize("label", [-1, 256])
    def test_a_label_that_the_mask_cannot_hold(self, label):
        with pytest.raises(InputError, match="cannot hold"):
            grow(np.zeros(SHAPE, np.uint8), {label: line(30, 26, 34)}, image=scan(ORGAN))

    @pytest.mark.parametrize("stroke", [np.zeros((3, 3), int), np.zeros(4, int), np.full((2, 2), 0.5)])
    def test_strokes_that_are_no_voxels(self, stroke):
        with pytest.raises(InputError, match="stroke"):
            grow(np.zeros(SHAPE, np.uint8), {1: stroke}, image=scan(ORGAN))

    @pytest.mark.parametrize("reach", [0, -5, float("nan")])
    def test_no_reach(self, reach):
        with pytest.raises(InputError, match="reach"):
            grow(np.zeros(SHAPE, np.uint8), {1: line(30, 26, 34)}, image=scan(ORGAN), reach=reach)
