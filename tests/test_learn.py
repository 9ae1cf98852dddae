"""Learning as a whole: what is saved, what is said of it, and what stops it."""

from __future__ import annotations

import errno
import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from napari_medattn.data import Example, Preparation, Volume, prepare
from napari_medattn.errors import InputError, SaveError, TrainingError
from napari_medattn.events import Progress, TrainingStep, Validation, run_to_end
from napari_medattn.geometry import Grid
from napari_medattn.learning import exam
from napari_medattn.learning.finetune import finetune_steps
from napari_medattn.learning.learn import LearnPlan, default_seconds, learn, learn_steps
from napari_medattn.models import Recipe, create_model
from napari_medattn.store import Card, Checkpoint, list_checkpoints, load_checkpoint, save_checkpoint
from napari_medattn.store.training_record import TrainingRecord
from napari_medattn.training.loop import TrainingConfig
from napari_medattn.training.patches import Augmentation

ARGUMENTS = {"in_channels": 1, "num_classes": 2, "spatial_dims": 2, "feature_scale": 32}
SHORT = TrainingConfig(
    epochs=3,
    batch_size=1,
    augmentation=Augmentation(rotate=0, scale=0, intensity=0, chance=0),
    recipe=Recipe(learning_rate=1e-3, warm_up=0),
    freeze_statistics=True,
)
PLAN = LearnPlan(config=SHORT)
QUICK = LearnPlan(config=SHORT, folds=0)


def example(*slices: int, seed=0, depth=4, name="square", **facts) -> Example:
    """A bright square on a noisy image; some slices of it are corrected, all if none are named."""
    shape = (depth, 32, 32)
    array = np.random.default_rng(seed).normal(0, 0.2, (1, *shape)).astype(np.float32)
    array[:, :, 8:20, 10:26] += 2
    labels = np.zeros(shape, np.uint8)
    labels[:, 8:20, 10:26] = 1
    weights = np.zeros(shape, bool)
    weights[list(slices) or slice(None)] = True
    return Example(Volume(array, Grid.from_spacing(shape, (2.0, 1.0, 1.0)), name=name), labels, weights, **facts)


@pytest.fixture
def parent() -> Checkpoint:
    card = Card("parent", "attention_unet", ARGUMENTS, ("background", "square"), Preparation(), (1, 32, 32))
    return save_checkpoint(replace(card, trained_on="nothing much"), create_model("attention_unet", **ARGUMENTS))


def events_of(*args, **options) -> tuple[list, object]:
    steps, events = learn_steps(*args, device="cpu", **options), []
    while True:
        try:
            events.append(next(steps))
        except StopIteration as stop:
            return events, stop.value


def mine(parent: Checkpoint) -> list[str]:
    return [found.name for found in list_checkpoints() if found.path.parent == parent.path.parent]


class TestVersion:
    def test_it_learns_and_says_so(self, parent):
        plan = LearnPlan(config=replace(SHORT, epochs=30, recipe=Recipe(learning_rate=1e-2)))
        learned = learn(parent, [example(0, 3)], held_out=[example(seed=1)], plan=plan, device="cpu")
        assert learned.verdict.word == "better"
        assert learned.after.dice["square"] > learned.before.dice["square"]
        assert learned.agreement[1] > learned.agreement[0]

    def test_what_is_told_is_what_the_saved_version_does(self, parent):
        held_out = example(seed=1)
        learned = learn(parent, [example(0)], held_out=[held_out], plan=QUICK, device="cpu")
        again = learn(learned.checkpoint, [example(0)], held_out=[held_out], plan=QUICK, device="cpu")
        assert again.before == learned.after

    def test_the_card_has_what_programs_read(self, parent):
        stored = example(0, 1, provenance={"example": "abc"}, modality="MR")
        learned = learn(parent, [stored], held_out=[example(seed=1)], plan=QUICK, device="cpu")
        card = load_checkpoint(learned.checkpoint.name).card
        record = TrainingRecord.of(card)
        assert (record.method, record.examples) == ("whole", ("abc",))
        assert record.after["dice"]["square"] == pytest.approx(learned.after.dice["square"], abs=1e-4)
        assert card.training["verdict"]["word"] == learned.verdict.word
        assert card.training["parent"] == parent.card.weights_sha256
        assert card.training["modality"] == ["MR"]

    def test_the_card_is_json_that_others_can_read(self, parent):
        learned = learn(parent, [example(0)], plan=PLAN, device="cpu")
        text = learned.checkpoint.path.with_suffix(".json").read_text()
        json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))

    @pytest.mark.parametrize("method", ["whole", "decoder", "adapters", "statistics"])
    def test_a_version_of_any_method_is_a_plain_checkpoint(self, parent, method):
        learned = learn(parent, [example(0)], plan=replace(QUICK, method=method), device="cpu")
        assert set(learned.checkpoint.build().state_dict()) == set(parent.build().state_dict())
        assert learned.checkpoint.card.weights_sha256 != parent.card.weights_sha256

    def test_adapters_are_scored_on_the_way_and_held_to_the_parents_opinion(self, parent):
        plan = LearnPlan(method="adapters", config=replace(SHORT, hold=1.0), anchor=0.1)
        events, learned = events_of(parent, [example(0)], held_out=[example(seed=1)], plan=plan)
        assert len([e for e in events if isinstance(e, Validation)]) > 2
        assert learned.checkpoint.card.training["method"] == "adapters"

    def test_one_seed_gives_one_version(self, parent):
        versions = [learn(parent, [example(0, 2)], plan=QUICK, device="cpu").checkpoint for _ in range(2)]
        assert versions[0].card.weights_sha256 == versions[1].card.weights_sha256

    def test_a_version_of_a_version_keeps_the_first_recipe(self, parent):
        own = parent.card.training | {"config": {"recipe": {"learning_rate": 0.25}}}
        trained = save_checkpoint(replace(parent.card, name="trained", training=own), parent.build())
        child = learn(trained, [example(0)], plan=QUICK, device="cpu").checkpoint
        grandchild = learn(child, [example(1)], plan=QUICK, device="cpu").checkpoint
        assert grandchild.card.training["own_recipe"]["learning_rate"] == 0.25
        assert grandchild.card.parent_name == child.name


class TestHeldBack:
    def test_without_held_out_cases_slices_are_held_back_in_turn(self, parent):
        learned = learn(parent, [example(0, 1, 3)], plan=PLAN, device="cpu")
        assert learned.folds == 2
        assert learned.before.voxels == learned.after.voxels == 3 * 32 * 32

    def test_no_network_is_scored_on_what_it_learned(self, parent, monkeypatch):
        from napari_medattn.learning import task

        seen, scored = [], []
        attempt, tally = task.attempt_steps, task.Exam.tally_steps

        def watched(model, lesson, *rest):
            seen.append([case.weights > 0 for case in lesson.cases])
            return attempt(model, lesson, *rest)

        def counted(self, model, references, sums, *limit):
            if (len(seen) > 1 and sums._confusion.sum() == 0) or scored:
                masks = [np.zeros((4, 32, 32), bool) for _ in references]
                for mask, reference in zip(masks, references, strict=True):
                    for region in reference.regions:
                        mask[region.box] |= region.counts
                scored.append((len(seen) - 1, masks))
            return tally(self, model, references, sums, *limit)

        monkeypatch.setattr(task, "attempt_steps", watched)
        monkeypatch.setattr(task.Exam, "tally_steps", counted)
        learn(parent, [example(0, 1, 3)], plan=PLAN, device="cpu")
        assert [number for number, _ in scored] == [1, 2]
        for number, masks in scored:
            assert not (masks[0] & seen[number][0]).any()
            assert masks[0].any()
        assert seen[0][0].sum() == 3 * 32 * 32

    def test_the_curve_is_that_of_the_training_that_is_kept(self, parent):
        events, learned = events_of(parent, [example(0, 3)], plan=PLAN)
        assert [e.step for e in events if isinstance(e, TrainingStep)] == [1, 2, 3]
        assert learned.steps == 3
        assert any(isinstance(e, Progress) and "held back, 2 of 2" in e.stage for e in events)

    def test_a_few_voxels_tell_nothing(self, parent):
        few = example(0)
        few.weights[:] = False
        few.weights[0, 10, 10:20] = True
        learned = learn(parent, [few], plan=PLAN, device="cpu")
        assert (learned.verdict.word, learned.before) == ("unknown", None)
        assert not learned.verdict.may_become_current

    def test_held_out_cases_are_scored_before_during_and_after(self, parent):
        events, learned = events_of(parent, [example(0)], held_out=[example(seed=1)], plan=PLAN)
        told = [e for e in events if isinstance(e, Validation)]
        assert told[0].step == 0
        assert told[-1].dice["square"] == pytest.approx(learned.after.dice["square"])
        assert learned.folds == 0

    def test_a_held_out_voxel_that_is_learned_from_is_not_scored(self, parent):
        learned = learn(parent, [example(0)], held_out=[example(0, 1)], plan=PLAN, device="cpu")
        assert learned.before.voxels == 32 * 32
        assert "1024 held-out voxels of square are learned from" in " ".join(learned.notes)

    def test_what_is_forgotten_is_told(self, parent):
        learned = learn(parent, [example(0)], earlier=[example(seed=2)], plan=QUICK, device="cpu")
        assert learned.earlier_before.voxels == learned.earlier_after.voxels == 4 * 32 * 32


class TestStopping:
    def test_stop_keeps_scores_and_saves(self, parent):
        taken = []
        plan = LearnPlan(config=replace(SHORT, epochs=50))
        steps = learn_steps(parent, [example(0, 3)], plan=plan, device="cpu", stop=lambda: len(taken) >= 2)
        while True:
            try:
                event = next(steps)
            except StopIteration as stop:
                learned = stop.value
                break
            if isinstance(event, TrainingStep):
                taken.append(event)
        assert learned.steps <= 3
        assert learned.before is not None
        assert learned.checkpoint.name in mine(parent)

    def test_closing_saves_nothing(self, parent):
        steps = learn_steps(parent, [example(0, 3)], plan=PLAN, device="cpu")
        while not isinstance(next(steps), TrainingStep):
            pass
        steps.close()
        assert mine(parent) == ["parent"]

    def test_closing_while_trying_what_was_held_back_saves_nothing(self, parent):
        steps = learn_steps(parent, [example(0, 3)], plan=PLAN, device="cpu")
        while "held back" not in getattr(next(steps), "stage", ""):
            pass
        steps.close()
        assert mine(parent) == ["parent"]

    def test_a_loss_that_is_no_number_keeps_what_was_learned(self, parent, monkeypatch):
        from napari_medattn.training import loop

        whole, calls = loop.network_loss, []

        def loss(*args, **options):
            calls.append(1)
            return whole(*args, **options) * (math.nan if len(calls) == 3 else 1)

        monkeypatch.setattr(loop, "network_loss", loss)
        learned = learn(parent, [example(0)], plan=QUICK, device="cpu")
        assert "nan after 2 steps" in learned.stopped
        assert learned.checkpoint.card.training["stopped"] == learned.stopped
        assert all(t.isfinite().all() for t in learned.checkpoint.build().state_dict().values())

    def test_nothing_is_saved_where_no_step_was_good(self, parent, monkeypatch):
        from napari_medattn.training import loop

        whole = loop.network_loss
        monkeypatch.setattr(loop, "network_loss", lambda *a, **k: whole(*a, **k) * math.nan)
        with pytest.raises(TrainingError, match="loss became nan"):
            learn(parent, [example(0)], plan=QUICK, device="cpu")
        assert mine(parent) == ["parent"]

    def test_a_full_disk_leaves_nothing_half_written(self, parent, monkeypatch):
        def full(self, data):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(Path, "write_bytes", full)
        before = sorted(path.name for path in parent.path.parent.iterdir())
        with pytest.raises(SaveError, match="no space left"):
            learn(parent, [example(0)], plan=QUICK, device="cpu")
        assert sorted(path.name for path in parent.path.parent.iterdir()) == before


def test_scoring_goes_on_on_the_cpu_when_memory_runs_out(parent, monkeypatch):
    whole = exam.region_labels

    def tight(predictor, *rest):
        if predictor.device.type != "cpu":
            raise RuntimeError("out of memory")
        return whole(predictor, *rest)

    monkeypatch.setattr(exam, "region_labels", tight)
    scan = example(0)
    reference = exam.Reference.of(scan, prepare(scan.volume, parent.card.preparation))
    asked = exam.Exam(parent.card, torch.device("meta"), [reference])
    scores = run_to_end(asked.score_steps(parent.build(), [reference]))
    assert scores.voxels == 32 * 32
    assert asked.notes == ["Memory ran out: scoring on the CPU."]


def test_earlier_examples_are_scored_as_far_as_time_allows_and_then_always_the_same_ones(parent):
    references = [exam.Reference.of(e, prepare(e.volume, parent.card.preparation)) for e in (example(0), example(1))]
    asked = exam.Exam(parent.card, torch.device("cpu"), references[:1], earlier=references, limit=0.0)
    marks = [run_to_end(asked.steps(parent.build())) for _ in range(2)]
    assert [mark.earlier.voxels for mark in marks] == [32 * 32] * 2
    assert asked.notes == ["1 of 2 earlier examples were scored, to save time."]


class TestBadInput:
    def test_no_edits(self, parent):
        nothing = replace(example(), weights=np.zeros((4, 32, 32), bool))
        with pytest.raises(TrainingError, match="no voxel to learn from"):
            learn(parent, [nothing], device="cpu")

    def test_another_channel_count(self, parent):
        scan = example()
        rgb = Volume(np.repeat(scan.volume.array, 3, 0), scan.volume.grid, name="rgb")
        with pytest.raises(InputError, match="rgb is an RGB image"):
            learn(parent, [replace(scan, volume=rgb)], plan=QUICK, device="cpu")

    def test_other_classes_are_asked_about_and_can_be_meant(self, parent):
        other = example(0, class_names=("background", "circle"))
        with pytest.raises(InputError, match="its classes are background, circle"):
            learn(parent, [other], plan=QUICK, device="cpu")
        assert learn(parent, [other], plan=replace(QUICK, accept_mismatch=True), device="cpu").steps == 3

    def test_a_class_without_a_voxel_is_fine_and_said(self, parent):
        scan = example(0)
        learned = learn(parent, [replace(scan, labels=np.zeros_like(scan.labels))], plan=QUICK, device="cpu")
        assert "No voxel of square is among the corrections" in " ".join(learned.notes)

    def test_contradictory_examples(self, parent):
        old, new = example(0), example(0)
        learned = learn(parent, [replace(old, labels=1 - old.labels), new], plan=QUICK, device="cpu")
        assert "1024 voxels of square carry two labels" in " ".join(learned.notes)
        assert learned.before is None

    def test_a_method_that_the_network_has_nothing_for(self, parent):
        arguments = {**ARGUMENTS, "gates_per_skip": 0}
        card = replace(parent.card, name="ungated", arguments=arguments)
        ungated = save_checkpoint(card, create_model("attention_unet", **arguments))
        with pytest.raises(InputError, match="has no attention projections"):
            learn(ungated, [example(0)], plan=replace(QUICK, method="adapters"), device="cpu")

    @pytest.mark.parametrize(
        "wrong", [{"seconds": -1}, {"rehearsal": 1.5}, {"anchor": -1}, {"folds": 1}, {"opinion": -0.1}]
    )
    def test_an_impossible_plan(self, wrong):
        with pytest.raises(TrainingError):
            LearnPlan(**wrong)


class TestTime:
    def test_a_budget_is_kept(self, parent):
        learned = learn(parent, [example(0, 3)], plan=LearnPlan(seconds=2.0), device="cpu")
        assert learned.steps > 0
        assert learned.checkpoint.card.training["config"]["seconds"] <= 2.0

    def test_a_default_for_every_device(self, parent):
        assert default_seconds(parent.card, torch.device("cpu")) > default_seconds(parent.card, torch.device("cuda"))

    def test_only_slices_that_count_are_looked_at(self, parent, monkeypatch):
        from napari_medattn.inference import Predictor

        seen, run = [], Predictor.probabilities
        monkeypatch.setattr(Predictor, "probabilities", lambda self, t, *a: (seen.append(len(t)), run(self, t, *a))[1])
        learn(parent, [example(1, 17, depth=40)], plan=QUICK, device="cpu")
        assert sum(seen) == 2 * 2


def test_finetune_stays_a_door(parent):
    steps = finetune_steps(parent, [example(0)], config=SHORT, device="cpu")
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            child = stop.value
            break
    assert child.card.metrics["agreement_after"] >= 0
    assert child.card.parent_name == "parent"
