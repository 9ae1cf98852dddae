"""The Medical Transformer family beyond the contract and the goldens."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from napari_medattn.attention import capture_attention
from napari_medattn.errors import ModelError
from napari_medattn.models import create_model, get_spec, load_authors_state, prepare_for_inference
from napari_medattn.models.axial.attention import AxialAttention
from napari_medattn.models.axial.block import position_gates
from napari_medattn.models.axial.medt import cut_patches, join_patches
from napari_medattn.models.axial.patch_norm import PatchBatchNorm
from napari_medattn.models.axial.position_tables import position_tables
from napari_medattn.models.axial.product import Positions, axial_product, axial_weights

FAMILY = ("medt", "logo", "gated_axial_unet", "axial_unet")
POSITIONS = ("none", "plain", "gated")


def small(name: str, **options) -> nn.Module:
    return create_model(name, **{"in_channels": 2, "num_classes": 3, "variant": "small", **options})


def stirred(model: nn.Module) -> nn.Module:
    """With statistics, gains and gates that are not those of a fresh network."""
    with torch.no_grad():
        for part in model.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.weight.uniform_(0.5, 1.5)
                part.bias.uniform_(-0.5, 0.5)
                part.running_mean.uniform_(-0.5, 0.5)
                part.running_var.uniform_(0.5, 1.5)
        for key, parameter in model.named_parameters():
            if key.endswith("_gate"):
                parameter.uniform_(0.2, 1.2)
    return model


def lines(count: int, length: int, placed: bool) -> tuple:
    """Random arguments of `axial_product` in double precision, with gradients."""

    def noise(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, dtype=torch.float64, requires_grad=True)

    c, k = 2, length
    query, key, value = noise(count, c, k), noise(count, c, k), noise(count, 2 * c, k)
    if not placed:
        return query, key, value, None
    tables = noise(c, k, k), noise(c, k, k), noise(2 * c, k, k)
    return query, key, value, Positions(noise(count, c, k), noise(count, c, k), *tables)


class TestProduct:
    @pytest.mark.parametrize("length", [5, 16])
    def test_it_is_the_published_sum(self, length):
        query, key, value, p = lines(3, length, placed=True)
        logits = torch.einsum("nci,ncj->nij", query, key)
        logits = logits + torch.einsum("nci,cij->nij", p.query, p.query_table)
        logits = logits + torch.einsum("ncj,cji->nij", p.key, p.key_table)
        weights = logits.softmax(dim=-1)
        content, place = axial_product(query, key, value, p)
        torch.testing.assert_close(axial_weights(query, key, p), weights)
        torch.testing.assert_close(content, torch.einsum("nij,ncj->nci", weights, value))
        torch.testing.assert_close(place, torch.einsum("nij,cij->nci", weights, p.value_table))

    @pytest.mark.parametrize("placed", [False, True])
    def test_its_gradient_is_that_of_its_values(self, placed):
        query, key, value, positions = lines(3, 4, placed)
        more = [] if positions is None else list(positions)

        def product(q, k, v, *rest):
            content, place = axial_product(q, k, v, Positions(*rest) if rest else None)
            return (content, place) if rest else content

        assert torch.autograd.gradcheck(product, (query, key, value, *more))

    @pytest.mark.parametrize("placed", [False, True])
    def test_lines_that_do_not_fit_at_once_give_the_same(self, monkeypatch, placed):
        arguments = lines(7, 6, placed)
        leaves = [*arguments[:3], *(arguments[3] or ())]

        def outcome() -> list[torch.Tensor]:
            results = [t for t in axial_product(*arguments) if t.numel()]
            loss = sum(t.square().sum() for t in results)
            return [*results, *torch.autograd.grad(loss, leaves)]

        at_once = outcome()
        monkeypatch.setattr("napari_medattn.models.axial.product.CPU_WEIGHTS", 2 * 6**2)
        torch.testing.assert_close(outcome(), at_once)


class TestPositionTables:
    vectors = torch.arange(7.0).repeat(4, 1)  # T = 4; a vector is its column

    def test_columns_are_offsets_from_query_to_key(self):
        query, key, value = position_tables(self.vectors, 4)
        offsets = torch.arange(4)[:, None] - torch.arange(4) + 3.0
        assert [tuple(t.shape) for t in (query, key, value)] == [(1, 4, 4), (1, 4, 4), (2, 4, 4)]
        for table in (query, key, value):
            torch.testing.assert_close(table[0], offsets)

    def test_a_shorter_line_uses_the_middle(self):
        table = position_tables(self.vectors, 2)[0][0]
        assert table.tolist() == [[3, 2], [4, 3]]

    def test_a_longer_line_goes_on_with_the_outermost(self):
        table = position_tables(self.vectors, 6)[0][0]
        assert table[0].tolist() == [3, 2, 1, 0, 0, 0]
        assert table[5].tolist() == [6, 6, 6, 5, 4, 3]


class TestPatches:
    def test_cutting_and_joining_give_the_image_back(self):
        x = torch.randn(2, 3, 8, 12)
        torch.testing.assert_close(join_patches(cut_patches(x, 4), 4), x, rtol=0, atol=0)

    def test_patches_come_row_by_row(self):
        x = torch.arange(4.0).view(1, 1, 2, 2)
        assert cut_patches(x, 2).flatten().tolist() == [0, 1, 2, 3]

    def test_a_batch_norm_treats_patches_as_if_they_came_one_after_the_other(self):
        together = stirred(PatchBatchNorm(3, patches=4))
        alone = copy.deepcopy(together)
        alone.patches = 1
        x = torch.randn(2 * 4, 3, 5, 5)
        expected = torch.stack([alone(x[at::4]) for at in range(4)], dim=1).flatten(0, 1)
        torch.testing.assert_close(together(x), expected)
        torch.testing.assert_close(together.state_dict(), alone.state_dict())

    @pytest.mark.parametrize("positions", POSITIONS)
    def test_so_does_attention(self, positions):
        together = stirred(AxialAttention(16, 6, 3, positions, patches=2)).double()
        alone = copy.deepcopy(together)
        for part in alone.modules():
            if hasattr(part, "patches"):
                part.patches = 1
        x = torch.randn(2 * 4, 16, 6, 6, dtype=torch.float64)
        expected = torch.stack([alone(x[at::4]) for at in range(4)], dim=1).flatten(0, 1)
        torch.testing.assert_close(together(x), expected)
        torch.testing.assert_close(together.state_dict(), alone.state_dict())


class TestAttention:
    @pytest.mark.parametrize("axis", [2, 3])
    @pytest.mark.parametrize("positions", POSITIONS)
    def test_a_line_does_not_see_its_neighbours(self, axis, positions):
        attention = stirred(AxialAttention(16, 4, axis, positions)).eval()
        x = torch.randn(1, 16, 4, 4)
        other = x.clone()
        other.select(5 - axis, 1).add_(1)  # The second line.
        changed = (attention(x) != attention(other)).any(dim=(0, 1)).any(dim=axis - 2)
        assert changed.tolist() == [False, True, False, False]

    def test_the_scales_are_those_of_a_batch_norm_on_built_logits(self):
        attention = stirred(AxialAttention(32, 6, 3, "plain")).double()
        built = nn.BatchNorm2d(24).double()
        built.load_state_dict(attention.logit_norm.state_dict())
        x = torch.randn(2, 32, 5, 6, dtype=torch.float64)
        q, k, _ = copy.deepcopy(attention).project(x).view(2, 8, 8, 5, 6).split((2, 2, 4), dim=2)
        tables = position_tables(attention.vectors, 6)
        products = [
            torch.einsum("ngcli,ngclj->nlgij", q, k),
            torch.einsum("ngcli,cij->nlgij", q, tables[0]),
            torch.einsum("ngclj,cji->nlgij", k, tables[1]),
        ]
        normed = built(torch.cat(products, dim=2).flatten(0, 1)).view(2, 5, 3, 8, 6, 6).sum(dim=2)
        seen: dict[str, torch.Tensor] = {}
        attention.tap.attach(seen.update)
        attention(x)
        torch.testing.assert_close(seen["weights"][:, 0, 0], normed.softmax(dim=-1))
        torch.testing.assert_close(attention.logit_norm.state_dict(), built.state_dict())


@pytest.mark.parametrize("name", FAMILY)
class TestNetworks:
    def test_the_small_variant_has_at_most_five_million_parameters(self, name):
        assert sum(p.numel() for p in small(name).parameters()) < 5e6

    @torch.no_grad()
    def test_prepared_for_inference_it_computes_the_same(self, name):
        model = stirred(small(name)).eval()
        fast, x = prepare_for_inference(model), torch.randn(2, 2, 64, 128)
        with capture_attention(model) as slow_maps:
            expected = model(x)
        for layout in (torch.contiguous_format, torch.channels_last):
            with capture_attention(fast.to(memory_format=layout)) as fast_maps:
                found = fast(x.contiguous(memory_format=layout))
            torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))
            for key, record in slow_maps.items():
                torch.testing.assert_close(fast_maps[key].weights, record.weights, rtol=1e-3, atol=1e-5)

    @torch.no_grad()
    def test_the_size_of_the_tables_does_not_bind_the_input(self, name):
        model = small(name).eval()
        assert model(torch.randn(1, 2, 192, 64)).shape == (1, 3, 192, 64)

    @torch.no_grad()
    def test_an_image_that_is_not_square_can_have_tables_of_its_own(self, name):
        model = small(name, image_size=[64, 128]).eval()
        lengths = {
            "column": model.layer1[0].column_attention.vectors.shape[1],
            "row": model.layer1[0].row_attention.vectors.shape[1],
        }
        assert lengths == {"column": 2 * 32 - 1, "row": 2 * 64 - 1}
        assert model(torch.randn(1, 2, 64, 128)).shape == (1, 3, 64, 128)

    @pytest.mark.parametrize("size", [100, 0, [64], [64, 100], [64, 64, 64]], ids=str)
    def test_an_image_size_that_does_not_fit_is_refused(self, name, size):
        with pytest.raises(ModelError, match="multiples of"):
            small(name, image_size=size)

    def test_weights_of_another_network_are_refused(self, name):
        with pytest.raises(ModelError, match="unknown: encode1"):
            load_authors_state(small(name), {"encode1.weight": torch.zeros(1)})

    def test_it_is_trained_as_its_authors_did(self, name):
        recipe = get_spec(name).recipe
        assert (recipe.optimiser, recipe.learning_rate, recipe.weight_decay) == ("adam", 1e-3, 1e-5)
        assert (recipe.warm_up, recipe.decay_power, recipe.dice_weight, recipe.gates_frozen) == (0, 0, 0, 11)


class TestGates:
    def test_they_read_as_in_the_paper_and_start_frozen(self):
        model = small("medt")
        gates = position_gates(model)
        assert list(gates) == [site.key for site in model.sites() if not site.key.startswith("local.")]
        assert gates["layer1.0.row_attention"] == pytest.approx({"G_Q": 0.1, "G_K": 0.1, "G_V1": 0.1, "G_V2": 1.0})
        frozen = [key for key, parameter in model.named_parameters() if not parameter.requires_grad]
        assert len(frozen) == 24
        assert all(key.endswith("_gate") for key in frozen)

    @pytest.mark.parametrize("name", ["logo", "axial_unet"])
    def test_networks_without_gates_have_none(self, name):
        assert position_gates(small(name)) == {}

    def test_they_can_be_read_after_they_were_merged(self):
        model = small("gated_axial_unet")
        model.layer1[0].row_attention.key_gate.data.fill_(0.7)
        read = position_gates(prepare_for_inference(model))
        assert read == position_gates(model)
        assert read["layer1.0.row_attention"]["G_K"] == pytest.approx(0.7)

    def test_the_local_branch_is_gated_as_in_the_paper_on_request(self):
        described = position_gates(small("medt", local_positions="gated"))
        assert "local.layer4.0.row_attention" in described
        assert len(described) == 6 + 16

    def test_code_and_paper_differ_in_the_local_branch_alone(self):
        code, paper = (small("medt", local_positions=way).state_dict() for way in ("none", "gated"))
        same = {key for key in paper if key in code and code[key].shape == paper[key].shape}
        assert all(key.startswith("local.") for key in paper.keys() - same)
        assert "local.layer1.0.row_attention.vectors" in paper.keys() - code.keys()

    def test_as_in_the_paper_every_parameter_learns_with_patches_normalised_apart(self):
        model = small("medt", local_positions="gated").requires_grad_(True)
        model(torch.randn(2, 2, 64, 64)).square().mean().backward()
        assert [key for key, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
        assert model.local.stem.norm1.num_batches_tracked == 4

    @pytest.mark.parametrize("options", [{"local_positions": "plain"}, {"patches": 0}], ids=str)
    def test_options_that_do_not_exist_are_refused(self, options):
        with pytest.raises(ModelError, match="Use "):
            small("medt", **options)


class TestPatchGrid:
    @torch.no_grad()
    def test_the_local_branch_sees_one_patch_at_a_time(self):
        model = small("medt").eval()
        x = torch.randn(1, 2, 64, 64)
        other = x.clone()
        other[..., 32:, 32:] += 1
        seen = []
        model.local.register_forward_hook(lambda _, __, out: seen.append(join_patches(out, 2)))
        model(x), model(other)
        differs = (seen[0] != seen[1]).any(dim=1).float()
        assert F.max_pool2d(differs, 32).flatten().tolist() == [0, 0, 0, 1]

    @torch.no_grad()
    def test_its_maps_cover_the_image(self):
        model = small("logo").eval()
        with capture_attention(model, ["local.layer2.0.column_attention"]) as captured:
            model(torch.randn(1, 2, 64, 128))
        record = captured["local.layer2.0.column_attention"]
        assert record.weights.shape == (1, 2, 2, 32, 8, 16, 16)
        row = record.query((20, 40))
        assert row.shape == (1, 8, 32, 64)
        torch.testing.assert_close(row[..., 16:, 40].sum(dim=-1), torch.ones(1, 8))
        assert row.sum().item() == pytest.approx(8, abs=1e-4)


class TestMixedPrecision:
    def test_a_step_in_bfloat16_keeps_attention_in_single_precision(self):
        model, x = small("medt"), torch.randn(1, 2, 64, 64)
        with torch.autocast("cpu", torch.bfloat16), capture_attention(model) as captured:
            logits = model(x)
        assert {record.weights.dtype for record in captured.values()} == {torch.float32}
        logits.float().square().mean().backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())

    def test_running_statistics_are_not_rounded(self):
        plain, mixed = PatchBatchNorm(3, 4), PatchBatchNorm(3, 4)
        x = torch.randn(8, 3, 5, 5) * 3 + 2
        plain(x)
        with torch.autocast("cpu", torch.bfloat16):
            mixed(x)
        torch.testing.assert_close(mixed.running_mean, plain.running_mean, rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(mixed.running_var, plain.running_var, rtol=1e-6, atol=1e-6)


class TestAuthorsNames:
    def test_what_they_never_use_is_dropped_and_the_unknown_is_kept(self):
        dead = ["adjust_p.weight", "layer2_p.1.conv1.bias", "layer1.0.hight_block.flatten_index"]
        state = {key: torch.zeros(1) for key in (*dead, "layer1_p.0.width_block.odd", "somewhere.else")}
        ours = get_spec("medt").from_authors(small("medt"), state)
        assert list(ours) == ["local.layer1.0.row_attention.odd", "somewhere.else"]
