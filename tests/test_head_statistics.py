"""Entropy and mean distance attended, against values that fit on paper."""

import numpy as np
import pytest
import torch

from napari_medattn.attention import queries
from napari_medattn.attention.records import (
    AxialRecord,
    ChannelRecord,
    FactoredRecord,
    GateRecord,
    PairwiseRecord,
    VectorRecord,
)
from napari_medattn.attention.statistics import Statistics, pool, statistics
from napari_medattn.errors import InputError
from napari_medattn.models import AttentionSite


def site(kind, normalisation="softmax", **facts) -> AttentionSite:
    return AttentionSite("a.b", ("a", "b"), kind, (4, 4), normalisation=normalisation, **facts)


def pairwise(grid, sharpness: float) -> PairwiseRecord:
    """Every position attends to itself (sharpness 100) or to all alike (0)."""
    count = int(np.prod(grid))
    eye = torch.eye(count).view(1, 1, count, *grid)
    return PairwiseRecord(site("pairwise", sums_to_one=(2, 3)), sharpness * eye, eye)


def factored(grid, even: bool) -> FactoredRecord:
    count = int(np.prod(grid))
    eye = torch.eye(count).view(1, 1, count, *grid)
    keys = torch.full_like(eye, 1 / count) if even else eye
    return FactoredRecord(site("factored", sums_to_one=(2, 3)), eye, keys)


def axial(axis, weights) -> AxialRecord:
    """One head; ``weights`` (lines, length, length)."""
    return AxialRecord(site("axial", sums_to_one=(axis,), axis=axis), weights[None, None, None, :, None])


class TestEvenAttention:
    @pytest.mark.parametrize("make", [lambda grid: pairwise(grid, 0), lambda grid: factored(grid, even=True)])
    def test_its_entropy_is_one(self, make):
        np.testing.assert_allclose(statistics(make((2, 2)), (3, 4)).entropy, [1], atol=1e-6)

    @pytest.mark.parametrize("make", [lambda grid: pairwise(grid, 0), lambda grid: factored(grid, even=True)])
    def test_its_distance_on_a_grid_of_three_by_four_mm(self, make):
        # From any corner of a rectangle of 3 by 4 mm the others are 3, 4 and 5 mm away, and it is 0 from itself.
        np.testing.assert_allclose(statistics(make((2, 2)), (3, 4)).distance, [3], rtol=1e-6)

    def test_each_axis_has_its_own_step(self):
        made = pairwise((2, 1), 0)
        assert statistics(made, (5, 1)).distance[0] == pytest.approx(2.5)
        assert statistics(made, (1, 5)).distance[0] == pytest.approx(0.5)

    def test_its_distance_is_the_even_distance(self):
        found = statistics(pairwise((3, 5), 0), (1.5, 0.5))
        assert found.distance[0] == pytest.approx(found.even_distance)

    @pytest.mark.parametrize(("axis", "expected"), [(2, 20 / 9), (3, 8 / 9)])
    def test_along_a_line(self, axis, expected):
        # Three places one step apart: 0 + 1 + 2, 1 + 0 + 1, 2 + 1 + 0 in nine pairs, times 2.5 mm or 1 mm.
        found = statistics(axial(axis, torch.full((2, 3, 3), 1 / 3)), (2.5, 1))
        assert found.distance[0] == pytest.approx(expected)
        assert found.entropy[0] == pytest.approx(1)
        assert "line" in found.note


class TestAttentionToItself:
    @pytest.mark.parametrize("make", [lambda grid: pairwise(grid, 100), lambda grid: factored(grid, even=False)])
    def test_entropy_and_distance_are_zero(self, make):
        found = statistics(make((2, 3)), (1, 1))
        np.testing.assert_allclose([found.entropy[0], found.distance[0]], [0, 0], atol=1e-6)

    def test_the_even_distance_stays(self):
        assert statistics(pairwise((2, 2), 100), (3, 4)).even_distance == pytest.approx(3)

    def test_along_a_line(self):
        found = statistics(axial(3, torch.eye(4).expand(2, 4, 4)), (1, 1))
        assert (found.entropy[0], found.distance[0]) == (0, 0)


class TestQueriesThatCount:
    def test_the_padding_is_not_averaged_over(self):
        # Three places in a row, 2 mm apart; the first looks 0, 2 and 4 mm far, the second 2, 0 and 2.
        inside = torch.tensor([[[True, False, False]]])
        assert statistics(pairwise((1, 3), 0), (1, 2), inside).distance[0] == pytest.approx(2)
        inside = torch.tensor([[[False, True, False]]])
        assert statistics(pairwise((1, 3), 0), (1, 2), inside).distance[0] == pytest.approx(4 / 3)

    def test_on_lines_too(self):
        weights = torch.stack([torch.eye(3), torch.full((3, 3), 1 / 3)])  # the first column sharp, the second even
        inside = torch.zeros(1, 3, 2, dtype=torch.bool)
        inside[0, :, 0] = True
        assert statistics(axial(2, weights), (1, 1), inside).entropy[0] == pytest.approx(0)
        assert statistics(axial(2, weights), (1, 1), ~inside).entropy[0] == pytest.approx(1)

    def test_chunks_change_nothing(self, monkeypatch):
        made = PairwiseRecord(site("pairwise"), torch.randn(2, 3, 4, 5, 6), torch.randn(2, 3, 4, 5, 6))
        whole = statistics(made, (1, 2))
        monkeypatch.setattr(queries, "ELEMENTS", 7 * 2 * 3 * 30)
        chunked = statistics(made, (1, 2))
        np.testing.assert_allclose(chunked.distance, whole.distance, rtol=1e-6)
        np.testing.assert_allclose(chunked.entropy, whole.entropy, rtol=1e-6)

    def test_captures_are_pooled_by_their_queries(self):
        one = Statistics(1, entropy=np.array([0.0]), distance=np.array([8.0]))
        other = Statistics(3, entropy=np.array([1.0]), distance=np.array([4.0]))
        found = pool([one, other])
        assert (found.count, found.entropy[0], found.distance[0]) == (4, 0.75, 5)


class TestOtherKinds:
    def test_a_gate_has_a_mean_and_a_share_that_is_open(self):
        gate = torch.tensor([[[[0.1, 0.9], [0.6, 0.4]]]])
        found = statistics(GateRecord(site("gate", "sigmoid"), gate), (1, 1))
        assert (found.mean[0], found.share_open[0]) == (pytest.approx(0.5), 0.5)
        assert found.entropy is None
        assert found.distance is None

    def test_the_padding_of_a_gate_does_not_count(self):
        gate = torch.tensor([[[[0.1, 0.9], [0.6, 0.4]]]])
        inside = torch.tensor([[[True, True], [False, False]]])
        found = statistics(GateRecord(site("gate", "sigmoid"), gate), (1, 1), inside)
        assert (found.mean[0], found.share_open[0]) == (pytest.approx(0.5), 0.5)

    def test_a_softmax_gate_has_an_entropy(self):
        found = statistics(GateRecord(site("gate"), torch.full((1, 1, 4, 4), 0.25)), (1, 1))
        assert found.entropy[0] == pytest.approx(1)
        assert found.share_open is None

    def test_token_weights_have_an_entropy_over_the_positions_and_no_distance(self):
        weights = torch.zeros(1, 2, 2, 2)
        weights[0, 0, 0, 0], weights[0, 1] = 1, 0.25
        found = statistics(VectorRecord(site("vector", sums_to_one=(2, 3)), weights), (1, 1))
        np.testing.assert_allclose(found.entropy, [0, 1], atol=1e-6)
        assert found.distance is None
        assert "no distance" in found.note

    def test_of_weights_of_unit_length_the_squares_count(self):
        weights = torch.tensor([[[[0.5, -0.5], [-0.5, 0.5]]]])
        found = statistics(VectorRecord(site("vector", "l2"), weights), (1, 1))
        assert found.entropy[0] == pytest.approx(1)
        assert "squared" in found.note

    def test_channels_have_an_entropy_and_no_distance(self):
        weights = torch.stack([torch.eye(3), torch.full((3, 3), 1 / 3)])[None]
        found = statistics(ChannelRecord(site("channel"), weights), ())
        np.testing.assert_allclose(found.entropy, [0, 1], atol=1e-6)
        assert found.distance is None

    def test_a_single_position_has_nothing_to_choose_from(self):
        found = statistics(VectorRecord(site("vector"), torch.ones(1, 1, 1, 1)), (1, 1))
        assert found.entropy is None
        assert "single position" in found.note

    def test_a_gate_has_no_rows(self):
        gate = GateRecord(site("gate", "sigmoid"), torch.ones(1, 1, 2, 2))
        with pytest.raises(InputError, match="no rows"):
            queries.for_each_query(lambda _, rows: (rows,), gate)
