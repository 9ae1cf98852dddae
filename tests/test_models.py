"""What every network in the registry must keep to; a new one inherits all of this by registering."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from napari_medattn.attention import capture_attention
from napari_medattn.errors import InputError, ModelError
from napari_medattn.models import (
    attention_sites,
    create_model,
    get_spec,
    list_models,
    prepare_for_inference,
    training_outputs,
)
from napari_medattn.models.tap import Tap

SMALL = {"feature_scale": 32}  # smaller than the small variants, where a network can be
VARIANTS = [
    pytest.param(name, dims, {}, id=f"{name}-{dims}d") for name in list_models() for dims in get_spec(name).dims
]
VARIANTS += [
    pytest.param("attention_unet", 2, {"gates_per_skip": 2}, id="attention_unet-2d-multi"),
    pytest.param("attention_unet", 2, {"compatibility": "concatenation_residual"}, id="attention_unet-2d-residual"),
    pytest.param("attention_unet", 2, {"compatibility": "concatenation_debug"}, id="attention_unet-2d-debug"),
    pytest.param("attention_unet", 3, {"align_corners": True}, id="attention_unet-3d-align"),
    pytest.param("grid_gating_unet", 3, {"slice_axis": 2}, id="grid_gating_unet-3d-xyz"),
]


def build(name: str, dims: int, options: dict, **facts) -> nn.Module:
    small = {key: value for key, value in SMALL.items() if key in get_spec(name).options}
    variant = "small" if "small" in get_spec(name).variants else "paper"
    torch.manual_seed(1)
    facts = {"in_channels": 2, "num_classes": 3, "spatial_dims": dims, **facts}
    return create_model(name, variant=variant, **facts, **{**small, **options})


def an_input(model: nn.Module, batch: int = 2) -> torch.Tensor:
    """Noise of different side lengths: one or two strides each."""
    sides = [step * times for step, times in zip(model.stride, (2, 1, 2), strict=False)]
    return torch.randn(batch, 2, *sides)


def taps(model: nn.Module) -> list[Tap]:
    return [part for part in model.modules() if isinstance(part, Tap)]


@pytest.mark.parametrize(("name", "dims", "options"), VARIANTS)
class TestContract:
    @pytest.fixture
    def model(self, name, dims, options) -> nn.Module:
        return build(name, dims, options).eval()

    def test_logits_have_a_channel_per_class_at_the_size_of_the_input(self, model):
        x = an_input(model)
        assert model(x).shape == (2, 3, *x.shape[2:])

    def test_declared_sites_and_no_others_hold_a_tap(self, model):
        holders = {name.removesuffix(".tap") for name, part in model.named_modules() if isinstance(part, Tap)}
        assert {site.key for site in attention_sites(model)} == holders

    def test_sites_are_reached_in_the_declared_order(self, model):
        with torch.no_grad(), capture_attention(model) as captured:
            model(an_input(model))
        assert list(captured) == [site.key for site in attention_sites(model)]

    def test_maps_have_the_declared_heads_and_stride(self, model):
        x = an_input(model)
        with torch.no_grad(), capture_attention(model) as captured:
            model(x)
        expected = {
            site.key: (
                2,
                site.heads,
                *(n // step for n, step in zip(x.shape[2:], site.stride, strict=True)),
            )
            if site.spatial
            else (2, site.heads, site.channels, site.channels)
            for site in attention_sites(model)
        }
        assert {key: tuple(record.maps().shape) for key, record in captured.items()} == expected

    def test_maps_sum_to_one_where_they_say_so(self, model):
        with torch.no_grad(), capture_attention(model) as captured:
            model(an_input(model))
        for site in attention_sites(model):
            if site.sums_to_one:
                sums = captured[site.key].maps().sum(dim=site.sums_to_one)
                expected = torch.full_like(sums, site.patches ** len(site.sums_to_one))
                torch.testing.assert_close(sums, expected, rtol=1e-4, atol=1e-5, msg=site.key)

    def test_a_row_of_a_query_sums_to_one_and_lies_on_the_grid(self, model):
        with torch.no_grad(), capture_attention(model) as captured:
            model(an_input(model))
        for site in attention_sites(model):
            if site.kind in ("pairwise", "factored", "axial"):
                record = captured[site.key]
                grid = record.maps().shape[2:]
                row = record.query(tuple(n - 1 for n in grid))
                assert row.shape == record.maps().shape
                total = row.sum(dim=tuple(range(2, row.ndim)))
                torch.testing.assert_close(total, torch.ones_like(total), rtol=1e-4, atol=1e-5, msg=site.key)

    def test_the_mean_of_all_rows_is_the_map(self, model):
        x = an_input(model)[:1]
        with torch.no_grad(), capture_attention(model) as captured:
            model(x)
        for site in attention_sites(model):
            if site.kind in ("pairwise", "factored") and captured[site.key].maps()[0, 0].numel() <= 512:
                record = captured[site.key]
                grid = record.maps().shape[2:]
                rows = [record.query((y, x)) for y in range(grid[0]) for x in range(grid[1])]
                torch.testing.assert_close(torch.stack(rows).mean(dim=0), record.maps(), rtol=1e-4, atol=1e-6)

    def test_a_kind_without_queries_says_so(self, model):
        with torch.no_grad(), capture_attention(model) as captured:
            model(an_input(model))
        for record in captured.values():
            if record.why_no_query:
                with pytest.raises(InputError, match="attends to nothing"):
                    record.query((0, 0))
            else:
                with pytest.raises(InputError, match="lies outside the map"):
                    record.query((10_000, 0))

    def test_maps_lie_between_zero_and_one(self, model):
        with torch.no_grad(), capture_attention(model) as captured:
            model(10 * an_input(model))
        assert all(record.maps().min() >= 0 and record.maps().max() <= 1 for record in captured.values())

    def test_maps_differ_between_images(self, model):
        with torch.no_grad(), capture_attention(model) as captured:
            model(an_input(model))
        assert any(not torch.equal(*record.maps()) for record in captured.values())

    def test_looking_does_not_change_the_result(self, model):
        x = an_input(model)
        with torch.no_grad():
            plain = model(x)
            with capture_attention(model):
                watched = model(x)
        torch.testing.assert_close(watched, plain, rtol=0, atol=0)

    def test_records_carry_no_graph(self, model):
        with capture_attention(model) as captured:
            model(an_input(model))
        assert not any(record.maps().requires_grad for record in captured.values())

    def test_nobody_listens_afterwards(self, model):
        with torch.no_grad(), capture_attention(model):
            model(an_input(model))
        assert not any(tap.listened for tap in taps(model))

    def test_nobody_listens_after_an_exception(self, model):
        with pytest.raises(ZeroDivisionError), capture_attention(model):
            raise ZeroDivisionError
        assert not any(tap.listened for tap in taps(model))

    def test_every_parameter_learns(self, model):
        for parameter in model.parameters():
            parameter.requires_grad_(True)  # gates may be created frozen
        outputs = training_outputs(model, an_input(model))
        losses = [logits.square().mean() for logits in outputs.supervised]
        torch.stack([*losses, *outputs.terms.values()]).sum().backward()
        idle = [key for key, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
        assert idle == []

    @torch.no_grad()
    def test_a_batch_gives_what_its_images_give_alone(self, model):
        x = an_input(model)
        torch.testing.assert_close(model(x), torch.cat([model(x[:1]), model(x[1:])]), rtol=1e-4, atol=1e-5)

    @torch.no_grad()
    def test_prepared_for_inference_it_says_and_shows_the_same(self, model):
        for norm in (part for part in model.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)):
            norm.running_mean.normal_(0, 0.2)
            norm.running_var.uniform_(0.5, 2)
        x, state = an_input(model), {key: value.clone() for key, value in model.state_dict().items()}
        fast = prepare_for_inference(model)
        with capture_attention(model) as slow_maps:
            expected = model(x)
        with capture_attention(fast) as fast_maps:
            found = fast(x)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
        torch.testing.assert_close(fast(x), found, rtol=1e-5, atol=1e-5 * float(expected.abs().max()))
        assert list(fast_maps) == list(slow_maps)
        for key, record in slow_maps.items():
            torch.testing.assert_close(fast_maps[key].maps(), record.maps(), rtol=1e-3, atol=1e-5, msg=key)
        torch.testing.assert_close(model.state_dict(), state, rtol=0, atol=0)  # the trainable one is untouched
        assert fast.spec.name == model.spec.name
        assert fast.stride == model.stride

    def test_its_recipe_names_only_terms_that_it_has(self, model, name):
        terms = set(training_outputs(model, an_input(model)).terms)
        spec = get_spec(name)
        assert all(set(spec.variant(v).recipe.terms) == terms for v in ("paper", *spec.variants))

    def test_the_weights_fit_a_second_network_of_the_same_options(self, model, name, dims, options):
        other = build(name, dims, options).eval()
        other.load_state_dict(model.state_dict())
        x = an_input(model)
        torch.testing.assert_close(other(x), model(x), rtol=0, atol=0)

    def test_a_size_that_cannot_be_halved_names_the_axis_and_the_multiple(self, model):
        x = an_input(model)[..., :-1]
        with pytest.raises(InputError, match=rf"along X.*multiple of {model.stride[-1]}"):
            model(x)

    def test_a_wrong_number_of_channels_names_both(self, model):
        with pytest.raises(InputError, match="2 input channels, the image has 1"):
            model(an_input(model)[:, :1])

    def test_a_wrong_number_of_axes_is_named(self, model):
        with pytest.raises(InputError, match="D network got a tensor"):
            model(an_input(model)[0])


class TestVariants:
    @pytest.mark.parametrize("name", list_models())
    def test_the_small_one_has_at_most_five_million_parameters(self, name):
        for dims in get_spec(name).dims:
            model = create_model(name, num_classes=3, spatial_dims=dims, variant="small")
            assert sum(p.numel() for p in model.parameters()) <= 5_000_000

    def test_an_unknown_variant_lists_the_known_ones(self):
        with pytest.raises(ModelError, match="paper, small"):
            create_model("attention_unet", variant="tiny")

    def test_options_go_before_the_variant(self):
        model = create_model("attention_unet", variant="small", feature_scale=32)
        assert model.encode1.first.conv.out_channels == 2


class TestRegistry:
    def test_an_unknown_name_suggests_the_nearest(self):
        with pytest.raises(ModelError, match="Did you mean attention_unet"):
            create_model("atention_unet")

    def test_an_unknown_option_suggests_the_nearest(self):
        with pytest.raises(ModelError, match=r"Did you mean feature_scale\?"):
            create_model("attention_unet", featur_scale=8)

    def test_four_dimensions_are_refused(self):
        with pytest.raises(ModelError, match="spatial_dims 3 or 2"):
            create_model("attention_unet", spatial_dims=4)

    @pytest.mark.parametrize("facts", [{"in_channels": 0}, {"num_classes": 1}])
    def test_a_network_without_channels_or_classes_is_refused(self, facts):
        with pytest.raises(ModelError, match="at least 1 channel and 2 classes"):
            create_model("attention_unet", **facts)

    @pytest.mark.parametrize(
        "option",
        [{"feature_scale": 3}, {"feature_scale": 0}, {"gates_per_skip": 3}, {"compatibility": "dot"}],
        ids=str,
    )
    def test_a_value_that_does_not_exist_is_refused(self, option):
        with pytest.raises(ModelError, match="Use "):
            create_model("attention_unet", **option)

    def test_every_network_links_its_paper(self):
        assert all(get_spec(name).paper.startswith("https://") for name in list_models())

    def test_a_module_from_elsewhere_declares_no_sites(self):
        with pytest.raises(ModelError, match="Linear"):
            attention_sites(nn.Linear(1, 1))


class TestCapture:
    @pytest.fixture
    def model(self) -> nn.Module:
        return build("attention_unet", 2, {}).eval()

    def test_only_chosen_sites_are_kept(self, model):
        with torch.no_grad(), capture_attention(model, ["skip3.gate1"]) as captured:
            model(an_input(model))
        assert list(captured) == ["skip3.gate1"]

    def test_two_captures_at_once_both_see(self, model):
        with (
            torch.no_grad(),
            capture_attention(model) as one,
            capture_attention(model, ["skip2.gate1"]) as two,
        ):
            model(an_input(model))
        torch.testing.assert_close(one["skip2.gate1"].maps(), two["skip2.gate1"].maps())

    def test_an_unknown_site_lists_the_known_ones(self, model):
        with (
            pytest.raises(InputError, match=r"no attention site skip9.*skip4\.gate1"),
            capture_attention(model, ["skip9"]),
        ):
            pass

    @pytest.mark.parametrize("sites", [[], ()])
    def test_capturing_nothing_is_an_error(self, model, sites):
        with pytest.raises(InputError, match="nothing would be captured"), capture_attention(model, sites):
            pass

    def test_a_network_without_attention_cannot_be_watched(self):
        plain = build("attention_unet", 2, {"gates_per_skip": 0})
        with pytest.raises(InputError, match="nothing would be captured"), capture_attention(plain):
            pass

    def test_no_forward_pass_is_an_error(self, model):
        with pytest.raises(InputError, match="at least once"), capture_attention(model):
            pass

    def test_a_gate_has_no_queries_and_says_so(self, model):
        with torch.no_grad(), capture_attention(model) as captured:
            model(an_input(model))
        with pytest.raises(InputError, match="is a gate"):
            captured["skip2.gate1"].query((0, 0))

    @torch.no_grad()
    def test_the_map_is_the_factor_that_the_skip_was_multiplied_with(self, model):
        seen = {}
        gate = model.get_submodule("skip3.gate1")
        gate.register_forward_pre_hook(lambda _, inputs: seen.update(skip=inputs[0]))
        gate.transform.register_forward_pre_hook(lambda _, inputs: seen.update(gated=inputs[0]))
        with capture_attention(model) as captured:
            model(an_input(model))
        torch.testing.assert_close(captured["skip3.gate1"].maps() * seen["skip"], seen["gated"])

    def test_softmax_maps_are_not_offered_for_comparison(self):
        residual = build("attention_unet", 2, {"compatibility": "concatenation_residual"})
        assert not any(site.comparable_across_tiles for site in attention_sites(residual))
