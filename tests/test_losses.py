"""The forms of the Dice loss, on answers that can be counted by hand."""

from __future__ import annotations

import pytest
import torch

from napari_medattn.models import Recipe
from napari_medattn.models.outputs import TrainingOutputs
from napari_medattn.training.losses import (
    DICE_FORMS,
    network_loss,
    recipe_loss,
    weighted_dice_loss_per_image,
    weighted_squared_dice_loss,
)

SURE = 60.0


def sure(labels: torch.Tensor, classes: int = 3) -> torch.Tensor:
    """Logits that leave no doubt about ``labels``."""
    return SURE * torch.nn.functional.one_hot(labels, classes).movedim(-1, 1).float()


@pytest.fixture
def labels() -> torch.Tensor:
    """Two images; the first has classes 0 and 1 alone, the second all three."""
    return torch.tensor([[[0, 0, 1, 1]], [[0, 1, 2, 2]]])


@pytest.fixture
def ones(labels) -> torch.Tensor:
    return torch.ones(labels.shape)


class TestSquaredDice:
    def test_the_right_answer_costs_nothing(self, labels, ones):
        assert weighted_squared_dice_loss(sure(labels), labels, ones) == pytest.approx(0, abs=1e-5)

    def test_background_counts(self, ones):
        """Two of four background voxels are missed: Dice 2 * 2 / (2 + 4), class 1 has none: 0."""
        truth, answer = torch.tensor([[[0, 0, 0, 0]]]), torch.tensor([[[0, 0, 1, 1]]])
        loss = weighted_squared_dice_loss(sure(answer, 2), truth, torch.ones(truth.shape))
        assert loss == pytest.approx(1 - (2 / 3 + 0) / 2, abs=1e-5)

    def test_an_unsure_answer_is_counted_by_its_squares(self):
        """p = 1/2 everywhere: the overlap is 2 of 4, the total 4 / 4 + 4 or 4 / 4 + 0."""
        truth = torch.zeros(1, 1, 4, dtype=torch.int64)
        loss = weighted_squared_dice_loss(torch.zeros(1, 2, 1, 4), truth, torch.ones(truth.shape))
        assert loss == pytest.approx(1 - (4 / 5 + 0) / 2, abs=1e-4)


class TestDicePerImage:
    def test_a_class_that_is_neither_there_nor_predicted_scores_two(self, labels, ones):
        """Class 2 of the first image scores 2, the five others 1."""
        assert weighted_dice_loss_per_image(sure(labels), labels, ones) == pytest.approx(1 - 7 / 6, abs=0.01)

    def test_chosen_classes_share_the_softmax_and_the_others_cost_one(self, labels, ones):
        logits = sure(labels)
        logits[:, 1] = 10 * SURE
        loss = weighted_dice_loss_per_image(logits[1:, :, :, ::2], labels[1:, :, ::2], ones[1:, :, ::2], classes=[0, 2])
        assert loss == pytest.approx(1 - 2 / 3, abs=0.01)

    def test_each_image_counts_the_same_whatever_it_shows(self, labels, ones):
        logits = torch.randn(2, 3, 1, 4)
        alone = [weighted_dice_loss_per_image(logits[i : i + 1], labels[i : i + 1], ones[i : i + 1]) for i in (0, 1)]
        assert weighted_dice_loss_per_image(logits, labels, ones) == pytest.approx(float(sum(alone)) / 2)


@pytest.mark.parametrize("form", DICE_FORMS)
class TestEveryForm:
    def test_voxels_without_weight_do_not_count(self, form, labels):
        weight = torch.tensor([[[1.0, 1, 0, 1]], [[0, 1, 1, 1]]])
        one, other = torch.randn(2, 3, 1, 4), torch.randn(2, 3, 1, 4)
        other = torch.where(weight[:, None] > 0, one, other)
        loss = DICE_FORMS[form]
        torch.testing.assert_close(loss(one, labels, weight), loss(other, labels, weight))

    def test_no_voxel_at_all_gives_a_number(self, form, labels):
        logits = torch.randn(2, 3, 1, 4, requires_grad=True)
        DICE_FORMS[form](logits, labels, torch.zeros(labels.shape)).backward()
        assert logits.grad.isfinite().all()

    def test_a_recipe_chooses_it(self, form, labels, ones):
        logits = torch.randn(2, 3, 1, 4)
        recipe = Recipe(dice_form=form, dice_weight=0.5, cross_entropy_weight=0)
        torch.testing.assert_close(
            recipe_loss(recipe, logits, labels, ones), 0.5 * DICE_FORMS[form](logits, labels, ones)
        )


class TestNetworkLoss:
    def test_all_that_is_scored_adds_up_and_terms_count_by_their_weight(self, labels, ones):
        one, two = torch.randn(2, 3, 1, 4), torch.randn(2, 3, 1, 4)
        recipe = Recipe(terms={"guided": 0.25})
        outputs = TrainingOutputs(one, (one, two), {"guided": torch.tensor(8.0), "unnamed": torch.tensor(99.0)})
        expected = recipe_loss(recipe, one, labels, ones) + recipe_loss(recipe, two, labels, ones) + 2
        torch.testing.assert_close(network_loss(recipe, outputs, labels, ones), expected)
