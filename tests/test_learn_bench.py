"""The benchmark of learning: what it counts, and that nothing is scored that was corrected."""

from __future__ import annotations

import os

import numpy as np
import pytest

from napari_medattn.bench.correct import start_of
from napari_medattn.bench.learn import _own_checkpoints
from napari_medattn.bench.learn_adapt import Task, adapt_steps, chosen_slices
from napari_medattn.bench.learn_loop import Rhythm, loop_steps, without_learning
from napari_medattn.data import Example
from napari_medattn.data.phantom import phantom
from napari_medattn.events import run_to_end
from napari_medattn.inference import Predictor
from napari_medattn.store import load_checkpoint

SHAPE = (8, 64, 64)


@pytest.fixture(scope="module")
def network():
    return load_checkpoint("phantom-2d")


def scan(seed: int) -> Example:
    return Example(*phantom(seed, SHAPE))


class TestChosenSlices:
    def test_they_hold_something_and_are_spread(self):
        truth = np.zeros((12, 4, 4), int)
        truth[2:11, 1, 1] = 1
        assert chosen_slices(truth, 3).tolist() == [4, 6, 8]

    def test_a_thin_object_has_fewer(self):
        truth = np.zeros((12, 4, 4), int)
        truth[5:7, 1, 1] = 1
        assert chosen_slices(truth, 5).tolist() == [5, 6]


def test_adapting_compares_networks_on_slices_that_nobody_corrected(network):
    old = Example(*phantom(3, (1, 96, 96)))
    found = run_to_end(adapt_steps(Task("scan", scan(1), network, [old], [old], seconds=0.5)))
    assert found.old_before > 0.9
    assert found.old_after > 0.9
    assert found.fresh < found.before  # half a second from random weights is nothing


class TestLoop:
    def start(self, network, seed=4):
        truth = scan(seed)
        start = run_to_end(start_of("scan", truth, Predictor.load(network, "cpu")))
        start.labels[2:6] = 0  # much to correct
        return start, truth

    def test_it_ends_at_the_level_or_with_the_last_slice(self, network):
        start, truth = self.start(network)
        rhythm = Rhythm(rounds=1, slices=2, seconds=0.3, level=0.97)
        found = run_to_end(loop_steps(start, truth, network, rhythm))
        assert found.dice[-1] >= rhythm.level or found.looked[-1] == len(start.labels)

    def test_without_rounds_it_is_correcting_alone(self, network):
        start, truth = self.start(network)
        rhythm = Rhythm(rounds=0, level=0.97)
        alone, found = without_learning(start), run_to_end(loop_steps(start, truth, network, rhythm))
        assert found.until(0.97) == alone.until(0.97)


def test_versions_made_for_a_measurement_go_away(monkeypatch):
    monkeypatch.setenv("MEDATTN_HOME", "mine")
    with _own_checkpoints():
        inside = os.environ["MEDATTN_HOME"]
        assert os.path.isdir(inside)  # noqa: PTH112
    assert os.environ["MEDATTN_HOME"] == "mine"
    assert not os.path.exists(inside)  # noqa: PTH110
