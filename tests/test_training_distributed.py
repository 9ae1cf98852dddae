"""Two processes that share every batch learn what one process with the whole batch learns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from napari_medattn.errors import InputError, TrainingError
from napari_medattn.events import run_to_end
from napari_medattn.models import Recipe
from napari_medattn.store import load_checkpoint
from napari_medattn.training.distributed import launch
from napari_medattn.training.folder import DataFolder
from napari_medattn.training.loop import TrainingConfig
from napari_medattn.training.runs import RunFolder
from napari_medattn.training.train import train_on_folder
from tests.training_tools import make_folder, make_plan

# Batch norm sees each process's own patches on the CPU: frozen statistics take it out of the comparison.
CONFIG = {"recipe": Recipe(learning_rate=1e-2), "freeze_statistics": True}
NAMES = [f"case_{number:02}" for number in range(8)]

TOGETHER = """
import sys, torch
from pathlib import Path
from napari_medattn.events import run_to_end
from napari_medattn.training.distributed import launch
from napari_medattn.training.folder import DataFolder
from napari_medattn.training.runs import RunFolder
from napari_medattn.training.train import train_on_folder
from tests.test_training_distributed import CONFIG
from tests.training_tools import make_plan
torch.set_num_threads(1)
workers = launch(2, device="cpu")
run = RunFolder(Path(sys.argv[2]), steps=4)
run_to_end(train_on_folder(DataFolder.open(sys.argv[1]), make_plan(**CONFIG), run=run, workers=workers))
"""


def losses(log: Path) -> list[float]:
    lines = log.read_text(encoding="utf-8").splitlines()[1:]
    return [float(line.split(",")[3]) for line in lines if line.split(",")[3]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder in which two processes trained; its home has their checkpoint."""
    root = tmp_path_factory.mktemp("together")
    make_folder(root / "data", NAMES)
    (root / "together.py").write_text(TOGETHER, encoding="utf-8")
    repository = str(Path(__file__).parents[1])
    found = subprocess.run(
        [sys.executable, str(root / "together.py"), str(root / "data"), str(root / "run")],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": repository, "MEDATTN_HOME": str(root / "home")},
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert found.returncode == 0, found.stderr
    return root


@pytest.fixture(scope="module")
def alone(trained):
    """The same training in one process: its losses and its checkpoint."""
    run = RunFolder(trained / "alone")
    folder = DataFolder.open(trained / "data")
    checkpoint = run_to_end(train_on_folder(folder, make_plan(**CONFIG), device="cpu", out=trained, run=run))
    return losses(run.log), checkpoint


class TestTwoProcesses:
    def test_the_loss_curve_is_that_of_one_process(self, trained, alone):
        assert losses(trained / "run" / "log.csv") == pytest.approx(alone[0], abs=1e-5)

    def test_so_are_the_weights(self, trained, alone):
        together = load_checkpoint(trained / "home" / "checkpoints" / "mine.safetensors")
        torch.testing.assert_close(together.state(), alone[1].state(), rtol=1e-4, atol=1e-5)

    def test_the_first_process_alone_logs(self, trained, alone):
        assert len(losses(trained / "run" / "log.csv")) == len(alone[0])

    def test_the_card_says_how_many_there_were(self, trained):
        card = json.loads((trained / "home" / "checkpoints" / "mine.json").read_text(encoding="utf-8"))
        assert card["training"]["processes"] == 2


class TestRefusals:
    @pytest.mark.parametrize(
        ("arguments", "sentence"),
        [
            ({"devices": 2, "strategy": "magic"}, "no strategy 'magic'"),
            ({"devices": 0}, "0 devices on 1 nodes"),
            ({"devices": 2, "device": "mps"}, "cannot train on 'mps'"),
            ({"devices": 9999, "device": "cuda"}, "GPUs here, not 9999"),
        ],
    )
    def test_what_cannot_be_started_is_refused(self, arguments, sentence):
        with pytest.raises(InputError, match=sentence):
            launch(**arguments)

    def test_a_batch_that_cannot_be_shared_is_refused(self):
        with pytest.raises(TrainingError, match="3 processes cannot share batches of 2"):
            make_plan().check(["a"], ("background", "square"), processes=3)

    def test_processes_do_not_share_a_clock(self):
        plan = replace(make_plan(), config=TrainingConfig(seconds=5))
        with pytest.raises(TrainingError, match="budget in epochs"):
            plan.check(["a"], ("background", "square"), processes=2)


def test_one_process_does_not_load_lightning():
    code = (
        "import sys, napari_medattn.training.train, napari_medattn.cli.train; print('lightning_fabric' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "False"
