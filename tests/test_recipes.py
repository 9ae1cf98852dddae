"""A network's recipe is data, and the training loop obeys it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from napari_medattn.errors import ModelError, TrainingError
from napari_medattn.events import TrainingStep
from napari_medattn.models import (
    Recipe,
    TrainingOutputs,
    create_model,
    get_spec,
    prepare_for_inference,
    training_outputs,
)
from napari_medattn.training.examples import TrainingCase
from napari_medattn.training.loop import TrainingConfig, train_steps
from napari_medattn.training.losses import network_loss, recipe_loss
from napari_medattn.training.optimiser import Schedule, make_optimiser
from napari_medattn.training.patches import Augmentation, PatchSampler

CPU = torch.device("cpu")
STILL = Augmentation(rotate=0, scale=0, intensity=0, chance=0)


def cases(side: int) -> list[TrainingCase]:
    image = np.random.default_rng(0).normal(size=(1, 1, side, side)).astype(np.float32)
    labels = (image[0] > 0).astype(np.uint8)
    return [TrainingCase("made", image, labels, np.ones(labels.shape, np.float32))]


def train(model: nn.Module, recipe: Recipe, epochs: int, side: int, after_step=lambda step: None) -> list[float]:
    sampler = PatchSampler(cases(side), (1, side, side), 2, STILL, seed=0)
    config = TrainingConfig(epochs=epochs, batch_size=1, recipe=recipe, augmentation=STILL)
    losses = []
    for event in train_steps(model, sampler, config, CPU):
        assert isinstance(event, TrainingStep)
        losses.append(event.loss)
        after_step(event.step)
    return losses


class TestPositionGates:
    """MedT's gates wait until the rest has learnt something, as its authors train it."""

    def test_the_paper_keeps_them_still_for_eleven_epochs(self):
        assert get_spec("medt").recipe.gates_frozen == 11

    @pytest.mark.parametrize("recipe", ["paper", "small"])
    def test_they_start_to_learn_when_the_recipe_says_so(self, recipe):
        torch.manual_seed(0)
        model = create_model("gated_axial_unet", num_classes=2, variant="small", image_size=32)
        gates = {key: p for key, p in model.named_parameters() if not p.requires_grad}
        assert gates
        before = {key: p.detach().clone() for key, p in gates.items()}
        moved = []

        def look(step: int) -> None:
            moved.append(any(not torch.equal(p, before[key]) for key, p in gates.items()))

        wanted = replace(get_spec("gated_axial_unet").variant(recipe).recipe, gates_frozen=3, warm_up=0.0)
        train(model, wanted, 5, 32, look)
        assert moved == [False, False, False, True, True]

    def test_a_short_run_does_not_end_before_they_start(self):
        model = create_model("gated_axial_unet", num_classes=2, variant="small", image_size=32)
        train(model, replace(get_spec("gated_axial_unet").variant("small").recipe, warm_up=0.0), 4, 32)
        assert all(p.requires_grad for p in model.parameters())


class TestTerms:
    @pytest.fixture
    def outputs(self) -> TrainingOutputs:
        logits = torch.randn(1, 2, 4, 4)
        return TrainingOutputs(logits, (logits, 2 * logits), {"guidance": torch.tensor(3.0)})

    def test_every_supervised_output_and_every_named_term_counts(self, outputs):
        labels, weight = torch.randint(0, 2, (1, 4, 4)), torch.ones(1, 4, 4)
        recipe = Recipe(terms={"guidance": 0.25})
        expected = sum(recipe_loss(recipe, logits, labels, weight) for logits in outputs.supervised) + 0.75
        torch.testing.assert_close(network_loss(recipe, outputs, labels, weight), expected)

    def test_a_term_without_weight_does_not_count(self, outputs):
        labels, weight = torch.randint(0, 2, (1, 4, 4)), torch.ones(1, 4, 4)
        with_term = network_loss(Recipe(terms={"guidance": 1.0}), outputs, labels, weight)
        torch.testing.assert_close(with_term - network_loss(Recipe(), outputs, labels, weight), torch.tensor(3.0))

    @pytest.mark.parametrize("term", ["guidance", "reconstruction"])
    def test_the_self_guided_network_trains_with_its_own_terms(self, term):
        """Only the term is scored; if the loop dropped it, nothing could become smaller."""
        assert get_spec("self_guided").recipe.terms == {"guidance": 0.25, "reconstruction": 0.1}
        torch.manual_seed(0)
        model = create_model("self_guided", num_classes=2, variant="small")
        recipe = Recipe(cross_entropy_weight=0, dice_weight=0, terms={term: 1.0}, learning_rate=1e-3, warm_up=0)
        losses = train(model, recipe, 6, 64)
        assert losses[0] > 0
        assert losses[-1] < losses[0]

    def test_a_network_without_more_to_say_gives_its_logits(self):
        model = create_model("attention_unet", spatial_dims=2, feature_scale=32)
        found = training_outputs(model.eval(), torch.randn(1, 1, 16, 16))
        assert len(found.supervised) == 1
        assert not found.terms


class TestSchedule:
    def test_it_rises_and_falls(self):
        schedule = Schedule(Recipe(learning_rate=1.0, warm_up=0.1, decay_power=1.0))
        rates = [schedule.rate(progress, 0, 0) for progress in (0.0, 0.05, 0.1, 0.5, 1.0)]
        assert rates[0] < rates[1] < rates[2] > rates[3] > rates[4]

    def test_a_short_run_never_comes_to_the_full_rate(self):
        schedule = Schedule(Recipe(learning_rate=1.0, warm_up=0.1, decay_power=0, warm_up_steps=50))
        assert [schedule.rate(0.5, 0, step) for step in (0, 9, 49, 500)] == [0.02, 0.2, 1, 1]
        assert schedule.rate(0.0, 0, 500) < 0.02

    def test_a_constant_rate_stays(self):
        schedule = Schedule(Recipe(learning_rate=0.5, warm_up=0, decay_power=0))
        assert {schedule.rate(progress, 99, 0) for progress in (0.0, 0.3, 1.0)} == {0.5}

    def test_it_halves_every_so_many_epochs(self):
        schedule = Schedule(Recipe(learning_rate=1.0, warm_up=0, decay_power=0, halve_every=250))
        assert [schedule.rate(0.5, epoch, 0) for epoch in (0, 249, 250, 500)] == [1, 1, 0.5, 0.25]

    def test_it_halves_after_scores_that_stand_still(self):
        schedule = Schedule(Recipe(learning_rate=1.0, warm_up=0, decay_power=0, halve_after=50))
        for epoch, is_best in [(10, True), (40, False), (60, False), (70, False), (110, False)]:
            schedule.scored(epoch, is_best)
        assert schedule.rate(0.5, 110, 0) == 0.25

    def test_a_rate_that_waits_for_scores_hears_of_them_in_time(self):
        waiting = Schedule(Recipe(halve_after=50))
        assert waiting.validations(10, 500) == 50
        assert Schedule(Recipe()).validations(10, 500) == 10

    @pytest.mark.parametrize(
        ("name", "kind"), [("sgd", torch.optim.SGD), ("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW)]
    )
    def test_the_optimiser_is_the_recipes(self, name, kind):
        recipe = Recipe(optimiser=name, learning_rate=0.3, weight_decay=0.1, betas=(0.8, 0.9), nesterov=False)
        made = make_optimiser(recipe, nn.Linear(2, 2))
        assert type(made) is kind
        assert made.defaults["lr"] == 0.3
        assert made.defaults["weight_decay"] == 0.1
        assert made.defaults.get("betas", (0.8, 0.9)) == (0.8, 0.9)
        assert not made.defaults.get("nesterov", False)


class TestBatch:
    def test_the_recipe_says_how_many_patches_a_step_takes_unless_told_otherwise(self):
        recipe = Recipe(batch_size=7)
        assert TrainingConfig(epochs=1, recipe=recipe).batch == 7
        assert TrainingConfig(epochs=1, recipe=recipe, batch_size=2).batch == 2

    def test_one_patch_that_is_too_small_to_normalise_is_named(self):
        model = create_model("attention_unet", spatial_dims=2, feature_scale=32)
        with pytest.raises(TrainingError, match=r"1 patch of \(16, 16\) is too little"):
            train(model, Recipe(), 1, 16)

    def test_a_network_that_was_folded_cannot_be_trained(self):
        folded = prepare_for_inference(create_model("attention_unet", spatial_dims=2, feature_scale=32))
        with pytest.raises(ModelError, match="prepared for inference"):
            train(folded, Recipe(), 1, 16)
