"""Whether attention matters: toys whose answer is known, and real networks against the plain way of doing it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from napari_medattn.attention import switched_off
from napari_medattn.data import Preparation, Volume, read_volume
from napari_medattn.errors import GeometryError, InputError
from napari_medattn.events import Progress, run_to_end
from napari_medattn.geometry import Grid
from napari_medattn.inference import Predictor, segment
from napari_medattn.look import Scene
from napari_medattn.look.erasing import erasing_steps, even_steps, replaced
from napari_medattn.look.frame_input import FrameInput, frame_passes
from napari_medattn.look.knock_out import Target, knock_out_steps, mask_without, targets_of
from napari_medattn.look.randomising import block_of, randomise, randomising_steps
from napari_medattn.models import AttentionSite, create_model
from napari_medattn.models.tap import Tap
from napari_medattn.store import Card, load_checkpoint, save_checkpoint
from tests.conftest import shared_folder

CPU = torch.device("cpu")
PLAIN = Preparation(orientation=None, intensity="none")


class Holder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tap = Tap()


class Bright(nn.Module):
    """Class 1 where the brightness is above one half; ``looks`` says where its gate claims to look.

    Two heads bring the evidence: the first all of it, the second nothing. A second site is between channels.
    """

    def __init__(self, dims: int = 2, looks: str = "right") -> None:
        super().__init__()
        self.stride, self.looks = (4,) * dims, looks
        self.gate, self.heads, self.channel = Holder(), Holder(), Holder()
        self.passes = 0

    def sites(self) -> list[AttentionSite]:
        dims = len(self.stride)
        return [
            AttentionSite("gate", "the gate", "gate", (1,) * dims),
            AttentionSite("heads", "the heads", "vector", (1,) * dims, heads=2, normalisation="l2"),
            AttentionSite("channel", "the channels", "channel", (), normalisation="softmax", channels=1),
        ]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.passes += 1
        bright = x[:, :1]
        if self.gate.tap.listened:
            self.gate.tap.emit(
                gate={"right": bright, "wrong": 1 - bright, "nowhere": torch.zeros_like(bright)}[self.looks]
            )
        if self.heads.tap.listened:
            self.heads.tap.emit(weights=torch.cat([-bright, torch.zeros_like(bright)], dim=1))
        evidence = torch.cat([16 * (bright - 0.5), torch.zeros_like(bright)], dim=1)
        evidence = self.heads.tap.result(self.heads.tap.heads(evidence, 1, 2)).sum(dim=1, keepdim=True)
        return torch.cat([torch.full_like(evidence, 0.1), evidence], dim=1)


def card(dims: int = 2, tile=(1, 32, 32)) -> Card:
    return Card(
        "toy", "attention_unet", {"in_channels": 1, "num_classes": 2, "spatial_dims": dims}, ("back", "a"), PLAIN, tile
    )


def toy(looks: str = "right", dims: int = 2, tile=(1, 32, 32)) -> Predictor:
    return Predictor(Bright(dims, looks), card(dims, tile), CPU)


def squares(shape=(3, 32, 32), side: int = 8) -> Volume:
    """Dark slices with a bright square in the first two; with side 8 it has 64 of 32 x 32 voxels."""
    array = np.zeros((1, *shape), np.float32)
    array[0, 0, 4 : 4 + side, 12 : 12 + side] = 1
    array[0, 1, 20 : 20 + side, 4 : 4 + side] = 1
    return Volume(array, Grid.from_spacing(shape, (1, 1, 1)), name="squares")


def erase(predictor: Predictor, frames=(0,), key="gate", label=1, volume=None, **options):
    scene = Scene(volume or squares(), predictor)
    return run_to_end(erasing_steps(scene, frames, key, label, **{"replacement": "mean", **options}))


class TestErasing:
    def test_erasing_what_the_mask_rests_on_kills_it_at_once(self):
        found = erase(toy(), shares=(64 / 1024, 0.5))  # the square is exactly that share
        np.testing.assert_array_equal(found.most.dice, [1, 0, 0])

    def test_erasing_the_rest_does_nothing(self):
        found = erase(toy(), shares=(0.25, 0.5, 1 - 64 / 1024))
        np.testing.assert_array_equal(found.least.dice, [1, 1, 1, 1])

    def test_half_of_the_square_leaves_the_dice_of_half_of_it(self):
        found = erase(toy(), shares=(32 / 1024,))
        assert found.most.dice[1] == pytest.approx(2 * 32 / (32 + 64))

    def test_half_of_the_square_leaves_half_of_the_probability_in_it(self):
        found = erase(toy(), shares=(32 / 1024,))
        bright = float(torch.tensor([0.1, 8.0]).softmax(0)[1])
        np.testing.assert_allclose(found.most.probability, [bright, bright / 2], atol=1e-3)

    def test_random_orders_take_their_share_of_the_square(self):
        found = erase(toy(), shares=(0.5,), draws=20)
        assert found.chance.dice[1] == pytest.approx(2 * 0.5 / 1.5, abs=0.05)
        assert len(found.random) == 20

    def test_areas_have_the_right_sign_and_size(self):
        found = erase(toy(), shares=even_steps(0.5, 8), draws=20)
        share = np.linspace(0, 0.5, 50)
        chance = float(np.mean(2 * (1 - share) / (2 - share)))
        assert found.most_below_random() == pytest.approx(chance - 1 / 16, abs=0.03)  # 1 to 0 within the first step
        assert found.least_above_random() == pytest.approx(1 - chance, abs=0.03)
        assert found.most_below_random() > 10 * found.chance_spread()

    def test_a_map_that_looks_elsewhere_turns_the_areas_around(self):
        found = erase(toy("wrong"))
        assert found.most_below_random() < 0
        assert found.least_above_random() < 0
        assert "loses" in found.words()
        assert "less than in random order" in found.words()

    def test_a_map_that_looks_nowhere_is_no_better_than_chance(self):
        found = erase(toy("nowhere"), draws=20)
        assert abs(found.most_below_random()) <= 3 * found.chance_spread()

    def test_erasing_everything_is_the_same_in_every_order(self):
        found = erase(toy(), shares=(1.0,))
        assert found.most.dice[1] == found.least.dice[1] == found.chance.dice[1]

    def test_the_same_seed_gives_the_same_curves_and_another_one_others(self):
        one, again, other = (erase(toy(), draws=2, seed=seed) for seed in (3, 3, 4))
        np.testing.assert_array_equal(one.random[0].dice, again.random[0].dice)
        assert not np.array_equal(one.random[0].dice, one.random[1].dice)
        assert not np.array_equal(one.random[0].dice, other.random[0].dice)

    def test_weights_of_either_sign_count_by_their_size(self):
        found = erase(toy(), key="heads", head=0, shares=(64 / 1024,))
        assert found.most.dice[1] == 0

    def test_a_head_that_looks_nowhere_differs_from_the_mean_of_all(self):
        mean, head = (erase(toy(), key="heads", head=head, shares=(64 / 1024,)) for head in (None, 1))
        assert mean.most.dice[1] == 0
        assert head.most.dice[1] > 0.5

    def test_frames_without_the_class_are_left_out(self):
        assert erase(toy(), frames=(0, 1, 2), shares=(0.1,), draws=1).frames == (0, 1)

    def test_frames_are_pooled_by_their_voxels(self):
        volume = squares()
        volume.array[0, 1, :] = 0
        volume.array[0, 1, 0, :32] = 1  # half as large as the square
        found = erase(toy(), frames=(0, 1), volume=volume, shares=(32 / 1024,))
        assert found.most.dice[1] == pytest.approx(2 * 32 / (32 + 64 + 32))

    def test_a_slice_of_several_tiles_is_erased_as_one(self):
        whole, cut = (erase(toy(tile=tile), shares=(32 / 1024, 64 / 1024)) for tile in ((1, 32, 32), (1, 16, 16)))
        np.testing.assert_array_equal(cut.most.dice, whole.most.dice)
        np.testing.assert_array_equal(cut.least.dice, whole.least.dice)

    def test_a_tile_of_a_volume_is_erased_without_its_padding(self):
        volume = squares((6, 30, 30))
        volume.array[0, 1] = 0
        found = erase(toy(dims=3, tile=(8, 32, 32)), volume=volume, shares=(64 / volume.array.size,))
        np.testing.assert_array_equal(found.most.dice, [1, 0])

    def test_the_reference_is_measured_against_as_well(self):
        reference = np.zeros((3, 32, 32), int)
        reference[0, 4:12, 12:16] = 1  # the left half of the square
        found = erase(toy(), shares=(64 / 1024,), reference=reference)
        np.testing.assert_allclose(found.most.reference, [2 * 32 / 96, 0])
        np.testing.assert_allclose(found.least.reference, [2 * 32 / 96, 2 * 32 / 96])

    def test_a_reference_without_the_class_gives_no_areas_and_says_so(self):
        found = erase(toy(), shares=(64 / 1024,), reference=np.zeros((3, 32, 32), int))
        assert np.isnan(found.most.reference[1])
        assert "in neither the mask nor the reference" in found.words("reference")

    def test_without_a_reference_there_is_none(self):
        found = erase(toy(), shares=(0.1,))
        assert found.most.reference is None
        assert found.chance.reference is None

    def test_the_mean_replaces_each_channel_by_its_own(self):
        image = np.stack([np.arange(8.0), 10 * np.arange(8.0)]).reshape(2, 1, 2, 4).astype(np.float32)
        assert np.unique(replaced(image, "mean")[0]) == 3.5
        assert np.unique(replaced(image, "mean")[1]) == 35

    def test_blur_keeps_slices_and_channels_apart(self):
        image = np.zeros((2, 1, 16, 16), np.float32)
        image[0, 0, 8, 8] = 1
        blurred = replaced(image, "blur")
        assert 0 < blurred[0].max() < 0.1
        assert blurred[0].sum() == pytest.approx(1, abs=1e-3)
        assert not blurred[1].any()

    def test_the_image_is_left_as_it_was(self):
        volume = squares()
        scene = Scene(volume, toy())
        before = scene.prepared.array.copy()
        run_to_end(erasing_steps(scene, [0], "gate", 1))
        np.testing.assert_array_equal(scene.prepared.array, before)

    def test_progress_ends_at_its_total_and_small_tiles_go_together(self):
        predictor = toy()
        events = list(erasing_steps(Scene(squares(), predictor), [0], "gate", 1, draws=3))
        assert all(isinstance(event, Progress) for event in events)
        assert events[-1].done == events[-1].total == 1 + 10 * 5
        assert predictor.model.passes == 2  # the map, then 50 small slices in one batch

    def test_leaving_between_two_forward_passes_runs_no_more(self):
        predictor = toy(tile=(1, 256, 256))
        volume = squares((2, 256, 256))
        steps = erasing_steps(Scene(volume, predictor), [0], "gate", 1)
        for _ in range(4):
            next(steps)
        steps.close()
        assert predictor.model.passes == 3
        assert not predictor.model.gate.tap.listened


class TestErasingRefuses:
    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"key": "channel"}, "no place on the image"),
            ({"key": "door"}, "no attention site"),
            ({"key": "heads", "head": 2}, "no head 2"),
            ({"label": 0}, "no class 0"),
            ({"label": 2}, "no class 2"),
            ({"frames": ()}, "No frame is chosen"),
            ({"frames": (3,)}, "no frame 3"),
            ({"frames": (2,)}, "'a' is not in the mask of this slice"),
            ({"replacement": "noise"}, "no replacement 'noise'"),
            ({"shares": (0.5, 0.2)}, "do not rise"),
            ({"shares": (0.0, 0.2)}, "do not rise"),
            ({"shares": (1.5,)}, "do not rise"),
            ({"shares": ()}, "do not rise"),
            ({"draws": 0}, "0 random orders"),
        ],
    )
    def test_what_makes_no_sense(self, options, said):
        with pytest.raises(InputError, match=said):
            erase(toy(), **options)

    def test_a_reference_of_another_shape(self):
        with pytest.raises(GeometryError, match="has shape"):
            erase(toy(), reference=np.zeros((2, 32, 32), int))


def knock(predictor: Predictor, frames, targets, volume=None, **options):
    return run_to_end(knock_out_steps(Scene(volume or squares(), predictor), frames, targets, **options))


class TestKnockOut:
    def test_the_head_that_does_everything_takes_the_mask_with_it(self):
        (row,) = knock(toy(), [0], [Target("heads", 0)]).rows
        assert row.dice[1] == 0
        assert row.voxels == row.changed[1] == 64
        assert row.moved == pytest.approx(expected_shift(), rel=1e-3)

    def test_the_head_that_does_nothing_changes_nothing(self):
        (row,) = knock(toy(), [0], [Target("heads", 1)]).rows
        assert (row.dice[1], row.voxels, row.moved) == (1, 0, 0)

    def test_the_site_counts_as_a_whole(self):
        (row,) = knock(toy(), [0, 1], [Target("heads")]).rows
        assert row.voxels == 128

    def test_a_class_in_neither_mask_has_no_dice(self):
        (row,) = knock(toy(), [2], [Target("heads")]).rows
        assert np.isnan(row.dice[1])
        assert row.dice[0] == 1

    def test_the_reference_is_measured_against_as_well(self):
        reference = (squares().array[0] > 0.5).astype(int)
        reference[0, 0, 0] = 1
        found = knock(toy(), [0], [Target("heads", 0), Target("heads", 1)], reference=reference)
        assert found.reference[1] == pytest.approx(2 * 64 / (64 + 65))
        assert [row.reference[1] for row in found.rows] == [0, found.reference[1]]

    def test_targets_are_every_site_and_each_of_several_heads(self):
        found = targets_of(Bright().sites())
        assert found == [Target("gate"), Target("heads"), Target("heads", 0), Target("heads", 1), Target("channel")]
        assert len(targets_of(Bright().sites(), heads=False)) == 3

    def test_leaving_between_two_forward_passes_leaves_the_network_whole(self):
        predictor = toy()
        scene = Scene(squares(), predictor)
        steps = knock_out_steps(scene, [0], [Target("heads", 0), Target("heads", 1)])
        for _ in range(3):
            next(steps)
        assert scene.glance(0).probabilities[0, 1].max() > 0.5  # also while it waits
        steps.close()
        assert predictor.model.passes == 3
        assert not predictor.model.heads.tap._switches

    def test_the_network_is_whole_again_after_a_failure(self, monkeypatch):
        predictor = toy()
        monkeypatch.setattr(predictor.model, "forward", lambda x: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            mask_without(Scene(squares(), predictor), 0, Target("heads"))
        assert not predictor.model.heads.tap._switches

    @pytest.mark.parametrize(
        ("frames", "targets", "said"),
        [
            ([0], [], "Nothing is chosen"),
            ([], [Target("heads")], "No frame"),
            ([9], [Target("heads")], "no frame 9"),
            ([0], [Target("door")], "no attention site"),
            ([0], [Target("heads", 2)], "no head 2"),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, frames, targets, said):
        with pytest.raises(InputError, match=said):
            knock(toy(), frames, targets)

    @pytest.mark.parametrize("name", ["phantom", "phantom-2d"])
    def test_the_mask_without_a_site_is_what_segmenting_without_it_gives(self, name, scan):
        """On an oblique scan with its own spacing, whatever the network's orientation."""
        volume, predictor = read_volume(scan), Predictor.load(load_checkpoint(name), "cpu")
        scene, target = Scene(volume, predictor), Target(next(iter(predictor.sites)))
        plain = segment(volume, predictor).labels
        with switched_off(predictor.model, target.key):
            expected = segment(volume, predictor).labels
        assert (plain != expected).any()
        found = np.full(volume.grid.shape, 255, np.uint8)
        for frame in range(scene.frames):
            labels, box = mask_without(scene, frame, target)
            assert (found[box] == 255).all() or not scene.flat
            found[box] = labels
        assert (found != 255).all()
        assert np.mean(found == expected) > (0.999 if scene.flat or scene.frames == 1 else 0.99)


def expected_shift() -> float:
    """Of the toy's first head: how far the probability of class 1 moves where it is bright and where it is dark."""
    off = torch.tensor([0.1, 0.0]).softmax(0)[1]
    bright, dark = (torch.tensor([0.1, value]).softmax(0)[1] for value in (8.0, -8.0))
    return float((64 * (bright - off).abs() + 960 * (off - dark).abs()) / 1024)


class TestFrameInput:
    @pytest.mark.parametrize("tile", [(1, 32, 32), (1, 16, 16)])
    def test_running_a_frame_unchanged_gives_what_a_glance_gives(self, tile):
        scene = Scene(squares((2, 30, 27)), toy(tile=tile))
        given = FrameInput.of(scene, 1)
        (found,) = (one for done in frame_passes(scene.predictor, [(given, given.image)]) for one in done)
        np.testing.assert_allclose(found, given.blend(scene.glance(1).probabilities), atol=1e-6)
        assert found.shape == (2, 1, 30, 27)

    def test_a_map_at_a_stride_lies_on_its_voxels(self):
        scene = Scene(squares((2, 32, 32)), toy())
        values = np.zeros((1, 1, 8, 8), np.float32)
        values[0, 0, 2, 5] = 1
        on_voxels = FrameInput.of(scene, 0).on_voxels(values)[0, 0]
        rows, columns = np.nonzero(np.isclose(on_voxels, on_voxels.max()))
        assert (rows.mean(), columns.mean()) == (2 * 4 + 1.5, 5 * 4 + 1.5)

    def test_labels_of_a_turned_and_resampled_scan_land_on_the_network_grid(self, scan):
        volume = read_volume(scan)
        how = Preparation(spacing=(2.0, 3.0, 3.0))
        predictor = Predictor(Bright(3), replace(card(3, (64, 64, 64)), preparation=how), CPU)
        given = FrameInput.of(Scene(volume, predictor), 0)
        bright = (volume.array[0] > np.median(volume.array)).astype(int)
        prepared = given.labels(bright)
        assert prepared.shape == given.image.shape[1:]
        assert given.image[0][prepared == 1].mean() > given.image[0][prepared == 0].mean() + 0.5


@pytest.fixture
def checkpoint(tmp_path):
    """An untrained 2-D network with gates."""
    torch.manual_seed(0)
    arguments = {"in_channels": 1, "num_classes": 2, "spatial_dims": 2, "feature_scale": 16}
    made = Card("gates", "attention_unet", arguments, ("back", "a"), PLAIN, (1, 32, 32))
    model = create_model("attention_unet", **arguments)
    for norm in (part for part in model.modules() if isinstance(part, nn.BatchNorm2d)):
        norm.running_mean.normal_(0, 0.3)
    return save_checkpoint(made, model, tmp_path)


def noisy() -> Volume:
    array = np.random.default_rng(1).normal(size=(1, 2, 32, 32)).astype(np.float32)
    return Volume(array, Grid.from_spacing((2, 32, 32), (1, 1, 1)), name="noise")


class TestRandomising:
    def test_maps_move_and_the_numbers_say_so(self, checkpoint):
        scene = Scene(noisy(), Predictor.load(checkpoint, "cpu"))
        found = run_to_end(randomising_steps(scene, [0, 1], checkpoint, ["skip2.gate1"], draws=2))
        assert [(one.scope, one.module) for one in found] == [("block", "skip2"), ("network", "")]
        for one in found:
            assert one.correlations.shape == (2, 1)
            assert (np.abs(one.correlations) < 0.95).all()
            assert one.correlation[0] == pytest.approx(one.correlations.mean())
            assert one.difference[0] > 0
            assert one.difference[0] == pytest.approx(one.divergence[0], rel=1e-4)  # both are that for a gate

    def test_the_weights_it_had_leave_the_map_where_it_was(self, checkpoint, monkeypatch):
        monkeypatch.setattr("napari_medattn.look.randomising.randomise", lambda *_: None)
        scene = Scene(noisy(), Predictor.load(checkpoint, "cpu"))
        for one in run_to_end(randomising_steps(scene, [0], checkpoint, ["skip2.gate1"])):
            assert one.correlation[0] == pytest.approx(1)
            assert one.difference[0] == pytest.approx(0, abs=1e-6)

    def test_only_the_block_is_replaced(self, checkpoint):
        model, before = checkpoint.build(), checkpoint.build().state_dict()
        randomise(model, checkpoint.card, "skip3", seed=1)
        changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
        assert changed
        assert all(name.startswith("skip3.") for name in changed)

    def test_the_same_seed_gives_the_same_weights_and_the_global_one_is_left_alone(self, checkpoint):
        one, again, other = (checkpoint.build() for _ in range(3))
        torch.manual_seed(7)
        expected = torch.rand(3)
        torch.manual_seed(7)
        for model, seed in ((one, 1), (again, 1), (other, 2)):
            randomise(model, checkpoint.card, "", seed)
        torch.testing.assert_close(torch.rand(3), expected)
        torch.testing.assert_close(one.state_dict(), again.state_dict())
        assert not torch.equal(one.skip2.gate1.psi.weight, other.skip2.gate1.psi.weight)

    def test_the_weights_are_not_those_that_training_with_the_same_seed_began_with(self, checkpoint):
        torch.manual_seed(3)
        began, model = create_model("attention_unet", **checkpoint.card.arguments), checkpoint.build()
        randomise(model, checkpoint.card, "", seed=3)
        assert not torch.equal(model.skip2.gate1.psi.weight, began.skip2.gate1.psi.weight)

    def test_the_network_in_use_stays_as_it_is(self, checkpoint):
        scene = Scene(noisy(), Predictor.load(checkpoint, "cpu"))
        before = scene.glance(0).probabilities
        run_to_end(randomising_steps(scene, [0], checkpoint, ["skip2.gate1"]))
        np.testing.assert_array_equal(scene.glance(0).probabilities, before)

    def test_later_draws_do_not_build_on_earlier_ones(self, checkpoint):
        scene = Scene(noisy(), Predictor.load(checkpoint, "cpu"))

        def run(**options):
            (found,) = run_to_end(
                randomising_steps(scene, [0], checkpoint, ["skip2.gate1"], scopes=["block"], **options)
            )
            return found.difference[0]

        both = run(draws=2, seed=3)
        assert both == pytest.approx((run(draws=1, seed=3) + run(draws=1, seed=4)) / 2, rel=1e-6)

    @pytest.mark.parametrize("name", ["self_guided", "dae_former", "emf_former"])
    def test_every_kind_of_attention_can_be_randomised(self, name, tmp_path):
        arguments = {"in_channels": 1, "num_classes": 2, "spatial_dims": 2, "variant": "small"}
        made = Card("any", name, arguments, ("back", "a"), PLAIN, (1, 32, 32))
        checkpoint = save_checkpoint(made, create_model(name, **arguments), tmp_path)
        predictor = Predictor.load(checkpoint, "cpu")
        by_kind = {site.kind: site for site in predictor.sites.values()}
        keys = [site.key for site in by_kind.values()]
        steps = randomising_steps(Scene(noisy(), predictor), [0], checkpoint, keys, draws=1, scopes=["block"])
        for one in run_to_end(steps):
            assert one.module == block_of(one.site)
            assert one.correlations.shape == (1, one.site.heads)
            assert one.correlation.shape == one.difference.shape == one.divergence.shape == (one.site.heads,)
            assert (one.difference > 0).all()

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ({"sites": []}, "No attention site is chosen"),
            ({"sites": ["door"]}, "no attention site door"),
            ({"frames": []}, "No frame"),
            ({"frames": [2]}, "no frame 2"),
            ({"scopes": ["half"]}, "no scope 'half'"),
            ({"scopes": []}, "no scope"),
            ({"draws": 0}, "0 draws"),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, checkpoint, options, said):
        scene = Scene(noisy(), Predictor.load(checkpoint, "cpu"))
        asked = {"frames": [0], "checkpoint": checkpoint, "sites": ["skip2.gate1"], **options}
        with pytest.raises(InputError, match=said):
            run_to_end(randomising_steps(scene, **asked))

    def test_another_checkpoint_is_refused(self, checkpoint):
        scene = Scene(noisy(), toy())
        with pytest.raises(InputError, match="gates has other weights"):
            run_to_end(randomising_steps(scene, [0], checkpoint, ["gate"]))


class TestHippocampus:
    @pytest.mark.parametrize(
        ("name", "key"), [("hippocampus", "skip2.gate1"), ("hippocampus-dae-former", "decode1.block2.efficient")]
    )
    def test_the_last_attention_looks_at_what_the_mask_rests_on(self, name, key):
        images = sorted((shared_folder("data") / "msd_hippocampus" / "images").glob("*.nii.gz"))
        if not images:
            pytest.skip("the hippocampus scans are not here")
        predictor = Predictor.load(load_checkpoint(name), "cpu")
        scene = Scene(read_volume(images[3]), predictor)
        frame = scene.locate([size // 2 for size in scene.volume.grid.shape]).frame
        steps = erasing_steps(scene, [frame], key, 1, shares=even_steps(0.5, 4), draws=3)
        found = run_to_end(steps)
        assert found.most_below_random() > max(0.1, 2 * found.chance_spread())
