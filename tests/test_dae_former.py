"""What is particular to DAE-Former, beyond what every network keeps to."""

from __future__ import annotations

import json

import pytest
import torch
from torch import nn

from napari_medattn.attention import capture_attention
from napari_medattn.errors import ModelError
from napari_medattn.models import create_model, get_spec, load_authors_state
from napari_medattn.models.dae.names import dae_name
from napari_medattn.models.folding import prepare_for_inference

TINY = {"widths": [16, 24, 32], "depths": [1, 1, 1]}


def tiny(seed: int = 0, **options) -> nn.Module:
    """A small network whose every parameter matters: nothing is left at zero or one."""
    torch.manual_seed(seed)
    model = create_model("dae_former", **{"in_channels": 2, "num_classes": 3, **TINY, **options}).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def image(channels: int = 2, height: int = 48, width: int = 80, batch: int = 1) -> torch.Tensor:
    return torch.randn(batch, channels, height, width, generator=torch.Generator().manual_seed(1))


def answer(model: nn.Module, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(x)


class TestOptions:
    @pytest.mark.parametrize("option", [{"skip_attention": "encoder_queries"}, {"feed_forward": "mix"}], ids=str)
    def test_a_choice_between_paper_and_code_changes_the_answer(self, option):
        default, other = tiny(), tiny(**option)
        other.load_state_dict(default.state_dict(), strict=False)
        assert not torch.allclose(answer(other, image()), answer(default, image()), rtol=1e-3)

    def test_heads_of_the_cross_attention_need_no_other_weights(self):
        one, four = tiny(), tiny(cross_heads=4)
        four.load_state_dict(one.state_dict())
        assert not torch.allclose(answer(four, image()), answer(one, image()), rtol=1e-3)

    def test_in_the_papers_way_the_keys_of_a_skip_are_the_decoders(self):
        """A skip that is the same everywhere leaves nothing to prefer, unless the keys come from the decoder."""
        spread = {}
        for way in ("encoder_queries_and_keys", "encoder_queries"):
            skip = tiny(skip_attention=way).decode1.skip
            seen = {}
            skip.cross.tap.attach(seen.update)
            skip(torch.randn(1, 4, 4, 16), torch.randn(16).expand(1, 4, 4, 16).contiguous())
            spread[way] = seen["keys"].std(dim=(3, 4)).max()
        assert spread["encoder_queries_and_keys"] < 1e-6 < spread["encoder_queries"]

    @pytest.mark.parametrize(
        "wrong",
        [
            {"widths": [16, 24]},
            {"widths": [16, 20, 32]},
            {"depths": [1, 0, 1]},
            {"cross_heads": 3},
            {"cross_heads": 0},
            {"skip_attention": "decoder"},
            {"feed_forward": "mlp"},
        ],
        ids=str,
    )
    def test_a_value_that_does_not_exist_is_refused(self, wrong):
        with pytest.raises(ModelError, match="Use "):
            tiny(**wrong)

    def test_options_survive_json(self):
        options = json.loads(json.dumps(get_spec("dae_former").options))
        shapes = {key: value.shape for key, value in create_model("dae_former", **options).state_dict().items()}
        assert shapes == {key: value.shape for key, value in create_model("dae_former").state_dict().items()}

    def test_the_small_variant_is_small(self):
        model = create_model("dae_former", variant="small")
        assert sum(p.numel() for p in model.parameters()) < 5e6


class TestOneChannel:
    def test_one_channel_is_what_three_equal_channels_are(self):
        one, three = tiny(in_channels=1), tiny(in_channels=3)
        three.load_state_dict(one.state_dict())
        torch.testing.assert_close(
            answer(one, image(1)), answer(three, image(1).expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-5
        )


class TestSizes:
    @pytest.mark.parametrize("side", [16, 32, 64])
    def test_the_weights_know_no_size(self, side):
        assert answer(tiny(), image(height=side, width=48)).shape == (1, 3, side, 48)

    def test_few_and_many_positions_are_computed_alike(self):
        """Where positions outnumber channels the order of the products changes, and only that."""
        efficient, x = tiny().encode1.block1.efficient.double(), torch.randn(1, 4, 5, 16, dtype=torch.float64)
        for cut in (x, x[:, :2]):
            tokens = cut.flatten(1, 2)
            queries, keys = efficient.queries(tokens).softmax(-1), efficient.keys(tokens).softmax(1)
            expected = efficient.projection(queries @ (keys.mT @ efficient.values(tokens)))
            torch.testing.assert_close(efficient(cut).flatten(1, 2), expected)

    def test_channel_attention_is_that_of_normalised_queries_and_keys(self):
        channel, x = tiny().encode1.block1.channel.double(), torch.randn(2, 4, 5, 16, dtype=torch.float64)
        for cut in (x, x[:, :2]):
            q, k, v = channel.qkv(cut.flatten(1, 2)).view(2, -1, 3, 8, 2).permute(2, 0, 3, 4, 1)
            q, k = nn.functional.normalize(q, dim=-1), nn.functional.normalize(k, dim=-1)
            weights = (q @ k.mT * channel.temperature).softmax(-1)
            expected = channel.projection((weights @ v).permute(0, 3, 1, 2).flatten(2))
            torch.testing.assert_close(channel(cut.contiguous()).flatten(1, 2), expected)


class TestFolded:
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"in_channels": 1},
            {"skip_attention": "encoder_queries", "cross_heads": 4},
            {"feed_forward": "mix", "depths": [2, 1, 1]},
        ],
        ids=str,
    )
    def test_answer_and_maps_stay(self, options):
        model = tiny(**options)
        fast, x = prepare_for_inference(model), image(model.in_channels, batch=2)
        with torch.no_grad(), capture_attention(model) as slow_maps:
            slow = model(x)
        with torch.no_grad(), capture_attention(fast) as fast_maps:
            torch.testing.assert_close(fast(x), slow, rtol=1e-4, atol=1e-5 * float(slow.abs().max()))
        assert list(fast_maps) == list(slow_maps)
        for key, record in slow_maps.items():
            torch.testing.assert_close(fast_maps[key].maps(), record.maps(), rtol=1e-4, atol=1e-7)

    def test_the_network_it_was_made_from_stays_as_it_was(self):
        model = tiny()
        before = {key: value.clone() for key, value in model.state_dict().items()}
        prepare_for_inference(model)
        torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)

    def test_images_with_the_channels_last_are_taken(self):
        fast = prepare_for_inference(tiny())
        expected = answer(fast, image())
        fast = fast.to(memory_format=torch.channels_last)
        turned = image().contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(answer(fast, turned), expected, rtol=1e-4, atol=1e-5)


class TestAttention:
    def test_an_efficient_map_is_the_row_of_the_full_matrix(self):
        model = tiny()
        with torch.no_grad(), capture_attention(model) as captured:
            model(image())
        record = captured["decode1.skip.cross"]
        queries, keys = record.queries[0, 0].flatten(1), record.keys[0, 0].flatten(1)
        full = queries.mT @ keys
        torch.testing.assert_close(full.sum(dim=1), torch.ones(len(full)))
        row = record.query((3, 5))[0, 0].flatten()
        torch.testing.assert_close(row, full[3 * record.keys.shape[-1] + 5])

    def test_every_declared_axis_sums_to_one(self):
        model = tiny(cross_heads=4)
        with torch.no_grad(), capture_attention(model) as captured:
            model(image())
        for record in captured.values():
            sums = record.maps().sum(dim=record.site.sums_to_one)
            torch.testing.assert_close(sums, torch.ones_like(sums))


class TestAuthorsNames:
    @pytest.mark.parametrize(
        "key",
        [
            "decoder_2.layer_former_1.mlp1.fc1.weight",
            "decoder_2.cross_attn.attn.reprojection.bias",
            "decoder_2.x1_linear.weight",
            "backbone.block1.0.mlp1.norm2.weight",
            "decoder_0.cross_attn.mlp.norm3.bias",
        ],
    )
    def test_what_they_never_use_is_dropped(self, key):
        assert dae_name(key) is None

    @pytest.mark.parametrize("key", ["decoder_3.layer_up.norm.bias", "backbone.blocks.weight", "head.weight", "x"])
    def test_a_strange_key_stays_for_the_loader_to_name(self, key):
        found = get_spec("dae_former").from_authors(tiny(), {key: torch.zeros(2, 2, 1, 1)})
        assert list(found) == [key]

    def test_weights_of_another_network_are_refused_with_their_names(self):
        state = {"conv1.conv1.0.weight": torch.zeros(4, 1, 3, 3)}
        with pytest.raises(ModelError, match=r"unknown: conv1\.conv1\.0\.weight"):
            load_authors_state(tiny(), state)

    def test_a_pointwise_convolution_of_theirs_is_a_linear_map_of_ours(self):
        weight = torch.randn(16, 16, 1, 1)
        found = get_spec("dae_former").from_authors(tiny(), {"backbone.block1.0.attn.keys.weight": weight})
        torch.testing.assert_close(found["encode1.block1.efficient.keys.weight"], weight[:, :, 0, 0])


def test_every_parameter_learns_with_one_channel_too():
    model = tiny(in_channels=1).train()
    model(image(1)).square().mean().backward()
    assert [key for key, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
