"""The log of a run: whole lines at every moment, and no step twice."""

from __future__ import annotations

import csv
import sys

import pytest

from napari_medattn.errors import TrainingError
from napari_medattn.events import Progress, TrainingStep, Validation
from napari_medattn.training.logs import BoardLog, CsvLog

NAMES = ("liver, right lobe", "spleen")


def step(number: int) -> TrainingStep:
    return TrainingStep(number, 0, 1 / number, Progress("training", number, 9))


def written(path, **options):
    log = CsvLog(path, NAMES, **options)
    for number in (1, 2, 3, 4):
        log.write(step(number))
    log.write(Validation(4, 1, {"liver, right lobe": 0.5, "spleen": 0.25}, True))
    return log


def rows(path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


class TestCsvLog:
    def test_lines_are_on_disk_before_the_log_is_closed(self, tmp_path):
        log = written(tmp_path / "log.csv")
        assert [row["step"] for row in rows(tmp_path / "log.csv")] == ["1", "2", "3", "4", "4"]
        log.close()

    def test_losses_are_written_to_the_last_bit(self, tmp_path):
        written(tmp_path / "log.csv").close()
        assert float(rows(tmp_path / "log.csv")[2]["loss"]) == 1 / 3

    def test_scores_stand_under_their_class(self, tmp_path):
        written(tmp_path / "log.csv").close()
        last = rows(tmp_path / "log.csv")[-1]
        assert (last["mean Dice"], last["Dice liver, right lobe"], last["Dice spleen"]) == ("0.375", "0.5", "0.25")

    def test_every_second_step(self, tmp_path):
        written(tmp_path / "log.csv", every=2).close()
        assert [row["step"] for row in rows(tmp_path / "log.csv") if row["loss"]] == ["2", "4"]

    def test_steps_that_are_taken_again_are_not_listed_twice(self, tmp_path):
        path = tmp_path / "log.csv"
        written(path).close()
        resumed = CsvLog(path, NAMES, after=2)
        resumed.write(step(3))
        resumed.close()
        assert [row["step"] for row in rows(path)] == ["1", "2", "3"]

    def test_a_line_that_was_cut_off_goes(self, tmp_path):
        path = tmp_path / "log.csv"
        written(path).close()
        path.write_text(path.read_text(encoding="utf-8") + "5,1,0.3", encoding="utf-8")
        CsvLog(path, NAMES, after=5).close()
        assert [row["step"] for row in rows(path)] == ["1", "2", "3", "4", "4"]


def test_tensorboard_that_is_not_there_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(TrainingError, match="TensorBoard is not installed"):
        BoardLog(tmp_path)
