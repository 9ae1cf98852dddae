"""The parts of learning: what changes, what is pulled where, what is held back, what the scores say."""

from __future__ import annotations

import copy
import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st

from napari_medattn.data import Example, Preparation, Volume, prepare
from napari_medattn.errors import DivergenceError, InputError
from napari_medattn.geometry import Grid
from napari_medattn.inference import Predictor, segment
from napari_medattn.learning.adapters import attach_adapters, merge_adapters, plain
from napari_medattn.learning.agreeing import agreeing, apart
from napari_medattn.learning.anchor import anchor
from napari_medattn.learning.attempt import Lesson, attempt_steps
from napari_medattn.learning.exam import Exam
from napari_medattn.learning.fitting import check_fit
from napari_medattn.learning.held_back import cut_folds
from napari_medattn.learning.keep import judge
from napari_medattn.learning.ladder import Room, next_rung
from napari_medattn.learning.last_good import LastGood
from napari_medattn.learning.methods import METHODS, check_method, decoder_parameters, learning_parameters
from napari_medattn.learning.own import own_recipe
from napari_medattn.learning.plan import tuning_recipe
from napari_medattn.learning.rehearsal import RehearsalSampler
from napari_medattn.learning.scoring import Reference, Scores, hd95
from napari_medattn.models import Recipe, create_model, get_spec, list_models
from napari_medattn.store import Card
from napari_medattn.training.examples import TrainingCase
from napari_medattn.training.loop import TrainingConfig
from napari_medattn.training.patches import Augmentation

CPU = torch.device("cpu")
STILL = Augmentation(rotate=0, scale=0, intensity=0, chance=0)
CLASSES = ("background", "one", "two")


def small(name: str, **options) -> torch.nn.Module:
    spec = get_spec(name)
    arguments = {"attention_unet": {"feature_scale": 32}, "grid_gating_unet": {"feature_scale": 32}}.get(name)
    arguments = dict(spec.variants["small"].options) if arguments is None else arguments
    return create_model(name, in_channels=1, num_classes=3, spatial_dims=2, **{**arguments, **options})


def case(name: str = "made", side: int = 32, label: int = 1) -> TrainingCase:
    image = np.random.default_rng(1).normal(size=(1, 1, side, side)).astype(np.float32)
    return TrainingCase(name, image, np.full((1, side, side), label, np.uint8), np.ones((1, side, side), np.float32))


def lesson(model, method="whole", *, steps=3, pull=0.0, cases=None, rate=1e-2, batch=2) -> Lesson:
    config = TrainingConfig(
        epochs=steps,
        batch_size=batch,
        recipe=Recipe(learning_rate=rate, warm_up=0),
        augmentation=STILL,
        freeze_statistics=True,
    )
    stride = (1, *model.stride)
    room = Room(batch, (1, 32, 32), CPU)
    return Lesson(cases or [case()], [], 0.0, method, pull, config, STILL, room, stride, 2)


def run(model, plan: Lesson, **options) -> list:
    events = []
    steps = attempt_steps(model, plan, **options)
    while True:
        try:
            events.append(next(steps))
        except StopIteration as stop:
            return [*events, stop.value]


def state(model) -> dict[str, torch.Tensor]:
    return {key: tensor.clone() for key, tensor in model.state_dict().items()}


class TestMethods:
    @pytest.mark.parametrize("network", list_models())
    def test_the_decoder_and_the_gates_are_a_part_of_every_network(self, network):
        model = small(network)
        learning = {id(p) for p in decoder_parameters(model)}
        still = [name for name, p in model.named_parameters() if id(p) not in learning]
        assert learning
        assert still
        assert not [name for name in still if re.match(r"(local\.)?(decode|head|skip|merge)", name) or "_gate" in name]

    def test_decoder_leaves_the_encoder_bit_by_bit(self):
        model = small("attention_unet")
        before = state(model)
        run(model, lesson(model, "decoder"))
        after = state(model)
        changed = {key.split(".")[0] for key in before if not torch.equal(before[key], after[key])}
        assert changed == {"decode1", "decode2", "decode3", "decode4", "fuse", "gating_signal"} | {
            f"{part}{n}" for part in ("skip", "head") for n in (1, 2, 3, 4) if (part, n) != ("skip", 1)
        }

    def test_statistics_changes_buffers_only(self):
        model = small("attention_unet")
        before = state(model)
        run(model, lesson(model, "statistics"))
        buffers = {name for name, _ in model.named_buffers()}
        changed = {key for key, value in state(model).items() if not torch.equal(value, before[key])}
        assert changed
        assert changed <= buffers

    def test_statistics_of_a_network_without_batch_norm_are_refused(self):
        with pytest.raises(InputError, match="DAE-Former has no batch norm"):
            check_method("statistics", small("dae_former"))

    def test_adapters_of_a_network_without_attention_are_refused(self):
        with pytest.raises(InputError, match="Attention U-Net has no attention projections"):
            check_method("adapters", small("attention_unet", gates_per_skip=0))

    def test_an_unknown_method_is_refused_with_those_there_are(self):
        with pytest.raises(InputError, match="whole, decoder, adapters, statistics"):
            check_method("everything", small("attention_unet"))

    @pytest.mark.parametrize("method", METHODS.values(), ids=list(METHODS))
    def test_each_has_a_title_and_a_sentence(self, method):
        assert method.title
        assert method.sentence.endswith(".")


class TestAdapters:
    @pytest.mark.parametrize("network", [n for n in list_models() if n != "self_guided"])
    def test_every_network_has_projections(self, network):
        check_method("adapters", small(network))

    def test_they_change_nothing_before_they_learned(self):
        model, x = small("dae_former").eval(), torch.randn(1, 1, 32, 32)
        before = model(x)
        attach_adapters(model)
        torch.testing.assert_close(model(x), before, rtol=0, atol=0)

    @pytest.mark.parametrize("network", ["dae_former", "attention_unet", "gated_axial_unet", "emf_former"])
    def test_merged_is_attached(self, network):
        model, x = small(network).eval(), torch.randn(2, 1, 64, 64)
        for parameter in attach_adapters(model):
            torch.nn.init.normal_(parameter, std=0.1)
        attached = model(x)
        torch.testing.assert_close(merge_adapters(model)(x), attached)

    def test_merged_has_the_weights_of_a_plain_network(self):
        model = small("dae_former")
        keys = set(model.state_dict())
        attach_adapters(model)
        assert set(merge_adapters(model).state_dict()) == keys
        assert not [part for part in model.modules() if type(part).__name__.startswith("Parametrized")]

    def test_the_networks_own_weights_stay(self):
        model = small("dae_former")
        before = state(model)
        run(model, lesson(model, "adapters"))
        after = {key.replace("parametrizations.weight.original", "weight"): v for key, v in state(model).items()}
        assert all(torch.equal(after[key], value) for key, value in before.items())

    def test_they_learn(self):
        model, x = small("dae_former").eval(), torch.randn(1, 1, 32, 32)
        before = model(x).detach()
        run(model, lesson(model, "adapters"))
        assert (merge_adapters(model).eval()(x) - before).abs().max() > 1e-3

    def test_a_plain_copy_leaves_the_adapters(self):
        model = small("dae_former")
        attach_adapters(model)
        copied, x = plain(model.eval()), torch.randn(1, 1, 32, 32)
        assert not [key for key in copied.state_dict() if "parametrizations" in key]
        torch.testing.assert_close(model(x), copied(x))


class TestAnchor:
    def test_it_is_zero_at_the_start(self):
        model = small("attention_unet")
        assert float(anchor(model, 1.0, None)().detach()) == 0

    def test_it_is_half_the_squared_distance(self):
        model = torch.nn.Linear(1, 1, bias=False)
        penalty = anchor(model, 3.0, None)
        with torch.no_grad():
            model.weight += 2
        assert float(penalty().detach()) == pytest.approx(3 / 2 * 4)

    def test_what_does_not_learn_does_not_count(self):
        model = torch.nn.Linear(1, 1)
        penalty = anchor(model, 1.0, [model.bias])
        with torch.no_grad():
            model.weight += 2
        assert float(penalty().detach()) == 0

    def test_an_adapter_counts_with_what_it_adds(self):
        model = small("dae_former")
        parameters = attach_adapters(model)
        penalty = anchor(model, 2.0, parameters)
        part = model.encode1.block1.efficient.queries
        with torch.no_grad():
            part.parametrizations.weight[0].up.normal_()
        moved = part.weight - part.parametrizations.weight.original
        assert float(penalty().detach()) == pytest.approx(float(moved.detach().square().sum()), rel=1e-4)

    def test_it_pulls(self):
        def drift(strength: float) -> float:
            torch.manual_seed(0)
            model = small("attention_unet")
            start = copy.deepcopy(model)
            run(model, lesson(model, steps=10, pull=strength))
            pairs = zip(model.parameters(), start.parameters(), strict=True)
            return sum(float((a - b).detach().square().sum()) for a, b in pairs)

        assert drift(100.0) < 0.5 * drift(0.0)


class TestRehearsal:
    @given(st.floats(0, 1), st.integers(1, 60))
    def test_the_share_is_kept_to_the_patch(self, share, count):
        sampler = RehearsalSampler([case("new")], [case("old")] * 2, share, (1, 16, 16), 2, STILL, STILL, 0)
        drawn = [sampler.cases[sampler._case_of(n)].name for n in range(count)]
        assert abs(drawn.count("old") - share * count) < 1

    def test_every_earlier_case_has_its_turn(self):
        sampler = RehearsalSampler(
            [case("new")], [case(str(n)) for n in range(4)], 0.5, (1, 16, 16), 2, STILL, STILL, 0
        )
        drawn = [sampler.cases[sampler._case_of(n)].name for n in range(8)]
        assert sorted(drawn) == ["0", "1", "2", "3", *["new"] * 4]

    def test_without_anything_earlier_all_is_new(self):
        sampler = RehearsalSampler([case("new")], [], 0.9, (1, 16, 16), 2, STILL, STILL, 0)
        assert {sampler._case_of(n) for n in range(5)} == {0}


class TestFolds:
    def stack(self, *slices: int, depth: int = 9) -> np.ndarray:
        counts = np.zeros((depth, 12, 12), bool)
        counts[list(slices)] = True
        return counts

    def test_a_voxel_is_held_back_once(self):
        counted = [self.stack(1, 4, 6), self.stack(2)]
        folds = cut_folds(counted, [0, 0], 2)
        for index, counts in enumerate(counted):
            assert (sum(fold[index].astype(int) for fold in folds) == counts).all()

    def test_slices_beside_each_other_stay_together(self):
        first, second = cut_folds([self.stack(1, 2, 3, 7)], [0], 2)
        assert np.flatnonzero(first[0].any((1, 2))).tolist() == [1, 2]
        assert np.flatnonzero(second[0].any((1, 2))).tolist() == [3, 7]

    def test_two_cases_are_not_mixed(self):
        first, second = cut_folds([self.stack(1, 2), self.stack(5, 6)], [0, 0], 2)
        assert [fold.any() for fold in first] == [True, False]
        assert [fold.any() for fold in second] == [False, True]

    def test_one_slice_is_cut_into_stripes(self):
        folds = cut_folds([self.stack(3)], [0], 2)
        assert [int(fold[0].sum()) for fold in folds] == [72, 72]

    def test_few_voxels_are_not_cut(self):
        counts = np.zeros((4, 8, 8), bool)
        counts[0, 0, :8] = counts[3, 0, :8] = True
        assert cut_folds([counts], [0], 2) == []

    @given(st.integers(0, 2**32), st.integers(2, 4), st.integers(0, 2))
    def test_any_scribble_is_partitioned(self, seed, folds, axis):
        counts = np.random.default_rng(seed).random((6, 7, 8)) > 0.6
        cut = cut_folds([counts], [axis], folds)
        assert (sum(fold[0].astype(int) for fold in cut) == counts).all()
        assert all(fold[0].any() for fold in cut)


def scores(dice, hd95=math.nan, voxels=1000, size=1.0) -> Scores:
    by_class = dice if isinstance(dice, dict) else {"one": dice}
    return Scores(by_class, by_class, dict.fromkeys(by_class, hd95), voxels, 0.9, size)


class TestVerdict:
    @pytest.mark.parametrize(
        ("before", "after", "word"),
        [
            (scores(0.8), scores(0.9), "better"),
            (scores(0.8), scores(0.8), "not worse"),
            (scores(0.8), scores(0.791), "not worse"),
            (scores(0.8), scores(0.789), "worse"),
            (scores({"one": 0.5, "two": 0.9}), scores({"one": 0.9, "two": 0.88}), "worse"),
            (scores(0.8, 3.0), scores(0.9, 3.9), "better"),
            (scores(0.8, 3.0), scores(0.9, 4.1), "worse"),
            (scores(0.8, 3.0, size=2.0), scores(0.9, 4.9, size=2.0), "better"),
            (scores(math.nan), scores(0.0), "worse"),
            (scores(0.0), scores(math.nan), "better"),
            (scores(math.nan), scores(math.nan), "unknown"),
            (scores(0.8, voxels=19), scores(0.9, voxels=19), "unknown"),
            (None, None, "unknown"),
        ],
    )
    def test_truth_table(self, before, after, word):
        assert judge(before, after).word == word

    @pytest.mark.parametrize(("before", "after"), [(scores(0.8), scores(0.9)), (None, None)])
    def test_what_is_forgotten_is_worse(self, before, after):
        verdict = judge(before, after, scores(0.9), scores(0.88))
        assert verdict.word == "worse"
        assert "one falls from 0.900 to 0.880" in verdict.sentence

    def test_only_what_is_not_worse_may_become_current(self):
        pairs = [(0.8, 0.9), (0.8, 0.8), (0.8, 0.7), (math.nan, math.nan)]
        allowed = [judge(scores(a), scores(b)).may_become_current for a, b in pairs]
        assert allowed == [True, True, False, False]


def volume(shape=(4, 32, 32), spacing=(2.0, 1.0, 1.0), seed=0, name="scan") -> Volume:
    array = np.random.default_rng(seed).normal(size=(1, *shape)).astype(np.float32)
    return Volume(array, Grid.from_spacing(shape, spacing), name=name)


def predictor(dims=2, tile=(1, 16, 16), **how) -> Predictor:
    torch.manual_seed(3)
    arguments = {"in_channels": 1, "num_classes": 3, "spatial_dims": dims, "feature_scale": 32}
    model = create_model("attention_unet", **arguments)
    return Predictor(model, Card("net", "attention_unet", arguments, CLASSES, Preparation(**how), tile), CPU)


def examine(network: Predictor, scan: Volume, labels, counts, **how) -> Scores:
    prepared = prepare(scan, network.card.preparation)
    reference = Reference.of(Example(scan, labels, counts), prepared, **how)
    steps = Exam(network.card, CPU, [reference]).score_steps(network.model, [reference])
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return stop.value


class TestScoring:
    @pytest.mark.parametrize(
        ("dims", "tile", "how"),
        [
            (2, (1, 16, 16), {}),
            (2, (1, 16, 16), {"spacing": (2.0, 0.7, 1.3)}),
            (3, (16, 16, 16), {}),
            (3, (16, 16, 16), {"spacing": (1.0, 0.7, 1.3), "orientation": "ASL"}),
        ],
    )
    def test_it_sees_the_labels_that_segmenting_gives(self, dims, tile, how):
        network, scan = predictor(dims, tile, **how), volume((20, 40, 36))
        counts = np.zeros(scan.grid.shape, bool)
        counts[3, 5:9, 20:30] = counts[11, 30:, :4] = counts[12, 1, 1] = True
        labels = segment(scan, network).labels
        assert examine(network, scan, labels, counts).agreement == 1

    def test_scores_are_those_of_the_counted_voxels(self):
        network, scan = predictor(), volume()
        guess = segment(scan, network).labels
        labels = np.roll(guess, 3, axis=2)
        counts = np.zeros(guess.shape, bool)
        counts[1] = True
        found = examine(network, scan, labels, counts)
        assert found.voxels == 32 * 32
        assert found.agreement == pytest.approx(np.mean(labels[1] == guess[1]))
        number = int(guess[1].max())
        mask, truth = guess[1] == number, labels[1] == number
        expected = 2 * np.sum(mask & truth) / (mask.sum() + truth.sum())
        assert number > 0
        assert found.dice[CLASSES[number]] == pytest.approx(expected)

    def test_surfaces_of_scattered_voxels_are_not_compared(self):
        network, scan = predictor(), volume()
        counts = np.zeros(scan.grid.shape, bool)
        counts[1, 4:20] = True
        assert math.isnan(examine(network, scan, np.ones(scan.grid.shape, np.uint8), counts).hd95["one"])

    def test_distances_are_in_millimetres(self):
        mask, truth = np.zeros((9, 9), bool), np.zeros((9, 9), bool)
        mask[4, 1], truth[4, 4] = True, True
        assert hd95(mask, truth, (1.0, 0.5)) == pytest.approx(1.5)

    def test_a_class_that_one_mask_lacks_is_as_far_as_the_slice_is_wide(self):
        mask = np.zeros((3, 4), bool)
        mask[0, 0] = True
        assert hd95(mask, np.zeros((3, 4), bool), (1.0, 1.0)) == 5
        assert math.isnan(hd95(np.zeros((3, 4), bool), np.zeros((3, 4), bool), (1.0, 1.0)))


class TestContradictions:
    def example(self, label: int, *rows: int, name="scan", seed=0) -> Example:
        scan = volume((1, 4, 4), name=name, seed=seed)
        weights = np.zeros(scan.grid.shape, bool)
        weights[0, list(rows)] = True
        return Example(scan, np.full(scan.grid.shape, label), weights)

    def test_the_newest_label_counts(self):
        (old, new), notes = agreeing([self.example(1, 0, 1), self.example(2, 1, 2)])
        assert np.flatnonzero(old.counts().any(2)[0]).tolist() == [0]
        assert np.flatnonzero(new.counts().any(2)[0]).tolist() == [1, 2]
        assert notes == ["4 voxels of scan carry two labels: the newer counts."]

    def test_equal_labels_do_not_contradict_each_other_and_count_once(self):
        (old, new), notes = agreeing([self.example(1, 0, 1), self.example(1, 1, 2)])
        assert (old.counts().sum(), new.counts().sum()) == (4, 8)
        assert not notes

    def test_of_three_labels_the_newest_counts(self):
        found, _ = agreeing([self.example(1, 0), self.example(2, 0), self.example(1, 0)])
        assert [int(e.counts().sum()) for e in found] == [0, 0, 4]

    def test_other_scans_do_not_contradict_each_other(self):
        _, notes = agreeing([self.example(1, 0), self.example(2, 0, seed=1)])
        assert not notes

    def test_what_is_learned_from_is_not_held_out(self):
        kept, notes = apart([self.example(1, 0, 1), self.example(1, 3, seed=1)], [self.example(2, 1)])
        assert [int(e.counts().sum()) for e in kept] == [4, 4]
        assert "4 held-out voxels of scan" in notes[0]


class TestFit:
    def card(self, **how) -> Card:
        arguments = {"in_channels": 1, "num_classes": 3, "spatial_dims": 2}
        return Card("net", "attention_unet", arguments, CLASSES, Preparation(**how), (1, 16, 16))

    def example(self, **facts) -> Example:
        scan = volume()
        return Example(scan, np.zeros(scan.grid.shape, np.uint8), **facts)

    def test_an_example_of_which_nothing_is_known_fits(self):
        check_fit(self.card(), [self.example()])

    def test_other_classes_are_asked_about(self):
        with pytest.raises(InputError, match=r"its classes are nothing, liver.*accept_mismatch"):
            check_fit(self.card(), [self.example(class_names=("nothing", "liver"))])

    def test_another_modality_is_asked_about(self):
        card = replace(self.card(), training={"modality": ["MR"]})
        check_fit(card, [self.example(modality="MR")])
        with pytest.raises(InputError, match="it is CT, the training was on MR"):
            check_fit(card, [self.example(modality="CT")])

    def test_an_image_outside_the_window_is_asked_about(self):
        with pytest.raises(InputError, match="lie between 300 and 900"):
            check_fit(self.card(intensity="window", window=(300.0, 900.0)), [self.example()])


class TestLadder:
    def test_batches_then_patches_then_the_cpu(self):
        room, told = Room(4, (1, 64, 48), torch.device("cuda:0")), []
        while True:
            rung = next_rung(room, (1, 32, 32))
            if rung is None:
                break
            room = rung[0]
            told.append((room.batch, room.patch, room.device.type))
        assert told == [
            (2, (1, 64, 48), "cuda"),
            (1, (1, 64, 48), "cuda"),
            (1, (1, 32, 32), "cuda"),
            (1, (1, 32, 32), "cpu"),
        ]

    def test_it_goes_on_with_less(self, monkeypatch):
        model = small("attention_unet")
        sizes, forward = [], type(model).forward

        def tight(self, x):
            sizes.append(len(x))
            if len(x) > 1:
                raise RuntimeError("CUDA out of memory")
            return forward(self, x)

        monkeypatch.setattr(type(model), "forward", tight)
        *_, outcome = run(model, lesson(model, batch=4))
        assert sizes == [4, 2, 1, 1, 1]
        assert outcome.steps == 3
        assert outcome.notes == [f"Memory ran out: going on with {n} patch(es) per step." for n in (2, 1)]

    def test_other_errors_are_not_hidden(self, monkeypatch):
        model = small("attention_unet")
        monkeypatch.setattr(type(model), "forward", lambda self, x: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(model, lesson(model))


class TestLastGood:
    def diverge(self, monkeypatch, at: int) -> None:
        from napari_medattn.training import loop

        losses = iter(range(1, 100))
        whole = loop.network_loss

        def loss(*args, **options):
            value = whole(*args, **options)
            return value * math.nan if next(losses) == at else value

        monkeypatch.setattr(loop, "network_loss", loss)

    def test_a_loss_that_is_no_number_leaves_the_weights_of_the_step_before(self, monkeypatch):
        torch.manual_seed(0)
        model = small("attention_unet")
        twin = copy.deepcopy(model)
        events = attempt_steps(twin, lesson(twin, steps=6))
        while next(events).step < 3:
            pass
        self.diverge(monkeypatch, at=4)
        *_, outcome = run(model, lesson(model, steps=6))
        assert outcome.steps == 3
        assert "loss became nan after 3 steps; the weights of step 3 were kept" in outcome.stopped
        for mine, other in zip(model.parameters(), twin.parameters(), strict=True):
            torch.testing.assert_close(mine, other, rtol=0, atol=0)

    def test_a_loss_that_never_was_a_number_is_an_error(self, monkeypatch):
        self.diverge(monkeypatch, at=1)
        model = small("attention_unet")
        with pytest.raises(DivergenceError, match="loss became nan"):
            run(model, lesson(model))

    def test_broken_weights_are_not_kept(self):
        model, x = torch.nn.Linear(2, 2), torch.randn(1, 2)
        guard = LastGood(model, every=0)
        for step in (1.0, 2.0, math.nan):
            with torch.no_grad():
                model.weight.fill_(step)
            guard.passed()
        assert guard.recover(x) == 2
        assert float(model.weight[0, 0].detach()) == 2


class TestRecipe:
    def test_a_networks_own_terms_are_kept(self):
        card = Card("net", "self_guided", {"spatial_dims": 2}, CLASSES, Preparation(), (1, 16, 16))
        assert tuning_recipe(own_recipe(card), 1e-4).terms == {"guidance": 0.25, "reconstruction": 0.1}

    def test_the_card_goes_before_the_paper(self):
        told = {"config": {"recipe": {"learning_rate": 0.5, "betas": [0.8, 0.9], "crf": {"weight": 1}}}}
        card = Card("net", "medt", {"spatial_dims": 2}, CLASSES, Preparation(), (1, 16, 16), training=told)
        assert own_recipe(card) == Recipe(learning_rate=0.5, betas=(0.8, 0.9))

    def test_a_variant_is_known_by_its_options(self):
        arguments = {"spatial_dims": 2, "image_size": 64, "patches": 2}
        card = Card("net", "medt", arguments, CLASSES, Preparation(), (1, 16, 16))
        assert own_recipe(card) == get_spec("medt").variants["small"].recipe


def test_learning_parameters_of_the_whole_network_are_all():
    assert learning_parameters("whole", small("attention_unet")) is None
