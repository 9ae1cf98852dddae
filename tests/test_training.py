"""Learning: only voxels that somebody vouches for count, and nothing is lost or saved by accident."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_medattn.data import Preparation, Volume
from napari_medattn.errors import GeometryError, MedAttnError, TrainingError
from napari_medattn.events import TrainingStep, Validation
from napari_medattn.geometry import Grid
from napari_medattn.learning.finetune import finetune, finetune_steps
from napari_medattn.models import Recipe, create_model
from napari_medattn.store import Card, Checkpoint, list_checkpoints, load_checkpoint, save_checkpoint
from napari_medattn.training.examples import Example, TrainingCase, prepare_example
from napari_medattn.training.loop import TrainingConfig, train_steps
from napari_medattn.training.losses import recipe_loss, weighted_cross_entropy, weighted_soft_dice_loss
from napari_medattn.training.metrics import evaluate
from napari_medattn.training.patches import Augmentation, PatchSampler

CPU = torch.device("cpu")
NO_CHANGE = Augmentation(rotate=0, scale=0, intensity=0, chance=0)
ARGUMENTS = {"in_channels": 1, "num_classes": 2, "spatial_dims": 2, "feature_scale": 32}
SHORT = TrainingConfig(epochs=3, batch_size=1, augmentation=NO_CHANGE)


def example(weights=None, shape=(2, 32, 32), labels=None) -> Example:
    """A bright square to be found on a noisy image."""
    array = np.random.default_rng(0).normal(0, 0.2, (1, *shape)).astype(np.float32)
    array[:, :, 8:20, 10:26] += 2
    square = np.zeros(shape, np.uint8)
    square[:, 8:20, 10:26] = 1
    volume = Volume(array, Grid.from_spacing(shape, (1, 1, 1)), name="square")
    return Example(volume, square if labels is None else labels, weights)


def few_voxels(*, inside=((0, 10, 12),), outside=((0, 2, 2),)) -> Example:
    weights = np.zeros((2, 32, 32), bool)
    for voxel in (*inside, *outside):
        weights[voxel] = True
    return example(weights)


def case(shape=(1, 32, 32), counted=None) -> TrainingCase:
    rng = np.random.default_rng(1)
    weights = np.ones(shape, np.float32)
    if counted is not None:
        weights[:] = 0
        weights[counted] = 1
    image = rng.normal(size=(1, *shape)).astype(np.float32)
    return TrainingCase("made", image, (image[0] > 0).astype(np.uint8), weights)


def sampler(*cases: TrainingCase, size=(1, 16, 16), seed=0, augmentation=NO_CHANGE) -> PatchSampler:
    return PatchSampler(cases or [case()], size, 2, augmentation, seed)


@pytest.fixture
def parent() -> Checkpoint:
    card = Card("parent", "attention_unet", ARGUMENTS, ("background", "square"), Preparation(), (1, 32, 32))
    return save_checkpoint(replace(card, trained_on="nothing much"), create_model("attention_unet", **ARGUMENTS))


LOSSES = [weighted_cross_entropy, weighted_soft_dice_loss, lambda *a: recipe_loss(Recipe(), *a)]


class TestLosses:
    @pytest.fixture
    def batch(self):
        weight = (torch.rand(2, 6, 6) > 0.5).float()
        return torch.randn(2, 3, 6, 6, requires_grad=True), torch.randint(0, 3, (2, 6, 6)), weight

    @pytest.mark.parametrize("loss", LOSSES, ids=["cross entropy", "dice", "recipe"])
    def test_voxels_without_weight_have_exactly_no_gradient(self, loss, batch):
        logits, labels, weight = batch
        loss(logits, labels, weight).backward()
        assert (logits.grad.abs().sum(dim=1)[weight == 0] == 0).all()

    @pytest.mark.parametrize("loss", LOSSES, ids=["cross entropy", "dice", "recipe"])
    def test_voxels_with_weight_have_one(self, loss, batch):
        logits, labels, weight = batch
        loss(logits, labels, weight).backward()
        assert (logits.grad.abs().sum(dim=1)[weight > 0] > 0).all()

    @pytest.mark.parametrize("loss", LOSSES, ids=["cross entropy", "dice", "recipe"])
    def test_labels_of_voxels_without_weight_do_not_matter(self, loss, batch):
        logits, labels, weight = batch
        other = torch.where(weight == 0, (labels + 1) % 3, labels)
        assert loss(logits, other, weight) == loss(logits, labels, weight)

    @pytest.mark.parametrize("loss", LOSSES, ids=["cross entropy", "dice", "recipe"])
    def test_a_batch_without_weight_gives_no_gradient_and_no_nan(self, loss, batch):
        logits, labels, weight = batch
        loss(logits, labels, torch.zeros_like(weight)).backward()
        assert (logits.grad == 0).all()

    def test_cross_entropy_of_equal_weights_is_torchs(self, batch):
        logits, labels, weight = batch
        expected = torch.nn.functional.cross_entropy(logits, labels)
        torch.testing.assert_close(weighted_cross_entropy(logits, labels, torch.ones_like(weight)), expected)

    def test_dice_loss_of_the_right_answer_is_zero(self, batch):
        _, labels, weight = batch
        sure = 100 * torch.nn.functional.one_hot(labels, 3).movedim(-1, 1).float()
        assert float(weighted_soft_dice_loss(sure, labels, weight)) == pytest.approx(0, abs=1e-5)

    def test_dice_loss_of_the_wrong_answer_is_nearly_one(self):
        labels = torch.ones(1, 40, 40, dtype=torch.int64)
        sure = torch.tensor([100.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 40, 40)
        assert float(weighted_soft_dice_loss(sure, labels, torch.ones(1, 40, 40))) > 0.999


class TestPatches:
    @pytest.mark.parametrize("counted", [(0, 0, 0), (0, 31, 31), (0, 15, 3)])
    def test_a_patch_holds_the_voxel_that_counts(self, counted):
        drawn = [float(sampler(case(counted=counted), seed=seed).batch(1)[2].sum()) for seed in range(8)]
        assert drawn == [1.0] * 8

    def test_a_scan_smaller_than_the_patch_counts_nothing_outside_itself(self):
        _, _, weights, _ = sampler(case((1, 10, 12))).batch(1)
        assert weights.sum() == 120

    def test_image_and_labels_stay_together(self):
        image, labels, *_ = sampler(augmentation=replace(NO_CHANGE, flip_axes=(-1,))).batch(8)
        torch.testing.assert_close((image[:, 0] > 0).long(), labels)

    def test_one_seed_gives_one_sequence(self):
        one, two = (sampler(augmentation=Augmentation(flip_axes=(-1,)), seed=4).batch(4) for _ in range(2))
        torch.testing.assert_close(one, two, rtol=0, atol=0)

    def test_another_seed_gives_another(self):
        assert not torch.equal(sampler(seed=1).batch(4)[0], sampler(seed=2).batch(4)[0])

    def test_every_case_has_its_turn(self):
        cases = [case((1, 16, 16)) for _ in range(5)]
        for number, one in enumerate(cases):
            one.image[:] = number
        image, *_ = sampler(*cases).batch(5)
        assert sorted(image[:, 0, 0, 0].tolist()) == [0, 1, 2, 3, 4]

    def test_labels_stay_whole_numbers_when_patches_are_turned(self):
        turned = Augmentation(rotate=40, scale=0.3, intensity=0, chance=1)
        _, labels, weights, _ = sampler(augmentation=turned).batch(4)
        assert set(labels.unique().tolist()) <= {0, 1}
        assert set(weights.unique().tolist()) <= {0.0, 1.0}

    def test_a_case_without_a_counted_voxel_beside_one_with_does_not_stop_the_training(self):
        nothing = case(counted=(slice(0, 0),))
        _, _, weights, _ = sampler(nothing, case(counted=(0, 4, 4))).batch(4)
        assert weights.sum() > 0


class TestLoop:
    def run(self, config, model=None, validate=None, cases=(), **options):
        torch.manual_seed(0)
        model = model or create_model("attention_unet", **ARGUMENTS)
        return list(train_steps(model, sampler(*cases, size=(1, 32, 32), **options), config, CPU, validate))

    def test_the_loss_falls(self):
        made = prepare_example(example(shape=(1, 32, 32)), Preparation(), 2)
        events = self.run(replace(SHORT, epochs=40, recipe=Recipe(learning_rate=1e-2)), cases=[made])
        losses = [event.loss for event in events]
        assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])

    def test_one_seed_gives_one_run(self):
        assert [e.loss for e in self.run(SHORT)] == [e.loss for e in self.run(SHORT)]

    def test_epochs_times_batches_are_the_steps(self):
        events = self.run(replace(SHORT, epochs=2, batch_size=2), cases=[case()] * 3)
        assert [event.step for event in events] == [1, 2, 3, 4]

    def test_a_loss_that_is_no_number_stops_the_run(self):
        broken = case()
        broken.image[:] = np.nan
        with pytest.raises(TrainingError, match="loss became nan"):
            self.run(SHORT, cases=[broken])

    def test_leaving_early_takes_no_further_step(self):
        model = create_model("attention_unet", **ARGUMENTS)
        steps = train_steps(model, sampler(size=(1, 32, 32)), SHORT, CPU)
        next(steps)
        steps.close()
        assert int(model.encode1.first.norm.num_batches_tracked) == 1

    def test_frozen_statistics_stay(self):
        model = create_model("attention_unet", **ARGUMENTS)
        self.run(replace(SHORT, freeze_statistics=True), model)
        assert int(model.encode1.first.norm.num_batches_tracked) == 0

    def test_holding_on_keeps_what_the_network_says_where_nobody_vouches(self):
        image = np.random.default_rng(0).normal(size=(1, 1, 32, 32)).astype(np.float32)
        weights = np.zeros((1, 32, 32), np.float32)
        weights[:, 2:6, 2:6] = 1
        case = TrainingCase("sparse", image, np.ones((1, 32, 32), np.uint8), weights)

        def drift(hold: float) -> float:
            torch.manual_seed(0)
            model = create_model("attention_unet", **ARGUMENTS).eval()
            x = torch.from_numpy(image[:, 0][None])
            before = model(x).softmax(1).detach()
            self.run(replace(SHORT, epochs=25, hold=hold, freeze_statistics=True), model, cases=[case])
            return float((model(x).softmax(1).detach() - before).abs()[..., 8:, 8:].mean())

        assert drift(20.0) < 0.7 * drift(0.0)

    def test_the_best_validation_is_marked(self):
        scores = iter([0.5, 0.2, 0.8])
        config = replace(SHORT, validations=3)
        events = self.run(config, validate=lambda _: {"square": next(scores)})
        assert [e.best for e in events if isinstance(e, Validation)] == [True, False, True]

    def test_the_network_is_ready_for_use_afterwards(self):
        model = create_model("attention_unet", **ARGUMENTS)
        self.run(SHORT, model)
        assert not model.training

    @pytest.mark.parametrize(
        "wrong", [{}, {"epochs": 1, "seconds": 1.0}, {"epochs": -1}, {"epochs": 1, "batch_size": 0}]
    )
    def test_an_impossible_plan_is_refused(self, wrong):
        with pytest.raises(TrainingError):
            TrainingConfig(**wrong)


class TestFinetune:
    def test_a_new_checkpoint_names_its_parent(self, parent):
        child = finetune(parent, [few_voxels()], config=SHORT, device="cpu")
        assert (child.card.parent, child.card.parent_name) == (parent.card.weights_sha256, "parent")

    def test_the_new_checkpoint_holds_other_weights(self, parent):
        child = finetune(parent, [few_voxels()], config=SHORT, device="cpu")
        assert load_checkpoint(child.name).card.weights_sha256 != parent.card.weights_sha256

    def test_the_parent_is_left_byte_by_byte(self, parent):
        before = parent.path.read_bytes()
        finetune(parent, [few_voxels()], config=SHORT, device="cpu")
        assert parent.path.read_bytes() == before

    def test_a_taken_name_is_not_overwritten(self, parent):
        assert finetune(parent, [few_voxels()], config=SHORT, name="parent", device="cpu").name == "parent-2"

    def test_it_agrees_better_with_the_corrections_afterwards(self, parent):
        inside, outside = [(0, 12, x) for x in range(12, 24)], [(0, 3, x) for x in range(12, 24)]
        config = replace(SHORT, epochs=25, recipe=Recipe(learning_rate=5e-3))
        child = finetune(parent, [few_voxels(inside=inside, outside=outside)], config=config, device="cpu")
        assert child.card.metrics["agreement_after"] > max(0.8, child.card.metrics["agreement_before"])

    def test_leaving_early_saves_nothing(self, parent):
        steps = finetune_steps(parent, [few_voxels()], config=SHORT, device="cpu")
        while not isinstance(next(steps), TrainingStep):
            pass
        steps.close()
        assert [found.name for found in list_checkpoints() if found.path.parent == parent.path.parent] == ["parent"]

    @pytest.mark.parametrize("examples", [[], [few_voxels(inside=(), outside=())]], ids=["no case", "no voxel"])
    def test_nothing_to_learn_from_is_said(self, parent, examples):
        with pytest.raises(TrainingError, match="no voxel to learn from"):
            finetune(parent, examples, config=SHORT, device="cpu")

    @pytest.mark.parametrize("label", [2, -1])
    def test_a_label_without_a_class_is_refused(self, parent, label):
        labels = np.zeros((2, 32, 32), np.int16)
        labels[:, 0, 0] = label
        with pytest.raises(TrainingError, match=f"square has the label {label}"):
            finetune(parent, [example(labels=labels)], config=SHORT, device="cpu")

    def test_an_ignored_label_may_have_any_value(self, parent):
        labels, weights = np.zeros((2, 32, 32), np.int16), np.ones((2, 32, 32), bool)
        labels[:, :4], weights[:, :4] = -1, False
        child = finetune(parent, [example(weights, labels=labels)], config=SHORT, device="cpu")
        assert child.card.parent_name == "parent"

    def test_one_corrected_voxel_of_a_fine_scan_is_not_lost_at_a_coarser_spacing(self, parent):
        card = replace(parent.card, name="coarse", preparation=Preparation(spacing=(1.0, 2.5, 2.5)))
        coarse = save_checkpoint(card, parent.build())
        case = prepare_example(few_voxels(outside=()), coarse.card.preparation, 2)
        assert case.weights.sum() > 0

    def test_weights_of_another_shape_are_refused(self):
        with pytest.raises(GeometryError, match="weights of square"):
            example(np.ones((2, 3, 4)))


def mask(*voxels: tuple[int, ...], shape=(5, 6, 9)) -> np.ndarray:
    made = np.zeros(shape, np.uint8)
    for voxel in voxels:
        made[voxel] = 1
    return made


class TestEvaluate:
    def test_equal_masks_are_perfect(self):
        scores = evaluate(mask((1, 1, 1), (1, 1, 2)), mask((1, 1, 1), (1, 1, 2)), spacing=(1, 1, 1))[1]
        assert (scores.dice, scores.iou, scores.hd95, scores.assd) == (1, 1, 0, 0)

    def test_half_of_two_voxels(self):
        scores = evaluate(mask((1, 1, 1), (1, 1, 2)), mask((1, 1, 2), (1, 1, 3)), spacing=(1, 1, 1))[1]
        assert (scores.dice, scores.iou) == pytest.approx((1 / 2, 1 / 3))

    @pytest.mark.parametrize(("other", "distance"), [((4, 1, 1), 9.0), ((1, 4, 1), 6.0), ((1, 1, 4), 1.5)])
    def test_distances_are_in_millimetres_along_each_axis(self, other, distance):
        scores = evaluate(mask((1, 1, 1)), mask(other), spacing=(3.0, 2.0, 0.5))[1]
        assert (scores.hd95, scores.assd) == pytest.approx((distance, distance))

    def test_the_average_distance_counts_both_surfaces(self):
        """From the mask 0 and 4, from the reference 0: on average 4/3."""
        scores = evaluate(mask((2, 2, 1), (2, 2, 5)), mask((2, 2, 1)), spacing=(1, 1, 1))[1]
        assert scores.assd == pytest.approx(4 / 3)

    def test_a_class_in_neither_mask_has_no_score(self):
        assert all(math.isnan(v) for v in vars(evaluate(mask(), mask(), spacing=(1, 1, 1), num_classes=2)[1]).values())

    @pytest.mark.parametrize("swap", [False, True])
    def test_a_class_in_one_mask_only_is_infinitely_far(self, swap):
        pair = (mask(), mask((1, 1, 1)))[:: -1 if swap else 1]
        scores = evaluate(*pair, spacing=(1, 1, 1))[1]
        assert (scores.dice, scores.iou, scores.hd95, scores.assd) == (0, 0, math.inf, math.inf)

    def test_two_axes_work_as_three(self):
        scores = evaluate(mask((1, 1), shape=(4, 9)), mask((1, 7), shape=(4, 9)), spacing=(1.0, 0.5))[1]
        assert scores.hd95 == pytest.approx(3.0)

    def test_classes_are_scored_one_by_one(self):
        labels = mask((1, 1, 1)) + 3 * mask((2, 2, 2))
        assert set(evaluate(labels, labels, spacing=(1, 1, 1))) == {1, 3}

    @pytest.mark.parametrize(("shape", "spacing"), [((5, 6, 8), (1, 1, 1)), ((5, 6, 9), (1, 1))])
    def test_masks_that_do_not_fit_are_refused(self, shape, spacing):
        with pytest.raises(MedAttnError):
            evaluate(mask(), mask(shape=shape), spacing=spacing)
