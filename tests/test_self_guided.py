"""Self-guided attention: its options, what its loss compares, and the form that runs fast."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from napari_medattn.attention import capture_attention
from napari_medattn.errors import InputError, ModelError
from napari_medattn.models import attention_sites, create_model, get_spec, load_authors_state
from napari_medattn.models.folding import prepare_for_inference
from napari_medattn.models.guided.names import from_self_guided_names, self_guided_name
from napari_medattn.models.guided.row_attention import ROWS_AT_ONCE, row_attention
from napari_medattn.models.guided.up_conv import UpConv
from napari_medattn.models.guided.winograd import WinogradConv
from napari_medattn.models.outputs import training_outputs
from tests import parity_adapter


def small(**options: object) -> nn.Module:
    return create_model("self_guided", num_classes=3, **{"variant": "small", **options})


def trained(model: nn.Module) -> nn.Module:
    """As if after some training: no gain is zero, and no batch norm is the identity."""
    for key, tensor in model.state_dict().items():
        if key.endswith("gain"):
            tensor.fill_(0.7)
        elif key.endswith(("running_mean", "norm.bias")):
            tensor.normal_(0, 0.1)
        elif key.endswith("running_var"):
            tensor.uniform_(0.8, 1.2)
    return model.eval()


class TestOptions:
    def test_the_small_variant_has_at_most_five_million_parameters(self):
        assert sum(p.numel() for p in small().parameters()) <= 5_000_000

    def test_the_small_variant_is_trained_on_the_same_terms(self):
        spec = get_spec("self_guided")
        assert spec.variant("small").recipe.terms == spec.recipe.terms == {"guidance": 0.25, "reconstruction": 0.1}

    @torch.no_grad()
    def test_the_backbone_of_the_paper_is_another_one_and_runs(self):
        models = [small(backbone=name, channels=8) for name in ("resnext101_32x8d", "resnet101")]
        counts = [sum(p.numel() for p in model.encoder.parameters()) for model in models]
        assert counts[0] != counts[1]
        assert all(model(torch.zeros(2, 1, 16, 16)).shape == (2, 3, 16, 16) for model in models)

    @pytest.mark.parametrize(
        "option",
        [{"backbone": "vgg"}, {"backbone_width": 12}, {"backbone_width": 0}, {"channels": 20}, {"channels": 0}],
    )
    def test_a_value_that_does_not_exist_is_refused_with_those_that_do(self, option):
        with pytest.raises(ModelError, match="Use "):
            small(**option)

    @torch.no_grad()
    def test_sixteen_is_enough_although_the_deepest_features_have_a_stride_of_32(self):
        assert small().eval()(torch.randn(1, 1, 48, 80)).shape == (1, 3, 48, 80)

    def test_sides_that_the_guide_cannot_halve_are_refused(self):
        with pytest.raises(InputError, match=r"40 voxels along Y.*multiple of 16"):
            small()(torch.zeros(1, 1, 40, 48))


class TestAuthorsNames:
    @pytest.mark.parametrize(
        ("theirs", "ours"),
        [
            ("conv8_1.weight", "step1.scale4.merge.weight"),
            ("conv8_11.weight", "step2.scale4.merge.weight"),
            ("conv_sem_2_4.bias", "step2.scale1.steer.bias"),
            ("predict3_2.weight", "head3.weight"),
            ("predict3.weight", "coarse_head3.weight"),
            ("pam_attention_1_2.attn.3.gamma", "step1.scale2.position.attend.gain"),
            ("semanticModule_2_1.dec1.decode.6.weight", "step2.guide.decode1.up.weight"),
            ("resnext.layer1.1.0.downsample.1.weight", "encoder.stage1.0.shortcut.norm.weight"),
        ],
    )
    def test_numbers_that_count_from_the_deepest_scale_are_turned_round(self, theirs, ours):
        assert self_guided_name(theirs) == ours

    def test_what_they_never_use_is_left_out_and_nothing_else(self):
        dead = ["conv6_1.1.weight", "conv7_4.1.bias", "attention2.fuse_attn.0.weight", "refine3.fuse_attn.8.weight"]
        state = {key: torch.zeros(1) for key in [*dead, "conv9_1.weight", "encoder1.0.weight"]}
        assert sorted(from_self_guided_names(small(), state)) == ["conv9_1.weight", "encoder1.0.weight"]


class TestTraining:
    def test_all_eight_predictions_are_scored_and_every_parameter_learns(self):
        model = small()
        made = training_outputs(model, torch.randn(2, 1, 32, 32))
        assert len(made.supervised) == 8
        (sum(s.square().mean() for s in made.supervised) + sum(made.terms.values())).backward()
        assert [key for key, p in model.named_parameters() if p.grad is None] == []

    def test_the_logits_are_the_mean_of_the_refined_ones_in_both_modes(self):
        model, x = trained(small()), torch.randn(1, 1, 32, 48)
        with torch.no_grad():
            made = training_outputs(model, x)
            torch.testing.assert_close(torch.stack(made.supervised[4:]).mean(dim=0), made.logits)
            torch.testing.assert_close(model(x), made.logits, rtol=1e-4, atol=1e-5)

    def test_the_shared_guide_sees_each_scale_by_itself(self):
        model = small().train()
        model(torch.randn(2, 1, 32, 32))
        assert model.step1.guide.encode1.first.norm.num_batches_tracked == 4

    def test_the_parts_of_the_loss_are_the_authors(self, parity, monkeypatch):
        path = parity / "golden" / "msdual_128_n2.json"
        if not path.exists():
            pytest.skip("the golden is not here")
        monkeypatch.syspath_prepend(str(parity))
        import check_parity
        from safetensors.torch import load_file

        meta, data = json.loads(path.read_text()), load_file(str(path.with_suffix(".safetensors")))
        keys = json.loads(path.with_name(meta["keys_file"]).read_text())
        model = parity_adapter.build(meta).double().train()
        overrides = meta.get("train_overrides", meta["overrides"])
        load_authors_state(model, check_parity.authors_state(keys, meta["seed"], overrides, torch.float64))
        with torch.no_grad():
            made = training_outputs(model, data["input/x"].double())
        losses = {
            "ce": sum(F.cross_entropy(logits, data["labels"]) for logits in made.supervised),
            "semantic": made.terms["guidance"],
            "reconstruction": made.terms["reconstruction"],
        }
        weights = {
            "ce": 1.0,
            **dict(zip(("semantic", "reconstruction"), model.spec.recipe.terms.values(), strict=True)),
        }
        losses["total"] = sum(weight * losses[name] for name, weight in weights.items())
        assert {name: float(loss) for name, loss in losses.items()} == pytest.approx(meta["train_losses"], rel=1e-6)


class TestRowAttention:
    def test_result_and_gradients_are_those_of_the_whole_matrix(self):
        size = (2, ROWS_AT_ONCE + 44)
        tensors = [torch.randn(*size, width, dtype=torch.float64, requires_grad=True) for width in (4, 4, 16)]
        queries, keys, values = tensors
        plain = (queries @ keys.transpose(1, 2)).softmax(dim=-1) @ values
        rows = row_attention(*tensors)
        torch.testing.assert_close(rows, plain)
        grad = torch.randn_like(plain)
        torch.testing.assert_close(torch.autograd.grad(rows, tensors, grad), torch.autograd.grad(plain, tensors, grad))

    @torch.no_grad()
    def test_large_energies_do_not_overflow(self):
        queries, keys, values = torch.full((1, 8, 4), 40.0), 40 * torch.randn(1, 8, 4), torch.randn(1, 8, 4)
        assert row_attention(queries, keys, values).isfinite().all()


class TestFolded:
    """64 channels take the matrix products, fewer the plain convolutions."""

    @torch.no_grad()
    @pytest.mark.parametrize(("channels", "size"), [(24, (64, 48)), (64, (48, 80))])
    def test_logits_and_maps_stay(self, channels, size):
        model, x = trained(small(channels=channels)), torch.randn(2, 1, *size)
        fast = prepare_for_inference(model)
        with capture_attention(model) as seen:
            plain = model(x)
        with capture_attention(fast) as seen_fast:
            folded = fast(x)
        torch.testing.assert_close(folded, plain, rtol=1e-4, atol=1e-5 * float(plain.abs().max()))
        assert list(seen_fast) == list(seen) == [site.key for site in attention_sites(fast)]
        for key, record in seen.items():
            torch.testing.assert_close(seen_fast[key].maps(), record.maps(), rtol=1e-3, atol=1e-5)

    @torch.no_grad()
    def test_looking_does_not_change_the_result(self):
        fast, x = prepare_for_inference(trained(small())), torch.randn(1, 1, 32, 32)
        plain = fast(x)
        with capture_attention(fast):
            torch.testing.assert_close(fast(x), plain, rtol=0, atol=0)

    @torch.no_grad()
    @pytest.mark.parametrize("size", [(4, 4), (8, 12), (5, 7), (1, 2)])
    def test_the_matrix_products_are_the_convolution(self, size):
        convolution = nn.Conv2d(6, 5, 3, padding=1).double()
        x = torch.randn(2, 6, *size, dtype=torch.float64)
        torch.testing.assert_close(WinogradConv(convolution)(x), convolution(x))

    @torch.no_grad()
    def test_the_matrix_products_lose_no_digit_in_float32(self):
        convolution, x = nn.Conv2d(64, 64, 3, padding=1), torch.randn(1, 64, 16, 16).relu()
        exact = F.conv2d(x.double(), convolution.weight.double(), convolution.bias.double(), padding=1)
        error = (WinogradConv(convolution)(x) - exact).abs().max() / exact.abs().max()
        assert error < 5e-6

    @torch.no_grad()
    @pytest.mark.parametrize("size", [(1, 1), (3, 5)])
    def test_upsampling_melts_into_the_convolution_up_to_the_border(self, size):
        up, convolution = nn.ConvTranspose2d(4, 3, 2, stride=2).double(), nn.Conv2d(3, 5, 3, padding=1).double()
        x = torch.randn(2, 4, *size, dtype=torch.float64)
        torch.testing.assert_close(UpConv(up, convolution)(x), convolution(up(x)))
