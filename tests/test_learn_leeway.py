"""Whole slices give learning leeway, wrong voxels alone do not; with leeway it comes a part of the way back."""

from __future__ import annotations

import copy
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from napari_medattn import segment
from napari_medattn.data import Example, Preparation, Volume, prepare
from napari_medattn.geometry import Grid
from napari_medattn.learning.attempt import attempt_steps
from napari_medattn.learning.learn import learn
from napari_medattn.learning.leeway import (
    GENTLE,
    RATE,
    WAY_BACK,
    anchor_for,
    go_back,
    leeway,
    rate_for,
    rehearsal_for,
    slow_start_for,
    variation_for,
)
from napari_medattn.learning.own import own_augmentation
from napari_medattn.learning.plan import LearnPlan, tuning_config
from napari_medattn.learning.rehearsal import RehearsalSampler
from napari_medattn.learning.scoring import Reference, Tally
from napari_medattn.models import Recipe, create_model
from napari_medattn.store import Card, Checkpoint, save_checkpoint
from napari_medattn.training.examples import TrainingCase
from napari_medattn.training.loop import TrainingConfig, train_steps
from napari_medattn.training.optimiser import Schedule
from napari_medattn.training.patches import Augmentation, PatchSampler
from tests.training_tools import CPU, make_cases

SHARE = st.floats(0, 1)
STILL = Augmentation(rotate=0, scale=0, intensity=0, chance=0)
STRONG = Augmentation(rotate=30, scale=0.3, intensity=0, chance=1, flip_axes=(-1,), swap=((1, 2),))


def card(**training) -> Card:
    facts = {"config": {"recipe": {"learning_rate": 2e-3, "dice_weight": 1.0}, "augmentation": asdict(STRONG)}}
    classes = ("background", "one", "two")
    arguments = {"in_channels": 1, "num_classes": 3, "spatial_dims": 2, "feature_scale": 32}
    return Card("net", "attention_unet", arguments, classes, Preparation(), (1, 32, 32), training={**facts, **training})


class TestHowMuch:
    @given(SHARE, SHARE)
    def test_it_is_a_share_and_more_where_something_is_rehearsed(self, agreement, dice):
        assert 0 <= leeway(agreement, dice, rehearsing=False) <= leeway(agreement, dice, rehearsing=True) <= 1

    def test_wrong_voxels_alone_give_none(self):
        assert leeway(agreement=0.0, dice=0.0, rehearsing=True) == 0

    def test_whole_slices_do(self):
        assert leeway(agreement=0.95, dice=0.1, rehearsing=False) > 0.9
        assert leeway(agreement=0.99, dice=0.92, rehearsing=False) == 0
        assert leeway(agreement=0.99, dice=0.99, rehearsing=True) < 0.15
        assert leeway(agreement=1.0, dice=1.0, rehearsing=True) == 0

    @given(SHARE, st.floats(1e-5, 1.0))
    def test_the_rate_lies_between_gentle_and_the_first_trainings(self, share, own):
        assert RATE <= rate_for(share, Recipe(learning_rate=own)) <= max(own, RATE) * (1 + 1e-9)

    def test_another_optimisers_rate_is_not_taken_for_adams(self):
        assert rate_for(1.0, Recipe(optimiser="sgd", learning_rate=0.05)) < 1e-3
        assert rate_for(1.0, Recipe(optimiser="sgd", learning_rate=1e-5)) > RATE

    def test_a_trace_of_a_class_that_is_not_there_gives_none(self):
        image = np.zeros((1, 3, 32, 32), np.float32)
        prepared = prepare(Volume(image + np.arange(32), Grid.from_spacing((3, 32, 32), (1, 1, 1))), Preparation())
        labels, mask = np.zeros((3, 32, 32), np.uint8), np.zeros((3, 32, 32), np.uint8)
        labels[:, :10, :10] = mask[:, :10, :10] = 1
        mask[0, 20, 20:25] = 2
        reference = Reference.of(Example(prepared.source, labels), prepared, by_slice=True)
        tally = Tally(card().class_names)
        tally.add(reference, [mask])
        scores = tally.scores()
        assert scores.dice["two"] == 0
        assert leeway(scores.agreement, scores.mean_dice(20), rehearsing=True) == 0

    def test_without_leeway_a_network_is_led_gently(self):
        config = tuning_config(LearnPlan(), card(), CPU, 10.0, agreement=0.99, leeway=0.0)
        assert (config.recipe.learning_rate, config.recipe.dice_weight) == (RATE, 0.0)
        assert (config.batch, config.augmentation, config.recipe.warm_up_steps) == (2, GENTLE, 0)

    def test_with_leeway_it_is_trained_more_as_it_was_first(self):
        config = tuning_config(LearnPlan(), card(), CPU, 10.0, agreement=0.95, leeway=1.0)
        assert config.recipe.learning_rate > 2 * RATE
        assert config.recipe.dice_weight == 1.0
        assert config.batch == 4
        assert config.augmentation.rotate == pytest.approx(Augmentation().rotate)
        assert variation_for(0.5).intensity == pytest.approx((GENTLE.intensity + Augmentation().intensity) / 2)

    def test_where_something_is_rehearsed_it_starts_the_slower_the_more_may_change(self):
        recipe = tuning_config(LearnPlan(), card(), CPU, 10.0, agreement=0.95, leeway=1.0, rehearsing=True).recipe
        slow, slower, slowest = (slow_start_for(leeway, rehearsing=True) for leeway in (0.0, 0.5, 1.0))
        assert 0 == slow < slower < slowest == recipe.warm_up_steps
        assert slow_start_for(1.0, rehearsing=False) == 0
        few = Schedule(recipe).rate(0.1, 0, step=5)
        assert few < RATE, "who learns for seconds goes no further than without leeway"

    def test_a_volume_takes_no_more_memory_for_it(self):
        solid = replace(card(), arguments={**card().arguments, "spatial_dims": 3}, tile=(16, 32, 32))
        assert tuning_config(LearnPlan(), solid, CPU, 10.0, agreement=0.95, leeway=1.0).batch == 2

    def test_the_more_may_change_the_more_is_rehearsed_and_the_less_is_held(self):
        assert rehearsal_for(0.0) < rehearsal_for(0.5) < rehearsal_for(1.0) <= 0.5
        assert anchor_for(0.0) > anchor_for(0.5) > anchor_for(1.0) == 0

    def test_a_rate_that_was_asked_for_is_taken(self):
        plan = LearnPlan(learning_rate=0.5)
        assert tuning_config(plan, card(), CPU, 10.0, agreement=1.0, leeway=1.0).recipe.learning_rate == 0.5


class TestWayBack:
    def pair(self) -> tuple[torch.nn.Module, torch.nn.Module]:
        torch.manual_seed(0)
        parent = create_model("attention_unet", **card().arguments)
        model = copy.deepcopy(parent)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(1.0)
        return model, parent

    @pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
    def test_every_weight_goes_the_same_part_of_the_way(self, share):
        model, parent = self.pair()
        go_back(model, parent, share)
        for new, old in zip(model.parameters(), parent.parameters(), strict=True):
            torch.testing.assert_close(new - old, torch.full_like(new, 1 - WAY_BACK * share))

    def test_the_parent_and_what_was_measured_stay(self):
        model, parent = self.pair()
        before = copy.deepcopy(parent.state_dict())
        for buffer in model.buffers():
            buffer.add_(3)
        buffers = [buffer.clone() for buffer in model.buffers()]
        go_back(model, parent, 1.0)
        torch.testing.assert_close(parent.state_dict(), before, rtol=0, atol=0)
        assert all(torch.equal(a, b) for a, b in zip(model.buffers(), buffers, strict=True))


class TestLearning:
    """From five whole slices of a mask that random weights got wrong."""

    @pytest.fixture
    def checkpoint(self, tmp_path, monkeypatch) -> Checkpoint:
        monkeypatch.setenv("MEDATTN_HOME", str(tmp_path))
        torch.manual_seed(0)
        return save_checkpoint(card(), create_model("attention_unet", **card().arguments))

    def example(self, brighter: float = 0.0) -> Example:
        labels = np.zeros((5, 32, 32), np.uint8)
        labels[:, 4:20, 4:14], labels[:, 8:24, 18:28] = 1, 2
        values = np.random.default_rng(0).normal(0, 0.2, labels.shape) + labels + brighter
        volume = Volume(values[None].astype(np.float32), Grid.from_spacing(labels.shape, (1, 1, 1)))
        return Example(volume, labels)

    @pytest.mark.parametrize("method", ["whole", "decoder"])
    def test_a_network_that_was_far_off_says_so_and_its_card_tells_how_it_learned(self, checkpoint, method):
        learned = learn(checkpoint, [self.example()], plan=LearnPlan(method=method, seconds=1.0), device="cpu")
        training = learned.checkpoint.card.training
        assert training["leeway"] > 0.2
        rate = rate_for(training["leeway"], Recipe(learning_rate=2e-3))
        assert training["config"]["recipe"]["learning_rate"] == pytest.approx(rate, rel=1e-2)
        assert any("was far off here" in note for note in learned.notes) == (training["leeway"] > 0.5)

    def test_folds_start_as_much_faster_as_they_are_shorter(self, checkpoint, monkeypatch):
        seen = []

        def noting(model, lesson, *rest):
            seen.append(lesson.config)
            return attempt_steps(model, lesson, *rest)

        monkeypatch.setattr("napari_medattn.learning.task.attempt_steps", noting)
        earlier = [self.example(brighter=0.5)]
        learn(checkpoint, [self.example()], earlier=earlier, plan=LearnPlan(seconds=1.0), device="cpu")
        kept, *folds = seen
        assert len(folds) == 2
        for fold in folds:
            share = fold.seconds / kept.seconds
            assert fold.recipe.warm_up_steps == pytest.approx(kept.recipe.warm_up_steps * share, abs=1)
            assert fold.recipe.warm_up_steps < kept.recipe.warm_up_steps / 2

    @pytest.mark.parametrize(
        "told", [{"config": TrainingConfig(epochs=2, batch_size=2)}, {"learning_rate": 1e-3, "seconds": 0.5}]
    )
    def test_who_says_how_to_train_gets_just_that(self, checkpoint, told):
        learned = learn(checkpoint, [self.example()], plan=LearnPlan(folds=0, **told), device="cpu")
        assert learned.checkpoint.card.training["leeway"] == 0.0

    def test_strokes_over_what_was_wrong_are_no_sign_that_it_was_far_off(self, checkpoint):
        given = self.example()
        mask = segment(given.volume, checkpoint).labels
        wrong = replace(given, weights=mask != given.labels)
        learned = learn(checkpoint, [wrong], plan=LearnPlan(seconds=0.5, folds=0), device="cpu")
        assert learned.checkpoint.card.training["leeway"] == 0
        assert not any("far off" in note for note in learned.notes)

    def test_what_was_asked_for_is_done_whatever_the_leeway_and_the_card_tells_it(self, checkpoint):
        plan = LearnPlan(seconds=0.5, folds=0, anchor=3.0, rehearsal=0.2)
        training = learn(checkpoint, [self.example()], plan=plan, device="cpu").checkpoint.card.training
        assert training["leeway"] > 0.2
        assert (training["anchor"], training["rehearsal"]) == (3.0, 0.2)


class TestRehearsedLikeAtFirst:
    def test_the_card_tells_how_patches_were_varied(self):
        assert own_augmentation(card()) == STRONG

    def test_a_version_tells_of_the_first_training_not_of_its_own(self):
        own = {"augmentation": asdict(STILL)}
        assert own_augmentation(card(config=own, parent_training=card().training)) == STRONG

    @pytest.mark.parametrize("told", [{}, {"config": {}}, {"config": {"augmentation": None}}])
    def test_a_card_that_does_not_tell_means_as_usual(self, told):
        assert own_augmentation(replace(card(), training=told)) == Augmentation()

    def test_earlier_patches_are_varied_so_and_new_ones_as_planned(self):
        plain = TrainingCase("new", np.ones((1, 1, 32, 32), np.float32), *_all_of(1))
        old = TrainingCase("old", np.ones((1, 1, 32, 32), np.float32), *_all_of(2))
        turned = Augmentation(rotate=45, scale=0, intensity=0, chance=1)
        sampler = RehearsalSampler([plain], [old], 0.5, (1, 32, 32), 2, STILL, turned, 0)
        batch = sampler.batch(8)
        untouched = (batch.weights > 0).flatten(1).all(1)
        assert batch.labels.amax((1, 2))[untouched].tolist() == [1] * 4
        assert batch.labels.amax((1, 2))[~untouched].tolist() == [2] * 4

    def test_earlier_patches_are_mirrored_with_their_labels_as_at_first(self):
        swapping = replace(STILL, swap=((1, 2),))
        new, old = (TrainingCase(name, np.ones((1, 1, 32, 32), np.float32), *_all_of(1)) for name in ("new", "old"))
        sampler = RehearsalSampler([new], [old], 0.5, (1, 32, 32), 2, STILL, swapping, 0)
        found = sampler.batch(40).labels[:, 0, 0]
        drawn = [sampler.cases[sampler._case_of(n)].name for n in range(40)]
        assert {int(label) for label, name in zip(found, drawn, strict=True) if name == "new"} == {1}
        assert {int(label) for label, name in zip(found, drawn, strict=True) if name == "old"} == {1, 2}


class TestOpinion:
    """Only where somebody vouches for less than all of a patch is the parent asked for its opinion."""

    def calls(self, weights: np.ndarray) -> int:
        torch.manual_seed(0)
        image, label = make_cases(1)[0].image, make_cases(1)[0].labels
        case = TrainingCase("case", image, label, weights)
        turned = Augmentation(rotate=45, scale=0, intensity=0, chance=1)
        sampler = PatchSampler([case], (1, 16, 16), 2, turned, 0)
        model = create_model("attention_unet", in_channels=1, num_classes=2, spatial_dims=2, feature_scale=32)
        seen: list[int] = []
        model.register_forward_hook(_Counting(seen))
        config = TrainingConfig(epochs=2, batch_size=2, hold=1.0, freeze_statistics=True)
        for _ in train_steps(model, sampler, config, CPU):
            pass
        return seen.count(0)

    def test_whole_slices_need_none(self):
        assert self.calls(np.ones((1, 24, 24), np.float32)) == 0

    def test_scribbles_do(self):
        weights = np.zeros((1, 24, 24), np.float32)
        weights[0, 10:14, 10:14] = 1
        assert self.calls(weights) == 2


class _Counting:
    """Notes whether each call came from the network that learns (1) or from its copy that gives opinions (0)."""

    def __init__(self, seen: list[int]) -> None:
        self.seen = seen

    def __deepcopy__(self, memo: dict) -> _Counting:
        return _Counting(self.seen)

    def __call__(self, module: torch.nn.Module, inputs: object, outputs: object) -> None:
        self.seen.append(int(module.training))


def _all_of(label: int) -> tuple[np.ndarray, np.ndarray]:
    return np.full((1, 32, 32), label, np.uint8), np.ones((1, 32, 32), np.float32)
