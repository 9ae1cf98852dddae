"""Losses for sparse labels and rare classes."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_medattn.bench.learn_scribbles import measure
from napari_medattn.events import Validation, run_to_end
from napari_medattn.models import GatedCRF, Recipe
from napari_medattn.training.crf import gated_crf_loss
from napari_medattn.training.examples import TrainingCase
from napari_medattn.training.loop import TrainingConfig, train_steps
from napari_medattn.training.losses import weighted_cross_entropy
from napari_medattn.training.scribbles import balanced_weights, scribble_recipe
from tests.training_tools import CPU, make_sampler, tiny_network

HOW = GatedCRF(radius=2, position=1.5, intensity=0.7)


def by_definition(logits: torch.Tensor, images: torch.Tensor, how: GatedCRF) -> torch.Tensor:
    """Equation by equation, pair by pair."""
    probabilities, energy = logits.softmax(1), torch.zeros(())
    voxels = list(itertools.product(*map(range, images.shape[2:])))
    for batch, i, j in itertools.product(range(len(images)), voxels, voxels):
        apart = [abs(a - b) for a, b in zip(i, j, strict=True)]
        if i == j or max(apart) > how.radius:
            continue
        unlike = (images[(batch, slice(None), *i)] - images[(batch, slice(None), *j)]).square().sum()
        kernel = torch.exp(-sum(a * a for a in apart) / (2 * how.position**2) - unlike / (2 * how.intensity**2))
        one, other = probabilities[(batch, slice(None), *i)], probabilities[(batch, slice(None), *j)]
        energy = energy + kernel * (1 - (one * other).sum())
    return energy / (len(images) * len(voxels))


class TestGatedCRF:
    @pytest.fixture(params=[(2, 3, 4, 5), (1, 2, 3, 2, 3)], ids=["2-D", "3-D"])
    def batch(self, request):
        batch, classes, *spatial = request.param
        return torch.randn(batch, classes, *spatial, requires_grad=True), torch.randn(batch, 2, *spatial)

    def test_it_is_the_energy_of_the_paper(self, batch):
        torch.testing.assert_close(gated_crf_loss(*batch, HOW), by_definition(*batch, HOW))

    def test_so_is_its_gradient(self, batch):
        found, expected = (
            torch.autograd.grad(loss(*batch, HOW), batch[0])[0] for loss in (gated_crf_loss, by_definition)
        )
        torch.testing.assert_close(found, expected)

    def test_one_class_everywhere_costs_nothing(self):
        sure = torch.tensor([100.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 5, 5)
        assert float(gated_crf_loss(sure, torch.randn(1, 1, 5, 5), HOW)) == pytest.approx(0, abs=1e-5)

    def test_a_border_costs_less_where_the_image_has_one(self):
        truth = torch.zeros(1, 8, 8, dtype=torch.int64)
        truth[..., 4:] = 1
        sure = 50 * torch.nn.functional.one_hot(truth, 2).movedim(-1, 1).float()
        edge, flat = 3.0 * truth[:, None].float(), torch.zeros(1, 1, 8, 8)
        assert gated_crf_loss(sure, edge, HOW) < 0.01 * gated_crf_loss(sure, flat, HOW)

    def test_a_patch_smaller_than_the_window_is_no_trouble(self):
        assert gated_crf_loss(torch.randn(1, 2, 1, 3), torch.randn(1, 1, 1, 3), GatedCRF(radius=5)).isfinite()


class TestRecipe:
    def test_scribbles_say_nothing_of_sizes(self):
        recipe = scribble_recipe(Recipe(optimiser="sgd", epochs=7))
        assert (recipe.dice_weight, recipe.optimiser, recipe.epochs) == (0.0, "sgd", 7)

    def test_a_network_trains_with_it(self):
        config = TrainingConfig(epochs=20, batch_size=3, recipe=scribble_recipe(Recipe(learning_rate=1e-2)))
        losses = [event.loss for event in train_steps(tiny_network(), make_sampler(), config, CPU)]
        assert np.mean(losses[-5:]) < 0.8 * np.mean(losses[:3])


class TestClassWeights:
    def test_a_class_without_weight_has_no_gradient(self):
        logits, labels = torch.randn(1, 3, 4, 4, requires_grad=True), torch.randint(0, 3, (1, 4, 4))
        weighted_cross_entropy(logits, labels, torch.ones(1, 4, 4), torch.tensor([1.0, 0.0, 2.0])).backward()
        assert (logits.grad.abs().sum(1)[labels == 1] == 0).all()

    def test_they_are_torchs(self):
        logits, labels, weights = torch.randn(2, 3, 4, 4), torch.randint(0, 3, (2, 4, 4)), torch.tensor([0.5, 2.0, 3.0])
        expected = torch.nn.functional.cross_entropy(logits, labels, weights)
        torch.testing.assert_close(weighted_cross_entropy(logits, labels, torch.ones(2, 4, 4), weights), expected)

    def test_a_class_four_times_as_rare_counts_twice_as_much(self):
        labels = np.array([[[0] * 16 + [1] * 4 + [2] * 9]], np.uint8)
        counted = (labels < 2).astype(np.float32)
        case = TrainingCase("case", np.zeros((1, *labels.shape), np.float32), labels, counted)
        often, rare, never = balanced_weights([case], 3)
        assert (rare / often, 16 * often + 4 * rare, never) == pytest.approx((2, 20, 0))


class TestPatience:
    CONFIG = TrainingConfig(epochs=20, batch_size=3, validations=20, patience=3)

    def run(self, scores):
        given = iter(scores)
        return list(train_steps(tiny_network(), make_sampler(), self.CONFIG, CPU, lambda _: {"thing": next(given)}))

    def test_a_run_ends_when_nothing_gets_better(self):
        events = self.run([0.1, 0.5, *[0.4] * 18])
        assert [event.best for event in events if isinstance(event, Validation)] == [True, True, False, False, False]

    def test_a_run_that_gets_better_goes_on_to_its_end(self):
        assert self.run(np.linspace(0, 1, 20))[-1].epoch == 20

    def test_a_run_without_scores_goes_on_to_its_end(self):
        events = list(train_steps(tiny_network(), make_sampler(), replace(self.CONFIG, epochs=6), CPU))
        assert (len(events), math.isfinite(events[-1].loss)) == (6, True)


@pytest.mark.nightly
def test_learning_from_scribbles_is_measured_beside_full_masks():
    rows = {row.name: row for row in run_to_end(measure(quick=True))}
    assert rows["scribbles: Dice, full masks"].value > 0.3
    assert rows["scribbles: Dice / that of full masks"].target == 0.9
