"""EMF-former: a reconstruction, held to what the paper claims of its parts and to what its options promise."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from napari_medattn.attention import capture_attention
from napari_medattn.errors import ModelError
from napari_medattn.models import attention_sites, create_model, get_spec
from napari_medattn.models.emf.depthwise import DepthwiseConv3d
from napari_medattn.models.emf.dsp_conv import DSPConv, ShuffledPointwise, shuffle_order
from napari_medattn.models.emf.serial_heads import SerialHeads
from napari_medattn.models.emf.vector_attention import VectorAttention
from napari_medattn.models.folding import prepare_for_inference

READINGS = ("additive", "outer", "fast")
CHOICES = [
    {"pointwise_groups": 1},
    {"shuffle_groups": 1},
    {"shuffle_groups": 2, "pointwise_groups": 2},
    {"activation": "gelu"},
    {"heads": 1, "active_heads": 1},
    {"active_heads": 2},
    {"reading": "outer"},
    {"reading": "fast"},
    {"token_norm": "l2"},
    {"token_norm": "l2", "reading": "fast"},
    {"feature_norm": "none"},
    {"ffn_ratio": 0.5},
    {"skip_merge": "concatenate"},
    {"detail_width": 0},
    {"detail_width": 4, "depth": 1},
    {"widths": [8, 8, 12, 20], "depth": 3},
]


def build(dims: int = 2, dtype: torch.dtype = torch.float64, **options) -> nn.Module:
    """A narrow network with batch norms that are not the identity."""
    torch.manual_seed(1)
    options = {"widths": [8, 8, 16, 16], **options}
    model = create_model("emf_former", spatial_dims=dims, in_channels=2, num_classes=3, **options)
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d | nn.BatchNorm3d):
            for tensor in (part.weight.data, part.running_var):
                tensor.uniform_(0.5, 1.5)
            for tensor in (part.bias.data, part.running_mean):
                tensor.normal_(0, 0.3)
    return model.to(dtype).eval()


def noise(dims: int, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(2, 2, *(32, 16, 48)[:dims], dtype=dtype)


def parameters(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def flops(module: nn.Module, *inputs: torch.Tensor) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(*inputs)
    return counter.get_total_flops()


class TestDepthwise:
    @pytest.mark.parametrize(("kernel", "stride", "depth"), [(3, 1, 4), (3, 2, 4), (3, 2, 5), (5, 1, 1), (5, 3, 4)])
    def test_learns_what_torch_would(self, kernel, stride, depth):
        conv = DepthwiseConv3d(4, kernel, stride).double()
        x = torch.randn(2, 4, depth, 5, 6, dtype=torch.float64, requires_grad=True)
        y = conv(x)
        plain = F.conv3d(x, conv.weight, stride=stride, padding=kernel // 2, groups=4)
        grad = torch.randn_like(y)
        torch.testing.assert_close(y, plain, rtol=0, atol=0)
        ours = torch.autograd.grad(y, (x, conv.weight), grad)
        torch.testing.assert_close(ours, torch.autograd.grad(plain, (x, conv.weight), grad))

    def test_learns_under_autocast(self):
        conv, x = DepthwiseConv3d(4, 3), torch.randn(1, 4, 4, 4, 4)
        with torch.autocast("cpu", torch.bfloat16):
            y = conv(x)
        y.float().sum().backward()
        assert conv.weight.grad.isfinite().all()


class TestShuffle:
    @pytest.mark.parametrize(("channels", "groups"), [(12, 4), (12, 1), (32, 8), (6, 6)])
    def test_the_way_back_undoes_it(self, channels, groups):
        there, back = shuffle_order(channels, groups), shuffle_order(channels, channels // groups)
        assert sorted(there.tolist()) == list(range(channels))
        assert there[back].tolist() == list(range(channels))

    def test_each_group_of_the_convolution_sees_each_group_of_the_shuffle(self):
        matrix = ShuffledPointwise(2, 16, 16, shuffle_groups=4, groups=4).matrix()
        seen = (matrix != 0).view(4, 4, 4, 4).any(dim=3).any(dim=1)
        assert seen.all()

    def test_it_is_a_shuffle_and_a_grouped_convolution(self):
        layer, x = ShuffledPointwise(2, 12, 8, shuffle_groups=3, groups=4).double(), noise(2)[:, :1].repeat(1, 12, 1, 1)
        x = x * torch.arange(1, 13, dtype=x.dtype).view(-1, 1, 1)
        shuffled = x.view(2, 3, 4, *x.shape[2:]).transpose(1, 2).flatten(1, 2)
        expected = F.conv2d(shuffled, layer.weight[..., None, None], groups=4)
        torch.testing.assert_close(layer(x), expected)
        torch.testing.assert_close(layer.folded()(x), expected)


class TestDSPConv:
    @pytest.mark.parametrize("dims", [2, 3])
    @pytest.mark.parametrize("groups", [1, 4])
    def test_has_far_fewer_parameters_than_a_convolution(self, dims, groups):
        plain = 3**dims * 64 * 64
        assert parameters(DSPConv(dims, 64, 64, pointwise_groups=groups)) < plain / 6


@pytest.mark.parametrize("reading", READINGS)
class TestVectorAttention:
    @pytest.mark.parametrize("feature_norm", ["rms", "none"])
    @pytest.mark.parametrize("token_norm", ["softmax", "l2"])
    @torch.no_grad()
    def test_is_what_its_equations_say(self, reading, token_norm, feature_norm):
        head = VectorAttention(4, reading, token_norm, feature_norm).double()
        x = torch.randn(2, 7, 4, dtype=torch.float64)

        def norm(scores):
            return scores.softmax(1) if token_norm == "softmax" else scores / scores.square().sum(1, True).sqrt()

        def length(tokens):
            return tokens / tokens.square().mean(-1, True).sqrt() if feature_norm == "rms" else tokens

        query, key = length(head.query(x)), length(head.key(x))
        alpha = norm((query * head.query_score).sum(-1) / 2)
        vector = (alpha[..., None] * query).sum(1, keepdim=True)
        if reading == "additive":
            expected = head.mix(vector * key) + query
        elif reading == "outer":
            height = (key * head.key_score).sum(-1, keepdim=True) / 2
            expected = head.mix(vector * height) * key + query
        else:
            pooled = vector * key
            beta = norm((pooled * head.key_score).sum(-1) / 2)
            expected = head.mix((beta[..., None] * pooled).sum(1, keepdim=True) * query) + query
        out, weights = head(x)
        torch.testing.assert_close(out, expected)
        torch.testing.assert_close(weights, alpha)

    @torch.no_grad()
    def test_four_heads_in_series_stay_bounded_however_large_the_weights_grow(self, reading):
        """Unbounded, each head squares what it gets, and a training ended in numbers that are none."""
        heads = SerialHeads(16, reading=reading)
        for head in heads.heads:
            for layer in (head.query, head.key):
                layer.weight.mul_(100)
        mixed, _ = heads.mixed(torch.randn(1, 50, 16))
        assert mixed.abs().max() < 100

    def test_its_cost_grows_with_the_positions_not_with_their_square(self, reading):
        head = VectorAttention(8, reading)
        few, many = (flops(head, torch.randn(1, n, 8)) for n in (1000, 4000))
        assert many <= 4 * few

    def test_is_cheaper_than_softmax_attention(self, reading):
        head, tokens = VectorAttention(8, reading), torch.randn(1, 1000, 8)
        query, key, value = (torch.randn(1, 1, 1000, 8) for _ in range(3))
        with FlopCounterMode(display=False) as counter:
            torch.softmax(query @ key.transpose(-1, -2), dim=-1) @ value
        assert flops(head, tokens) < counter.get_total_flops() / 50


class TestSerialHeads:
    @torch.no_grad()
    def test_a_head_hears_of_no_later_share(self):
        heads = SerialHeads(16)
        tokens = torch.randn(1, 9, 16)
        changed = tokens.clone()
        changed[..., 8:] = torch.randn(1, 9, 8)
        before, after = heads.mixed(tokens)[0], heads.mixed(changed)[0]
        torch.testing.assert_close(before[..., :8], after[..., :8], rtol=0, atol=0)
        assert not torch.allclose(before[..., 8:], after[..., 8:])

    @torch.no_grad()
    def test_a_head_hears_of_the_earlier_ones(self):
        heads = SerialHeads(16)
        tokens = torch.randn(1, 9, 16)
        changed = tokens.clone()
        changed[..., :4] = torch.randn(1, 9, 4)
        assert not torch.allclose(heads.mixed(tokens)[0][..., 12:], heads.mixed(changed)[0][..., 12:])

    @torch.no_grad()
    def test_one_head_is_plain_vector_attention_with_a_projection(self):
        heads = SerialHeads(8, heads=1, active_heads=1)
        x = torch.randn(2, 3, 4, 8)
        expected = heads.project(heads.heads[0](x.flatten(1, 2))[0]).view(x.shape)
        torch.testing.assert_close(heads(x), expected)

    @torch.no_grad()
    def test_ignored_shares_pass_unchanged_into_the_projection(self):
        heads = SerialHeads(16, heads=4, active_heads=1)
        tokens = torch.randn(1, 9, 16)
        assert torch.equal(heads.mixed(tokens)[0][..., 4:], tokens[..., 4:])
        assert len(heads.heads) == 1


@pytest.mark.parametrize("options", CHOICES, ids=str)
class TestChoices:
    @torch.no_grad()
    def test_folded_and_plain_agree_in_logits_and_maps(self, options):
        for dims in (2, 3):
            model, x = build(dims, **options), noise(dims)
            fast = prepare_for_inference(model)
            with capture_attention(model) as plain:
                expected = model(x)
            with capture_attention(fast) as captured:
                torch.testing.assert_close(fast(x), expected)
            assert list(captured) == list(plain) == [site.key for site in attention_sites(fast)]
            for key, record in plain.items():
                torch.testing.assert_close(captured[key].maps(), record.maps())

    @torch.no_grad()
    def test_maps_are_normalised_as_declared(self, options):
        model = build(3, **options)
        with capture_attention(model) as captured:
            model(noise(3))
        for record in captured.values():
            softmax = record.site.normalisation == "softmax"
            values = record.maps() if softmax else record.maps().square()
            torch.testing.assert_close(values.sum((2, 3, 4)), torch.ones_like(values[:, :, 0, 0, 0]))
            assert record.site.sums_to_one == ((2, 3, 4) if softmax else ())

    def test_every_parameter_learns(self, options):
        model = build(3, **options).train()
        model(noise(3)).square().mean().backward()
        assert [key for key, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []

    def test_changes_the_result(self, options):
        x, plain = noise(2), build(2)
        other = build(2, **options)
        theirs = other.state_dict()
        same = {k: v for k, v in plain.state_dict().items() if k in theirs and v.shape == theirs[k].shape}
        other.load_state_dict({**theirs, **same})
        assert not torch.allclose(other(x), plain(x))


class TestNetwork:
    @pytest.mark.parametrize(
        "option",
        [
            {"widths": [8, 8, 16]},
            {"widths": [8, 8, 16, 0]},
            {"widths": [6, 8, 16, 16]},
            {"depth": 0},
            {"shuffle_groups": 3},
            {"pointwise_groups": 0},
            {"activation": "tanh"},
            {"heads": 3},
            {"heads": 0},
            {"active_heads": 0},
            {"active_heads": 5},
            {"reading": "literal"},
            {"token_norm": "none"},
            {"feature_norm": "layer"},
            {"ffn_ratio": 0},
            {"skip_merge": "multiply"},
            {"detail_width": -1},
        ],
        ids=str,
    )
    def test_a_choice_that_does_not_exist_is_refused(self, option):
        with pytest.raises(ModelError, match="Use "):
            build(2, **option)

    def test_says_that_it_is_a_reconstruction(self):
        spec = get_spec("emf_former")
        assert "reconstruction" in spec.title.lower()
        assert "reconstruction" in spec.notes.lower()
        assert spec.from_authors is None

    @pytest.mark.parametrize("dims", [2, 3])
    @torch.no_grad()
    def test_single_precision_is_enough(self, dims):
        model, x = build(dims), noise(dims)
        exact, single = model(x), copy.deepcopy(model).float()(x.float())
        torch.testing.assert_close(single.double(), exact, rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize("dims", [2, 3])
    @torch.no_grad()
    def test_the_layout_in_memory_does_not_matter(self, dims):
        model, x = build(dims), noise(dims)
        last = torch.channels_last if dims == 2 else torch.channels_last_3d
        torch.testing.assert_close(model.to(memory_format=last)(x.contiguous(memory_format=last)), build(dims)(x))

    @torch.no_grad()
    def test_one_token_is_enough(self):
        logits = build(2)(torch.randn(1, 2, 16, 16, dtype=torch.float64))
        assert logits.isfinite().all()

    @pytest.mark.parametrize("dims", [2, 3])
    def test_sizes_are_as_stated(self, dims):
        paper, small = (create_model("emf_former", spatial_dims=dims, variant=name) for name in ("paper", "small"))
        assert parameters(paper) < 1.4e6
        assert parameters(small) <= parameters(paper)
