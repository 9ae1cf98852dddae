"""How much attention differs, against values that fit on paper."""

import numpy as np
import pytest
import torch

from napari_medattn.attention import queries
from napari_medattn.attention.divergence import divergence, jensen_shannon, measure_of
from napari_medattn.attention.records import (
    AxialRecord,
    ChannelRecord,
    FactoredRecord,
    GateRecord,
    PairwiseRecord,
    VectorRecord,
)
from napari_medattn.errors import InputError
from tests.test_head_statistics import axial, factored, pairwise, site


class TestJensenShannon:
    def test_equal_distributions_have_none(self):
        p = torch.rand(7, 5).softmax(dim=-1)
        assert jensen_shannon(p, p).abs().max() == 0

    def test_disjoint_ones_have_one(self):
        assert jensen_shannon(torch.tensor([0.5, 0.5, 0, 0]), torch.tensor([0, 0, 0.25, 0.75])) == pytest.approx(1)

    def test_a_value_on_paper(self):
        # M = (3/4, 1/4), H(M) = 0.811 bits; H(P) = 1 and H(Q) = 0: 0.811 - 0.5.
        found = jensen_shannon(torch.tensor([0.5, 0.5]), torch.tensor([1.0, 0.0]))
        assert found == pytest.approx(0.311278, abs=1e-5)

    def test_it_does_not_matter_which_comes_first(self):
        p, q = torch.rand(2, 6, 9).softmax(dim=-1)
        torch.testing.assert_close(jensen_shannon(p, q), jensen_shannon(q, p))


class TestRows:
    @pytest.mark.parametrize(
        "record",
        [
            PairwiseRecord(site("pairwise"), torch.randn(2, 2, 3, 4, 4), torch.randn(2, 2, 3, 4, 4)),
            FactoredRecord(
                site("factored"),
                torch.randn(2, 2, 3, 4, 4).softmax(dim=2),
                torch.randn(2, 2, 3, 16).softmax(dim=3).view(2, 2, 3, 4, 4),
            ),
            AxialRecord(site("axial", axis=2), torch.randn(2, 2, 2, 3, 8, 5, 5).softmax(dim=-1)),
            VectorRecord(site("vector"), torch.full((2, 3, 2, 2), 0.25)),
            ChannelRecord(site("channel"), torch.randn(2, 3, 4, 4).softmax(dim=-1)),
            GateRecord(site("gate", "sigmoid"), torch.rand(2, 1, 3, 3)),
        ],
        ids=lambda record: record.site.kind,
    )
    def test_attention_does_not_differ_from_itself(self, record):
        found = divergence(record, record)
        np.testing.assert_allclose(found.rows, 0, atol=1e-12)

    def test_rows_may_differ_where_the_overview_does_not(self):
        eye = torch.eye(4).view(1, 1, 4, 2, 2)
        turned = PairwiseRecord(site("pairwise"), 100 * eye.roll(1, dims=2), eye)  # each attends to its neighbour
        found = divergence(pairwise((2, 2), 100), turned)
        assert found.rows[0] == pytest.approx(1)
        assert found.maps[0] == pytest.approx(0, abs=1e-6)

    def test_factored_rows(self):
        # From itself to all four alike: M = (5/8, 1/8, 1/8, 1/8), H = 1.549 bits, minus (0 + 2) / 2.
        found = divergence(factored((2, 2), even=False), factored((2, 2), even=True))
        assert found.rows[0] == pytest.approx(0.548795, abs=1e-5)

    def test_only_queries_inside_count(self):
        sharp, even = torch.eye(2), torch.full((2, 2), 0.5)
        before = axial(2, torch.stack([sharp, sharp]))
        after = axial(2, torch.stack([sharp, even]))  # the second column changes
        inside = torch.zeros(1, 2, 2, dtype=torch.bool)
        inside[0, :, 0] = True
        assert divergence(before, after, inside).rows[0] == pytest.approx(0, abs=1e-6)
        assert divergence(before, after, ~inside).rows[0] == pytest.approx(0.311278, abs=1e-5)
        assert divergence(before, after).rows[0] == pytest.approx(0.311278 / 2, abs=1e-5)

    def test_chunks_change_nothing(self, monkeypatch):
        one, other = (
            PairwiseRecord(site("pairwise"), torch.randn(1, 2, 4, 5, 6), torch.randn(1, 2, 4, 5, 6)) for _ in range(2)
        )
        whole = divergence(one, other).rows
        monkeypatch.setattr(queries, "ELEMENTS", 7 * 2 * 30)
        np.testing.assert_allclose(divergence(one, other).rows, whole, rtol=1e-6)


class TestOtherMeasures:
    def test_gates_by_their_mean_difference(self):
        before = GateRecord(site("gate", "sigmoid"), torch.tensor([[[[0.2, 0.5]]]]))
        after = GateRecord(site("gate", "sigmoid"), torch.tensor([[[[0.4, 0.1]]]]))
        assert divergence(before, after).rows[0] == pytest.approx(0.3)

    @pytest.mark.parametrize(("factor", "expected"), [(1, 0), (-1, 1)])
    def test_weights_of_unit_length_by_their_cosine(self, factor, expected):
        weights = torch.tensor([[[[0.6, -0.8]]]])
        one, other = (VectorRecord(site("vector", "l2"), weights * sign) for sign in (1, factor))
        assert divergence(one, other).rows[0] == pytest.approx(expected, abs=1e-6)

    def test_token_weights_as_distributions(self):
        one = VectorRecord(site("vector"), torch.tensor([[[[1.0, 0.0]]]]))
        other = VectorRecord(site("vector"), torch.tensor([[[[0.0, 1.0]]]]))
        assert divergence(one, other).rows[0] == pytest.approx(1)

    def test_a_softmax_gate_is_a_distribution(self):
        assert measure_of(site("gate")) == "jensen-shannon"

    def test_channels_have_no_map(self):
        record = ChannelRecord(site("channel"), torch.eye(3)[None, None])
        assert divergence(record, record).maps is None

    def test_other_sizes_are_refused(self):
        with pytest.raises(InputError, match="in one network"):
            divergence(pairwise((2, 2), 0), pairwise((2, 3), 0))
