"""A training that was interrupted and goes on is the one that never stopped, whatever moment it was killed at."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from napari_medattn.errors import TrainingError
from napari_medattn.events import TrainingStep, Validation, run_to_end
from napari_medattn.store import load_checkpoint
from napari_medattn.training.folder import DataFolder
from napari_medattn.training.loop import TrainingConfig, train_steps
from napari_medattn.training.runs import RunFolder
from napari_medattn.training.state import Keeper, TrainingState
from napari_medattn.training.train import train_on_folder
from tests.training_tools import CPU, RECIPES, make_folder, make_plan, make_sampler, tiny_network


@pytest.fixture
def data(tmp_path) -> Path:
    return make_folder(tmp_path / "data")


@pytest.fixture
def run(tmp_path) -> RunFolder:
    return RunFolder(tmp_path / "run", steps=2)


class Losses:
    """A training of a tiny network, in as many parts as is wanted."""

    def __init__(self, recipe: str, path: Path, every: int = 1) -> None:
        self.config = TrainingConfig(epochs=6, batch_size=2, recipe=RECIPES[recipe], validations=6)
        self.path, self.every = path, every
        self.events: list[object] = []
        self.network = tiny_network()

    def go(self, until: int | None = None) -> Losses:
        self.network = tiny_network()
        scores = {step: 0.1 * (step % 5) for step in range(40)}
        sampler = make_sampler()
        steps = train_steps(
            self.network,
            sampler,
            self.config,
            CPU,
            lambda _: {"thing": scores[sampler.drawn // 2]},
            keeper=Keeper(self.path, steps=self.every),
        )
        for event in steps:
            self.events = [old for old in self.events if old.step < event.step or isinstance(event, Validation)]
            self.events.append(event)
            if event.step == until:
                steps.close()
        return self

    @property
    def told(self) -> list[tuple[object, ...]]:
        return [
            (event.step, event.loss) if isinstance(event, TrainingStep) else (event.step, event.dice, event.best)
            for event in self.events
        ]


@pytest.mark.parametrize("recipe", RECIPES)
class TestGoingOn:
    @pytest.mark.parametrize(("until", "every"), [(1, 1), (5, 1), (7, 3), (11, 2)])
    def test_losses_and_scores_are_the_same_to_the_last_bit(self, recipe, until, every, tmp_path):
        whole = Losses(recipe, tmp_path / "whole.safetensors", every=1000).go()
        parts = Losses(recipe, tmp_path / "parts.safetensors", every).go(until).go()
        assert parts.told == whole.told

    def test_weights_are_the_same_to_the_last_bit(self, recipe, tmp_path):
        whole = Losses(recipe, tmp_path / "whole.safetensors", every=1000).go()
        parts = Losses(recipe, tmp_path / "parts.safetensors").go(4).go(9).go()
        torch.testing.assert_close(parts.network.state_dict(), whole.network.state_dict(), rtol=0, atol=0)


class TestState:
    def test_a_damaged_file_is_named(self, tmp_path):
        (tmp_path / "state.safetensors").write_bytes(b"half a fi")
        with pytest.raises(TrainingError, match=r"state\.safetensors is damaged"):
            TrainingState.load(tmp_path / "state.safetensors")

    def test_a_state_does_not_change_when_training_goes_on(self):
        network = tiny_network()
        optimiser = torch.optim.AdamW(network.parameters())
        state = TrainingState.of(network, optimiser, CPU, {"step": 1})
        before = state.tensors["model/0.weight"].clone()
        torch.nn.init.zeros_(network[0].weight)
        assert torch.equal(state.tensors["model/0.weight"], before)

    def test_no_time_has_passed_no_state_is_saved(self, tmp_path):
        Keeper(tmp_path / "state", seconds=60).offer(1, lambda: pytest.fail("saved"))


KILLED = """
import os, signal, sys
from pathlib import Path
from safetensors import torch as files
import napari_medattn.training.state as state
from napari_medattn.events import run_to_end
from napari_medattn.training.folder import DataFolder
from napari_medattn.training.runs import RunFolder
from napari_medattn.training.train import train_on_folder
from tests.training_tools import make_plan
import torch
torch.set_num_threads(1)
saves = 0

def dies_while_saving(tensors, path, metadata):
    global saves
    saves += 1
    whole = files.save(tensors, metadata)
    Path(path).write_bytes(whole[: len(whole) // 2] if saves == 3 else whole)
    if saves == 3:
        os.kill(os.getpid(), signal.SIGKILL)

state.save_file = dies_while_saving
folder = DataFolder.open(sys.argv[1])
run_to_end(train_on_folder(folder, make_plan(), device="cpu", run=RunFolder(Path(sys.argv[2]), steps=2)))
"""


class TestRunFolder:
    def test_killed_while_saving_and_resumed_it_is_as_if_nothing_had_been(self, data, run, tmp_path, own_home):
        folder, plan = DataFolder.open(data), make_plan()
        killed = subprocess.run(
            [sys.executable, "-c", KILLED, str(data), str(run.path)],
            cwd=Path(__file__).parents[1],
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        resumed = run_to_end(train_on_folder(folder, plan, device="cpu", run=replace(run, resume=True)))
        other = RunFolder(tmp_path / "whole", steps=1000)
        whole = run_to_end(train_on_folder(folder, replace(plan, name="whole"), device="cpu", run=other))
        assert resumed.card.weights_sha256 == whole.card.weights_sha256
        assert losses(run) == losses(other)

    def test_the_first_save_may_not_have_come_yet(self, data, run):
        folder = DataFolder.open(data)
        leave(train_on_folder(folder, make_plan(), device="cpu", run=run), after=1)
        run_to_end(train_on_folder(folder, make_plan(), device="cpu", run=replace(run, resume=True)))
        assert [int(row["step"]) for row in rows(run) if row["loss"]] == list(range(1, 9))

    def test_a_finished_run_leaves_the_checkpoint_and_the_log(self, data, run):
        run_to_end(train_on_folder(DataFolder.open(data), make_plan(epochs=1), device="cpu", run=run))
        assert load_checkpoint("mine").card.trained
        assert sorted(path.name for path in run.path.iterdir() if path.name != ".lock") == ["log.csv"]

    def test_another_plan_is_refused_with_what_differs(self, data, run):
        leave(train_on_folder(DataFolder.open(data), make_plan(), device="cpu", run=run), after=3)
        with pytest.raises(TrainingError, match="seed was 0 and is 1"):
            go_on(DataFolder.open(data), make_plan(seed=1), run)

    def test_other_data_is_refused_with_the_file(self, data, run):
        leave(train_on_folder(DataFolder.open(data), make_plan(), device="cpu", run=run), after=3)
        image = data / "images" / "a_frame01.nii.gz"
        image.write_bytes((data / "images" / "a_frame09.nii.gz").read_bytes())
        with pytest.raises(TrainingError, match=r"the file images/a_frame01\.nii\.gz differs"):
            go_on(DataFolder.open(data), make_plan(), run)

    def test_an_interrupted_run_is_not_overwritten(self, data, run):
        leave(train_on_folder(DataFolder.open(data), make_plan(), device="cpu", run=run), after=3)
        with pytest.raises(TrainingError, match="was interrupted lies in"):
            run_to_end(train_on_folder(DataFolder.open(data), make_plan(), device="cpu", run=run))

    def test_nothing_to_go_on_with_is_said(self, data, run):
        with pytest.raises(TrainingError, match="no training to go on with"):
            go_on(DataFolder.open(data), make_plan(), run)

    def test_two_trainings_do_not_share_a_folder(self, data, run):
        with run.locked(), pytest.raises(TrainingError, match="Another training is at work"):
            run_to_end(train_on_folder(DataFolder.open(data), make_plan(), device="cpu", run=run))


def leave(steps, after: int) -> None:
    while not (isinstance(event := next(steps), TrainingStep) and event.step == after):
        pass
    steps.close()


def go_on(folder: DataFolder, plan, run: RunFolder) -> None:
    run_to_end(train_on_folder(folder, plan, device="cpu", run=replace(run, resume=True)))


def rows(run: RunFolder) -> list[dict[str, str]]:
    with run.log.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def losses(run: RunFolder) -> list[list[str]]:
    """The log without the clock."""
    return [[value for key, value in row.items() if key != "seconds"] for row in rows(run)]
