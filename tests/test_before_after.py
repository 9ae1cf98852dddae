"""Before and after: two checkpoints of one network on one scan."""

from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch

from napari_medattn.data import Preparation, Volume
from napari_medattn.errors import InputError
from napari_medattn.events import run_to_end
from napari_medattn.geometry import Grid
from napari_medattn.inference import Predictor, segment
from napari_medattn.look import Scene
from napari_medattn.look.before_after import before_after_steps, came_first, change_limit, related, what_differs
from napari_medattn.models import create_model, get_spec, list_models
from napari_medattn.store import Card

ARGUMENTS = {"in_channels": 1, "num_classes": 2, "spatial_dims": 2, "widths": [8, 16, 24]}
CPU = torch.device("cpu")


def a_card(name="one", **facts) -> Card:
    made = Card(name, "dae_former", ARGUMENTS, ("background", "a"), Preparation(), (1, 48, 64), weights_sha256=name)
    return replace(made, **facts)


@pytest.fixture(scope="module")
def networks():
    """A network, and one whose second block attends otherwise."""
    torch.manual_seed(0)
    one = create_model("dae_former", **ARGUMENTS)
    other = create_model("dae_former", **ARGUMENTS)
    other.load_state_dict(one.state_dict())
    with torch.no_grad():
        other.encode1.block2.efficient.queries.weight.mul_(20)
        other.encode1.block2.efficient.keys.weight.mul_(20)
    return Predictor(one, a_card(), CPU), Predictor(other, a_card("other", parent="one"), CPU)


def oblique(shape=(4, 40, 56)) -> Volume:
    """A scan whose axes are turned, mirrored and tilted."""
    turn = nib.eulerangles.euler2mat(0.1, 0.05, 0.2) @ np.diag([-0.7, 0.5, -2.0])
    values = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
    return Volume(values, Grid(shape, nib.affines.from_matvec(turn, [3, 2, 1])))


@pytest.fixture(scope="module")
def scene(networks) -> Scene:
    return Scene(oblique(), networks[0])


@pytest.fixture(scope="module")
def comparison(scene, networks):
    return run_to_end(before_after_steps(scene, *networks))


class TestNumbers:
    def test_a_network_does_not_differ_from_itself(self, scene, networks):
        found = run_to_end(before_after_steps(scene, networks[0], networks[0]))
        assert max(change.value for change in found.changes) == 0
        assert all(np.abs(part.values).max() == 0 for part in found.differences.values())

    def test_what_lies_before_the_change_stays_as_it_was(self, comparison):
        value = {change.key: change.value for change in comparison.changes}
        assert value["encode1.block1.efficient"] == 0
        assert value["encode1.block1.channel"] == 0
        assert value["encode1.block2.efficient"] > 0.01

    def test_those_that_changed_most_come_first(self, comparison):
        values = [change.value for change in comparison.changes]
        assert values == sorted(values, reverse=True)
        assert 0 < values[0] <= 1

    def test_every_site_has_a_number_and_says_what_it_is(self, comparison, networks):
        assert {change.key for change in comparison.changes} == set(networks[0].sites)
        assert all(change.note for change in comparison.changes)

    @pytest.mark.parametrize("name", list_models())
    def test_of_the_whole_registry(self, name):
        variant = "small" if "small" in get_spec(name).variants else "paper"
        arguments = {"in_channels": 1, "num_classes": 2, "spatial_dims": get_spec(name).dims[0]}
        flat = arguments["spatial_dims"] == 2
        tile = (1, 64, 64) if flat else (16, 32, 32)
        card = Card("one", name, arguments, ("background", "a"), Preparation(), tile)
        one, other = (Predictor(create_model(name, variant=variant, **arguments), card, CPU) for _ in range(2))
        scene = Scene(Volume(np.random.default_rng(0).normal(size=(1, 16, 32, 32)), Grid((16, 32, 32), np.eye(4))), one)
        found = run_to_end(before_after_steps(scene, one, other, frame=0))
        assert {change.key for change in found.changes} == set(one.sites)
        assert all(0 <= change.value <= 1 for change in found.changes)
        assert all(len(change.heads) == one.sites[change.key].heads for change in found.changes)
        spatial = {key for key, site in one.sites.items() if site.spatial}
        assert set(found.differences) == spatial


class TestMaps:
    @pytest.mark.parametrize("key", ["encode1.block2.efficient", "decode2.skip.cross"])
    def test_they_lie_on_the_image_as_the_difference_of_two_maps(self, comparison, scene, networks, key):
        one, other = (segment(scene.volume, network, attention=[key]).attention[key].on_image() for network in networks)
        expected = (other - one).mean(axis=0)
        np.testing.assert_allclose(comparison.differences[key].on_image(), expected, rtol=1e-3, atol=1e-5)

    def test_one_frame_is_that_slice_of_the_whole(self, comparison, scene, networks):
        key = "encode1.block2.efficient"
        found = run_to_end(before_after_steps(scene, *networks, frame=1)).differences[key].on_image()
        whole = comparison.differences[key].on_image()
        known = np.isfinite(found)
        assert known.any(axis=(1, 2)).sum() == 1
        np.testing.assert_allclose(found[known], whole[known], rtol=1e-4, atol=1e-6)
        # The scan's slices run against those of the network.
        assert scene.prepared.turn.flips[0]
        assert known[2].all()

    def test_blended_tiles(self, networks):
        scene = Scene(oblique((1, 40, 150)), networks[0])
        assert len(scene.starts(0)) > 1
        key = "encode1.block2.efficient"
        one, other = (segment(scene.volume, network, attention=[key]).attention[key].on_image() for network in networks)
        found = run_to_end(before_after_steps(scene, *networks, sites=[key])).differences[key].on_image()
        np.testing.assert_allclose(found, (other - one).mean(axis=0), rtol=1e-3, atol=1e-5)

    def test_a_tile_of_a_volume_is_that_part_of_the_whole(self):
        arguments = {"in_channels": 1, "num_classes": 2, "spatial_dims": 3, "feature_scale": 16}
        card = Card("one", "attention_unet", arguments, ("background", "a"), Preparation(), (16, 16, 16))
        one, other = (Predictor(create_model("attention_unet", **arguments), card, CPU) for _ in range(2))
        scene = Scene(oblique((16, 20, 40)), one)
        key = "skip2.gate1"
        found = run_to_end(before_after_steps(scene, one, other, frame=0)).differences[key]
        assert found.values.shape == (8, 8, 8)
        known = np.isfinite(found.on_image())
        assert 0 < known.sum() < known.size / 2

    def test_colours_end_nearly_at_the_largest_change_of_either_sign(self):
        values = np.full((1, 10, 100), np.nan, np.float32)
        values[0, :5] = np.linspace(-3, 2, 500).reshape(5, 100)
        assert change_limit(values) == pytest.approx(2.975, abs=0.02)

    def test_colours_have_a_width_where_nothing_changed(self):
        assert change_limit(np.zeros((1, 2, 2), np.float32)) > 0

    def test_memory_is_bounded(self, scene, networks):
        found = run_to_end(before_after_steps(scene, *networks, keep=4 * 12 * 16 * 4 + 1))
        assert list(found.differences) == ["encode1.block1.efficient"]
        assert len(found.changes) == len(networks[0].sites)


class TestWhatCannotBeCompared:
    def test_checkpoints_of_one_network_can(self):
        assert what_differs(a_card(), a_card("other")) == []

    def test_a_default_that_is_written_out_is_no_difference(self):
        assert what_differs(a_card(), a_card(arguments={**ARGUMENTS, "depths": (2, 2, 2)})) == []

    @pytest.mark.parametrize(
        ("facts", "said"),
        [
            ({"network": "medt"}, "network is dae_former in one and medt in other"),
            ({"arguments": {**ARGUMENTS, "widths": [8, 16, 32]}}, r"widths is \[8, 16, 24\] in one and \[8, 16, 32\]"),
            ({"tile": (1, 32, 32)}, "tile is"),
            ({"preparation": Preparation(neighbours=1)}, "preparation: neighbours is 0 in one and 1 in other"),
        ],
    )
    def test_others_cannot_and_it_is_said_why(self, scene, networks, facts, said):
        other = Predictor(create_model("dae_former", **ARGUMENTS), a_card("other", **facts), CPU)
        with pytest.raises(InputError, match=said):
            run_to_end(before_after_steps(scene, networks[0], other))


class TestKinship:
    def test_a_parent_came_first_whatever_the_clock_says(self):
        parent, child = a_card("p", created="2030"), a_card("c", created="2020", parent="p")
        assert came_first(parent, child)
        assert not came_first(child, parent)

    def test_of_strangers_the_older_came_first(self):
        assert came_first(a_card("a", created="2020"), a_card("b", created="2030"))
        assert not came_first(a_card("b", created="2030"), a_card("a", created="2020"))

    def test_a_child_is_related(self, comparison):
        assert comparison.related
        assert comparison.note == ""

    def test_children_of_one_parent_are_related(self):
        assert related(a_card("a", parent="p"), a_card("b", parent="p"))

    def test_strangers_are_not_and_it_is_said(self, scene, networks):
        stranger = Predictor(create_model("dae_former", **ARGUMENTS), a_card("stranger"), CPU)
        assert "need not correspond" in run_to_end(before_after_steps(scene, networks[0], stranger, frame=0)).note
