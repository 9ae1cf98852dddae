"""Switching attention off: it changes the result while it lasts, in this thread, and nothing afterwards."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import nn

from napari_medattn.attention import capture_attention, off_means, switched_off
from napari_medattn.errors import InputError
from napari_medattn.models import attention_sites, prepare_for_inference
from napari_medattn.models.axial.attention import HEADS as AXIAL_HEADS
from tests.test_models import VARIANTS, an_input, build, taps

VARIANTS = [*VARIANTS, pytest.param("dae_former", 2, {"cross_heads": 2}, id="dae_former-2d-two-heads")]


def settled(name: str, dims: int, options: dict) -> nn.Module:
    """A network in which every parameter and statistic counts, also those that start at zero or one."""
    model = build(name, dims, options).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(0, 0.1)
        for norm in (part for part in model.modules() if isinstance(part, nn.modules.batchnorm._BatchNorm)):
            norm.running_mean.normal_(0, 0.2)
            norm.running_var.uniform_(0.5, 2)
            norm.weight.uniform_(0.1, 0.3)
            norm.bias.uniform_(1, 2)  # so that no ReLU behind it is closed everywhere
    return model


def silenced(model: nn.Module, x: torch.Tensor, key: str, heads=None) -> torch.Tensor:
    with torch.no_grad(), switched_off(model, key, heads):
        return model(x)


@pytest.mark.parametrize(("name", "dims", "options"), VARIANTS)
class TestContract:
    @pytest.fixture
    def model(self, name, dims, options) -> nn.Module:
        return settled(name, dims, options)

    @torch.no_grad()
    def test_switching_off_a_site_changes_the_logits_alike_before_and_after_folding(self, model):
        x, fast = an_input(model), prepare_for_inference(model)
        plain, fast_plain = model(x), fast(x)
        for site in attention_sites(model):
            off = silenced(model, x, site.key)
            assert not torch.equal(off, plain), site.key
            scale = float(off.abs().max())
            torch.testing.assert_close(silenced(fast, x, site.key), off, rtol=1e-3, atol=1e-4 * scale, msg=site.key)
        torch.testing.assert_close(model(x), plain, rtol=0, atol=0)
        torch.testing.assert_close(fast(x), fast_plain, rtol=1e-5, atol=1e-5 * float(plain.abs().max()))

    @torch.no_grad()
    def test_each_head_counts_by_itself_before_and_after_folding(self, model):
        x, fast = torch.randn(1, 2, *model.stride), prepare_for_inference(model)
        plain = fast(x)
        for number, site in enumerate(attention_sites(model)):
            for head in range(site.heads) if site.heads > 1 else ():
                off = silenced(fast, x, site.key, [head])
                assert not torch.equal(off, plain), (site.key, head)
                if head == number % site.heads:
                    expected = silenced(model, x, site.key, [head])
                    scale = float(expected.abs().max())
                    torch.testing.assert_close(off, expected, rtol=1e-3, atol=1e-4 * scale, msg=site.key)

    def test_the_head_of_a_site_with_one_is_the_site(self, model):
        x = an_input(model, batch=1)
        for site in attention_sites(model):
            if site.heads == 1:
                torch.testing.assert_close(
                    silenced(model, x, site.key, [0]), silenced(model, x, site.key), rtol=0, atol=0
                )

    @torch.no_grad()
    def test_nothing_is_off_after_an_exception(self, model):
        x, key = an_input(model, batch=1), attention_sites(model)[0].key
        plain = model(x)
        with pytest.raises(ZeroDivisionError), switched_off(model, key):
            raise ZeroDivisionError
        torch.testing.assert_close(model(x), plain, rtol=0, atol=0)
        assert not any(tap._switches for tap in taps(model))

    def test_every_site_says_what_off_means(self, model):
        for site in attention_sites(model):
            assert off_means(site)
            assert off_means(site, 0)


@pytest.fixture
def gates() -> nn.Module:
    return settled("attention_unet", 2, {})


class TestWhatOffDoes:
    @torch.no_grad()
    def test_a_gate_that_is_off_is_one_everywhere(self, gates):
        with switched_off(gates, "skip3.gate1"), capture_attention(gates, ["skip3.gate1"]) as captured:
            gates(an_input(gates))
        assert (captured["skip3.gate1"].maps() == 1).all()

    @torch.no_grad()
    def test_a_softmax_gate_that_is_off_gives_all_the_even_share(self):
        model = settled("attention_unet", 2, {"compatibility": "concatenation_residual"})
        x = an_input(model)
        with switched_off(model, "skip2.gate1"), capture_attention(model, ["skip2.gate1"]) as captured:
            model(x)
        compared = x[0, 0].numel() // 4**2  # positions that the gate at stride 2 compares, at twice its stride
        expected = torch.full_like(captured["skip2.gate1"].maps(), 1 / compared)
        torch.testing.assert_close(captured["skip2.gate1"].maps(), expected)

    @pytest.mark.parametrize("fold", [False, True])
    @torch.no_grad()
    def test_position_attention_that_is_off_leaves_the_residual(self, fold):
        model = settled("self_guided", 2, {})
        model = prepare_for_inference(model) if fold else model
        attend = model.get_submodule("step1.scale2.position.attend")
        seen = {}
        attend.register_forward_hook(lambda _, inputs, output: seen.update(given=inputs[0], found=output))
        silenced(model, an_input(model), "step1.scale2.position.attend")
        torch.testing.assert_close(seen["found"], seen["given"], rtol=0, atol=0)

    @pytest.mark.parametrize("key", ["encode1.block1.efficient", "encode2.block1.channel", "decode1.skip.cross"])
    @torch.no_grad()
    def test_a_block_with_a_residual_adds_nothing(self, key):
        model = settled("dae_former", 2, {})
        seen = {}
        model.get_submodule(key).register_forward_hook(lambda _, inputs, output: seen.update(found=output))
        silenced(model, an_input(model), key)
        assert not seen["found"].any()

    @pytest.mark.parametrize("fold", [False, True])
    @torch.no_grad()
    def test_a_head_of_axial_attention_has_its_channels_zeroed_and_no_others(self, fold):
        model = settled("medt", 2, {})
        model = prepare_for_inference(model) if fold else model
        key = "layer1.0.row_attention"
        seen = []
        model.get_submodule(key).register_forward_hook(lambda _, inputs, output: seen.append(output.clone()))
        x = an_input(model)
        model(x)
        silenced(model, x, key, [3])
        plain, off = (torch.unflatten(output, 1, (AXIAL_HEADS, -1)) for output in seen)
        assert plain[:, 3].any()
        assert not off[:, 3].any()
        others = [head for head in range(AXIAL_HEADS) if head != 3]
        torch.testing.assert_close(off[:, others], plain[:, others], rtol=0, atol=0)

    @torch.no_grad()
    def test_all_heads_of_axial_attention_are_the_site(self):
        model = settled("medt", 2, {})
        x, key = an_input(model), "layer1.0.row_attention"
        torch.testing.assert_close(silenced(model, x, key, range(AXIAL_HEADS)), silenced(model, x, key))

    @torch.no_grad()
    def test_a_serial_head_gives_nothing_to_the_next_either(self):
        model = settled("emf_former", 2, {})
        key = "encode3.block1.attention"
        attention = model.get_submodule(key)
        tokens = torch.randn(1, 16, attention.project.in_features)
        second = tokens[..., attention.width : 2 * attention.width]
        with switched_off(model, key, [0]):
            mixed, _ = attention.mixed(tokens)
        assert not mixed[..., : attention.width].any()
        torch.testing.assert_close(mixed[..., attention.width : 2 * attention.width], attention.heads[1](second)[0])


class TestBracket:
    @torch.no_grad()
    def test_brackets_nest(self, gates):
        x = an_input(gates)
        both = silenced(gates, x, "skip3.gate1")
        with switched_off(gates, "skip2.gate1"):
            nested = silenced(gates, x, "skip3.gate1")
            alone = gates(x)
        assert not torch.equal(nested, both)
        torch.testing.assert_close(alone, silenced(gates, x, "skip2.gate1"), rtol=0, atol=0)

    @torch.no_grad()
    def test_heads_of_two_brackets_add_up(self):
        model = settled("medt", 2, {})
        x, key = an_input(model), "layer1.0.column_attention"
        with switched_off(model, key, [1]):
            nested = silenced(model, x, key, [4])
        torch.testing.assert_close(nested, silenced(model, x, key, [1, 4]), rtol=0, atol=0)

    def test_other_threads_go_on_as_usual(self, gates):
        x = an_input(gates)
        with torch.no_grad():
            plain = gates(x)

        def elsewhere() -> torch.Tensor:
            with torch.no_grad():
                return gates(x)

        with torch.no_grad(), switched_off(gates, "skip2.gate1"), ThreadPoolExecutor(1) as other:
            here, there = gates(x), other.submit(elsewhere).result()
        torch.testing.assert_close(there, plain, rtol=0, atol=0)
        assert not torch.equal(here, plain)

    def test_a_bracket_that_only_another_thread_ran_in_is_an_error(self, gates):
        x = an_input(gates)
        with (
            pytest.raises(InputError, match="No forward pass came by decoder 2 gate"),
            switched_off(gates, "skip2.gate1"),
            ThreadPoolExecutor(1) as other,
        ):
            other.submit(gates, x).result()

    @torch.no_grad()
    def test_a_copy_made_inside_is_whole(self, gates):
        x = an_input(gates)
        plain = gates(x)
        with switched_off(gates, "skip2.gate1"):
            fast = prepare_for_inference(gates)
            gates(x)
            torch.testing.assert_close(fast(x), plain, rtol=1e-4, atol=1e-4 * float(plain.abs().max()))

    def test_gradients_flow_around_what_is_off(self, gates):
        gate = gates.get_submodule("skip2.gate1")
        with switched_off(gates, "skip2.gate1"):
            gates(an_input(gates)).sum().backward()
        assert gate.psi.weight.grad is None
        assert gate.transform.conv.weight.grad.abs().sum() > 0

    def test_an_unknown_site_lists_the_known_ones(self, gates):
        with pytest.raises(InputError, match=r"no attention site skip9.*skip4\.gate1"), switched_off(gates, "skip9"):
            pass

    @pytest.mark.parametrize(("heads", "said"), [([], "No head"), ([1], "1.*only head 0"), ([-1], "no head -1")])
    def test_heads_that_are_not_there_are_refused(self, gates, heads, said):
        with pytest.raises(InputError, match=said), switched_off(gates, "skip2.gate1", heads):
            pass
