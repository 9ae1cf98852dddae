"""The simulated annotator: honest, repeatable, and getting there."""

from __future__ import annotations

import numpy as np
import pytest

from napari_medattn.correct.annotator import Annotator, Hand, Hidden, wrong_voxels
from napari_medattn.correct.lines import best_line, brushed, errors, middle_line
from napari_medattn.errors import InputError
from tests.correct_tools import ball, disk, drawn

SHAPE = (5, 48, 48)
TRUTH = ball(SHAPE, (2, 24, 24), 14).astype(np.uint8)
STEADY = Hand(shake=0)
FINE = (0, 1, 3)


def annotator(labels, **options):
    image = TRUTH + np.random.default_rng(0).normal(0, 0.1, SHAPE)
    return Annotator(labels, Hidden(TRUTH), (4, 1, 1), image=image, **options)


class TestHonesty:
    def test_a_slice_that_was_not_looked_at_is_not_shown(self):
        with pytest.raises(InputError, match="was not looked at"):
            Hidden(TRUTH).slice(2)

    def test_correcting_a_slice_looks_at_that_slice_alone(self):
        someone = annotator(np.zeros(SHAPE, np.uint8))
        someone.correct(3)
        someone.correct(1)
        assert someone.truth.looked == [3, 1]

    def test_other_slices_stay(self):
        labels = np.zeros(SHAPE, np.uint8)
        annotator(labels, tools=frozenset({"grow"})).correct(2)
        assert labels[2].any()
        assert not labels[[0, 1, 3, 4]].any()

    def test_the_truth_of_other_slices_does_not_matter(self):
        other = TRUTH.copy()
        other[[0, 1, 3, 4]] = np.random.default_rng(0).integers(0, 2, (4, 48, 48))
        results = []
        for truth in (TRUTH, other):
            labels = np.zeros(SHAPE, np.uint8)
            Annotator(labels, Hidden(truth), (4, 1, 1)).correct(2)
            results.append(labels[2])
        assert np.array_equal(*results)


class TestCorrecting:
    @pytest.mark.parametrize("tools", [frozenset(), frozenset({"grow"})])
    def test_no_error_worth_a_stroke_is_left(self, tools):
        labels = np.zeros(SHAPE, np.uint8)
        annotator(labels, tools=tools).correct(2)
        for error in errors(labels[2], TRUTH[2], Hand().worth):
            line = best_line(labels[2], TRUTH[2], error, Hand().radii)
            assert line is None or line.mends < Hand().worth

    def test_a_right_slice_takes_no_stroke(self):
        assert annotator(TRUTH.copy()).correct(2) == []

    def test_no_stroke_makes_it_worse(self):
        labels = np.zeros(SHAPE, np.uint8)
        before = wrong_voxels(labels[2], TRUTH[2])
        for stroke in annotator(labels, tools=frozenset({"grow"})).correct(2):
            after = wrong_voxels(stroke.after, TRUTH[2])
            assert after <= before
            before = after

    def test_the_same_seed_draws_the_same(self):
        one, two = np.zeros(SHAPE, np.uint8), np.zeros(SHAPE, np.uint8)
        for labels, order in ((one, (1, 2)), (two, (2, 1))):
            someone = annotator(labels, seed=3)
            for index in order:
                someone.correct(index)
        assert np.array_equal(one, two)

    def test_memory_changes_nothing(self):
        memory, results = {}, []
        for _ in range(2):
            labels = np.zeros(SHAPE, np.uint8)
            results.append((len(annotator(labels, memory=memory).correct(2)), labels))
        assert results[0][0] == results[1][0]
        assert np.array_equal(results[0][1], results[1][1])

    def test_where_both_sides_are_done_it_fills_between(self):
        labels = np.zeros(SHAPE, np.uint8)
        someone = annotator(labels, tools=frozenset({"between"}))
        tools = [[stroke.tool for stroke in someone.correct(index)] for index in (1, 3, 2)]
        assert "between" not in tools[0] + tools[1]
        assert tools[2][0] == "between"

    def test_a_scribble_is_tried_where_the_brush_leaves_much(self):
        labels = np.zeros(SHAPE, np.uint8)
        tools = [s.tool for s in annotator(labels, tools=frozenset({"grow"}), hand=Hand(radii=(1,))).correct(2)]
        assert tools[0] == "grow"

    def test_it_gives_up_after_so_many_strokes(self):
        labels = np.zeros(SHAPE, np.uint8)
        assert len(annotator(labels, hand=Hand(radii=(1,), worth=1, most=4)).correct(2)) == 4


class TestLines:
    def test_errors_are_of_one_true_class_and_the_largest_is_first(self):
        labels, truth = drawn("....... ......."), drawn("1122.33 11...33")
        assert [(int(truth[e][0]), int(e.sum())) for e in errors(labels, truth)] == [(1, 4), (3, 4), (2, 2)]

    def test_small_ones_are_left_out(self):
        assert len(errors(drawn("....."), drawn("11.1."), 2)) == 1

    def test_the_brush_never_leaves_the_true_class(self):
        truth = disk((48, 48), (24, 24), 15).astype(np.uint8)
        for error in errors(np.zeros_like(truth), truth):
            line = best_line(np.zeros_like(truth), truth, error, (1, 3, 8))
            assert (truth[line.covers()] == line.label).all()

    def test_the_radius_that_mends_most_is_taken(self):
        truth = np.zeros((40, 40), np.uint8)
        truth[10:21, 5:35] = 1
        empty = np.zeros_like(truth)
        assert best_line(empty, truth, truth == 1, (1, 3, 5, 12)).radius == 5

    def test_no_brush_fits_a_speck_but_the_finest(self):
        truth = drawn("..... ..1.. .....")
        assert best_line(np.zeros_like(truth), truth, truth == 1, (1, 3)) is None
        assert best_line(np.zeros_like(truth), truth, truth == 1, FINE).mends == 1

    def test_there_is_no_room_beyond_the_image(self):
        truth = np.ones((9, 9), np.uint8)
        line = best_line(np.zeros_like(truth), truth, truth == 1, (2,))
        assert not line.path[:2].any()
        assert not line.path[:, :2].any()

    def test_the_middle_line_of_a_bar(self):
        bar = np.zeros((11, 40), bool)
        bar[3:8, 5:35] = True
        rows, columns = np.nonzero(middle_line(bar))
        assert set(rows.tolist()) <= {4, 5, 6}
        assert len(columns) > 20

    def test_without_its_ends_it_is_shorter(self):
        bar = np.zeros((11, 40), bool)
        bar[3:8, 5:35] = True
        assert middle_line(bar, 0.2).sum() == pytest.approx(0.6 * middle_line(bar).sum(), abs=2)

    def test_a_brush_is_round(self):
        point = np.zeros((9, 9), bool)
        point[4, 4] = True
        assert np.array_equal(brushed(point, 3), disk((9, 9), (4, 4), 3))

    def test_a_shaking_hand_is_off_by_whole_voxels(self):
        truth = disk((20, 20), (10, 10), 4).astype(np.uint8)
        line = best_line(np.zeros_like(truth), truth, truth == 1, (1,))
        assert np.array_equal(line.covers((1, -2)), np.roll(line.covers(), (1, -2), (0, 1)))
