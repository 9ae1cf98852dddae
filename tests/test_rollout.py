"""Attention rollout: against products of full matrices, and where it is defined at all."""

import pytest
import torch

from napari_medattn.attention import capture_attention
from napari_medattn.attention.records import PairwiseRecord
from napari_medattn.attention.rollout import find_stream, gather, rollout, streams, why_no_rollout
from napari_medattn.errors import InputError
from napari_medattn.models import AttentionSite, attention_sites, create_model, get_spec, list_models
from napari_medattn.models.dae.blocks import DualBlock

ROWS = ("pairwise", "factored", "axial")


def captured(model, size):
    with torch.no_grad(), capture_attention(model) as records:
        model.eval()(torch.randn(2, 1, *size))
    return records


def matrix(record) -> torch.Tensor:
    """(B, N, N), the heads averaged, made row by row by the record's own queries."""
    height, width = record.grid
    rows = [record.query((y, x)).mean(dim=1).flatten(1) for y in range(height) for x in range(width)]
    return torch.stack(rows, dim=1)


def product(records, stream) -> torch.Tensor:
    """The whole rollout (B, N, N)."""
    found = torch.eye(records[stream.site.key].maps()[0, 0].numel())[None]
    for block in stream.blocks:
        attention = torch.eye(found.shape[-1])[None]
        for one in block:
            attention = matrix(records[one.key]) @ attention
        found = (attention + torch.eye(found.shape[-1])) / 2 @ found
    return found


@pytest.fixture(scope="module")
def dae():
    torch.manual_seed(0)
    model = create_model("dae_former", spatial_dims=2, widths=[8, 16, 24])
    return model, captured(model, (32, 48))


@pytest.fixture(scope="module")
def axial():
    torch.manual_seed(0)
    model = create_model("logo", image_size=64, patches=2)
    return model, captured(model, (64, 64))


class TestProduct:
    @pytest.mark.parametrize("name", ["encoder 1", "encoder 3", "decoder 2"])
    def test_every_row_is_that_of_the_product_of_full_matrices(self, dae, name):
        model, records = dae
        stream = find_stream(attention_sites(model), name)
        whole = product(records, stream)
        for at in range(whole.shape[-1]):
            start = torch.zeros(2, whole.shape[-1])
            start[:, at] = 1
            found = rollout(records, stream, start.view(2, *records[stream.site.key].grid))
            torch.testing.assert_close(found.flatten(1), whole[:, at], rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("name", ["local branch stage 3", "global branch stage 2"])
    def test_rows_after_columns_of_several_axial_blocks(self, axial, name):
        model, records = axial
        stream = find_stream(attention_sites(model), name)
        whole = product(records, stream)
        start = torch.zeros(2, *records[stream.site.key].grid)
        start[:, 3, 5] = 1
        at = 3 * start.shape[-1] + 5
        torch.testing.assert_close(rollout(records, stream, start).flatten(1), whole[:, at], rtol=1e-5, atol=1e-6)

    def test_the_overview_is_the_mean_of_all_rows(self, dae):
        model, records = dae
        stream = find_stream(attention_sites(model), "encoder 2")
        whole = product(records, stream)
        start = torch.full((2, *records[stream.site.key].grid), 1 / whole.shape[-1])
        torch.testing.assert_close(rollout(records, stream, start).flatten(1), whole.mean(dim=1), rtol=1e-5, atol=1e-6)

    def test_rows_sum_to_one(self, axial):
        model, records = axial
        for stream in streams(attention_sites(model)):
            start = torch.zeros(2, *records[stream.site.key].grid)
            start[:, -1, 0] = 1
            total = rollout(records, stream, start).sum(dim=(1, 2))
            torch.testing.assert_close(total, torch.ones(2), rtol=1e-4, atol=1e-5)

    def test_patches_stay_apart(self, axial):
        model, records = axial
        stream = find_stream(attention_sites(model), "local branch stage 3")
        start = torch.zeros(2, *records[stream.site.key].grid)
        start[:, 0, 0] = 1
        found, half = rollout(records, stream, start), start.shape[1] // 2
        assert found[:, half:].abs().max() == 0
        assert found[:, :, half:].abs().max() == 0

    def test_identity_attention_leaves_a_position_where_it_is(self):
        eye = torch.eye(6).view(1, 1, 6, 2, 3)
        one = AttentionSite("a.b", ("a", "b"), "pairwise", (1, 1), stream="a")
        start = torch.zeros(1, 2, 3)
        start[0, 1, 1] = 1
        found = rollout({"a.b": PairwiseRecord(one, 100 * eye, eye)}, streams([one])[0], start)
        torch.testing.assert_close(found, start)

    def test_pairwise_rows_are_gathered_in_chunks(self, monkeypatch):
        one = AttentionSite("a.b", ("a", "b"), "pairwise", (1, 1))
        record = PairwiseRecord(one, torch.randn(2, 3, 4, 5, 6), torch.randn(2, 3, 4, 5, 6))
        weights = torch.rand(2, 5, 6)
        expected = torch.einsum("bn,bnm->bm", weights.flatten(1), matrix(record))
        monkeypatch.setattr("napari_medattn.attention.queries.ELEMENTS", 4 * 2 * 3 * 30)
        torch.testing.assert_close(gather(record, weights).flatten(1), expected)


@pytest.mark.parametrize("name", list_models())
class TestWhereItIsDefined:
    @pytest.fixture
    def sites(self, name):
        return attention_sites(create_model(name, variant="small" if "small" in get_spec(name).variants else "paper"))

    def test_a_stream_stays_on_one_grid_and_has_rows(self, sites):
        for stream in streams(sites):
            through = [one for one in sites if one.key in stream.keys]
            assert len({(one.stride, one.patches) for one in through}) == 1
            assert all(one.kind in ROWS for one in through)

    def test_every_other_site_has_a_reason(self, sites):
        through = {key for stream in streams(sites) for key in stream.keys}
        reasons = why_no_rollout(sites)
        assert through | set(reasons) == {one.key for one in sites}
        assert not through & set(reasons)
        assert all(reasons.values())

    def test_asking_elsewhere_says_the_reason(self, sites):
        for key, reason in why_no_rollout(sites).items():
            with pytest.raises(InputError) as caught:
                find_stream(sites, key)
            assert reason in str(caught.value)


class TestResiduals:
    def test_a_dual_block_without_weights_gives_back_what_comes_in(self):
        block = DualBlock(16, "mix_skip")
        for parameter in block.parameters():
            torch.nn.init.zeros_(parameter)
        x = torch.randn(1, 4, 4, 16)
        torch.testing.assert_close(block(x), x)

    def test_axial_blocks_of_a_stream_keep_the_grid(self, axial):
        model, _ = axial
        for stream in streams(attention_sites(model)):
            for block in stream.blocks:
                assert [one.axis for one in block] == [2, 3]  # columns, then rows, under one residual
                assert model.get_submodule(block[0].key.rpartition(".")[0]).stride == 1

    def test_the_legend_calls_it_an_approximation(self, axial):
        model, _ = axial
        assert "approximation" in streams(attention_sites(model))[0].legend
        assert "rows after columns" in streams(attention_sites(model))[0].legend
