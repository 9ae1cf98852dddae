"""The benchmark of correcting: what it counts, and that its cases are kept apart."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from napari_medattn.bench import correct
from napari_medattn.bench.correct_figure import draw
from napari_medattn.bench.starting import Split, starting_network
from napari_medattn.bench.walk import (
    Start,
    Tally,
    Walk,
    best_order,
    coarse_order,
    in_order,
    queue_order,
    random_order,
    slice_order,
    walk,
)
from napari_medattn.cli.bench import bench
from napari_medattn.correct.queue import Evidence
from napari_medattn.data.phantom import write_phantom_set
from napari_medattn.errors import InputError
from napari_medattn.events import run_to_end
from napari_medattn.training.folder import DataFolder
from napari_medattn.training.metrics import dice_of
from napari_medattn.training.patients import patient_of
from tests.correct_tools import ball

SHAPE = (8, 40, 40)
TRUTH = (ball(SHAPE, (3, 20, 14), 9) + 2 * ball(SHAPE, (4, 20, 30), 6)).astype(np.uint8)


def start(missing=(2, 5)):
    """A mask in which the classes are missing in some slices, and the network is in doubt there."""
    labels = TRUTH.copy()
    labels[list(missing)] = 0
    doubt = np.zeros(SHAPE, np.float32)
    doubt[list(missing)] = TRUTH[list(missing)] > 0
    likely = np.stack([labels == n for n in range(3)]).astype(np.float32)
    return Start("drawn", TRUTH.astype(float), TRUTH, labels, likely, Evidence(doubt), (3.0, 1.0, 1.0))


class TestTally:
    def test_it_is_the_mean_dice(self):
        labels = start().labels
        expected = np.mean([dice_of(labels == n, n == TRUTH) for n in (1, 2)])
        assert Tally(labels, TRUTH, 3).dice == pytest.approx(expected)

    def test_it_follows_a_slice(self):
        labels = start().labels
        tally = Tally(labels, TRUTH, 3)
        for index in (2, 5):
            tally.put(index, TRUTH[index])
        assert tally.dice == 1

    def test_a_class_that_is_nowhere_is_right(self):
        assert Tally(TRUTH, TRUTH, 5).dice == 1


class TestWalk:
    STEPS = Walk(np.array([0, 1, 2, 2, 5]), np.array([0, 1, 1, 2, 3]), np.array([0.5, 0.6, 0.7, 0.7, 0.9]))

    def test_when_a_level_is_reached(self):
        assert self.STEPS.until(0.65) == (2, 1)
        assert self.STEPS.until(0.5) == (0, 0)
        assert self.STEPS.until(0.95) is None

    def test_dice_by_slice_and_its_area(self):
        assert self.STEPS.by_slice().tolist() == [0.5, 0.7, 0.7, 0.9]
        assert self.STEPS.area == pytest.approx((0.6 + 0.7 + 0.8) / 3)

    @pytest.mark.parametrize("tools", [frozenset(), frozenset({"grow"}), frozenset({"between"})])
    def test_correcting_ends_nearly_right(self, tools):
        one = walk(start(), slice_order(start()), tools)
        assert one.looked[-1] == SHAPE[0]
        assert one.dice[-1] > 0.95
        assert (np.diff(one.strokes) >= 0).all()

    def test_a_start_is_not_changed(self):
        one = start()
        before = one.labels.copy()
        walk(one, slice_order(one))
        assert np.array_equal(one.labels, before)

    def test_slices_that_are_right_cost_no_stroke(self):
        one = walk(start(missing=()), slice_order(start()))
        assert one.strokes[-1] == 0
        assert one.area == 1


class TestOrders:
    def run(self, choose):
        looked = []
        for _ in range(SHAPE[0]):
            looked.append(choose(start().labels, looked))
        return looked

    @pytest.mark.parametrize(
        "order", [slice_order, coarse_order, queue_order, best_order, lambda one: random_order(one, 3)]
    )
    def test_each_slice_comes_once(self, order):
        assert sorted(self.run(order(start()))) == list(range(SHAPE[0]))

    def test_the_queue_goes_where_it_is_wrong(self):
        assert set(self.run(queue_order(start()))[:2]) == {2, 5}

    def test_so_does_the_best_order(self):
        assert set(self.run(best_order(start()))[:2]) == {2, 5}

    def test_slices_beyond_the_object_come_last(self):
        one = start(missing=(0, 1, 4, 7))
        assert one.beyond == [1, 7, 0]
        for order in (slice_order(one), random_order(one, 0)):
            assert self.run(order)[-3:] == one.beyond

    def test_slice_order_skips_no_slice_in_between(self):
        one = start(missing=(2, 5))
        assert self.run(slice_order(one))[: len(one.within)] == one.within
        assert {2, 5} <= set(one.within)

    def test_the_queue_beats_the_others_here(self):
        areas = {
            name: walk(start(), order).area
            for name, order in {
                "queue": queue_order(start()),
                "slice": slice_order(start()),
                "wrong last": in_order([0, 1, 3, 4, 6, 7, 2, 5]),
            }.items()
        }
        assert areas["queue"] > areas["slice"] > areas["wrong last"]


class TestSplit:
    def folder(self, tmp_path, names):
        (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"0": "background", "1": "organ"}}))
        for part in ("images", "labels"):
            (tmp_path / part).mkdir()
            for name in names:
                (tmp_path / part / f"{name}.nii.gz").touch()
        return DataFolder.open(tmp_path)

    def test_frames_of_a_patient_stay_together(self, tmp_path):
        names = [f"patient{p:03}_frame{f:02}" for p in range(9) for f in (1, 12)]
        split = Split.of(self.folder(tmp_path, names))
        parts = [{patient_of(case) for case in part} for part in (split.training, split.tuning, split.reported)]
        assert [len(part) for part in parts] == [5, 2, 2]
        assert len(set.union(*parts)) == 9

    def test_every_case_is_in_one_part(self, tmp_path):
        names = [f"scan_{n}" for n in range(8)]
        split = Split.of(self.folder(tmp_path, names))
        assert sorted(split.training + split.tuning + split.reported) == names

    def test_a_network_is_trained_once(self, tmp_path):
        write_phantom_set(tmp_path / "set", 4, (4, 32, 32), (2.0, 1.5, 1.5))
        folder = DataFolder.open(tmp_path / "set")
        first, second = (run_to_end(starting_network(folder, tuple(folder.cases)[:2], tmp_path, 1)) for _ in range(2))
        assert first.path.parent == tmp_path
        assert first.card.weights_sha256 == second.card.weights_sha256
        assert first.card.created == second.card.created

    def test_other_cases_are_another_network(self, tmp_path):
        write_phantom_set(tmp_path / "set", 4, (4, 32, 32), (2.0, 1.5, 1.5))
        folder = DataFolder.open(tmp_path / "set")
        names = {
            run_to_end(starting_network(folder, cases, tmp_path, 1)).name
            for cases in (tuple(folder.cases)[:2], tuple(folder.cases)[1:3])
        }
        assert len(names) == 2


class TestCommand:
    def test_a_figure_is_drawn(self, tmp_path):
        found = {order: [[walk(start(), slice_order(start()))]] for order in ("queue", "slice order", "random", "best")}
        draw(found, tmp_path / "figure.png")
        assert (tmp_path / "figure.png").read_bytes()[:4] == b"\x89PNG"

    def test_rows_say_whether_the_queue_is_faster(self, monkeypatch):
        def starts(count):
            yield from ()
            return [start(), replace(start(missing=(1, 6)), name="other")]

        monkeypatch.setattr(correct, "_phantoms", starts)
        rows = {row.name: row for row in run_to_end(correct.measure(quick=True))}
        for other in ("slice order", "random"):
            row = rows[f"Dice over slices, queue - {other}"]
            assert row.target == 0
            assert row.value > 0
        assert rows["way of the queue from random to best"].value == pytest.approx(1, abs=0.05)
        assert rows["brush, queue: slices to Dice 0.95"].value <= rows["brush, random: slices to Dice 0.95"].value

    def test_data_without_a_scratch_folder_is_refused(self, tmp_path):
        with pytest.raises(InputError, match="kept somewhere"):
            run_to_end(correct.measure(data=tmp_path))

    def test_an_option_of_another_benchmark_is_refused(self):
        with pytest.raises(InputError, match="correct is measured without --compile"):
            bench("correct", compiled=True)
