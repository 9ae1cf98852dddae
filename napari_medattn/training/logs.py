"""What a training run leaves to read: losses and scores as CSV, and for TensorBoard where that is installed."""

from __future__ import annotations

import csv
import io
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from napari_medattn.errors import TrainingError
from napari_medattn.events import TrainingStep, Validation
from napari_medattn.files import atomic_write, trouble


class Log(Protocol):
    """Takes note of a run."""

    def write(self, event: TrainingStep | Validation) -> None:
        """Note a step or a validation."""

    def close(self) -> None:
        """Nothing more will come."""


class CsvLog:
    """One line for every so many steps, and one per validation, each on disk as soon as it is written.

    Columns: step, epoch, seconds, loss (of that step), mean Dice, and the Dice of each class.

    Args:
        path: The file.
        class_names: Names of the foreground classes.
        every: Steps per line.
        after: The step that a resumed run goes on from: later lines are dropped, as those steps are taken again.
    """

    def __init__(self, path: Path, class_names: Sequence[str], every: int = 1, after: int = 0) -> None:
        self.path, self.names, self.every = path, list(class_names), every
        header = ["step", "epoch", "seconds", "loss", "mean Dice", *(f"Dice {name}" for name in self.names)]
        kept = _complete_lines(path, after) if after else []
        spent = float(kept[-1][2]) if kept else 0.0
        with atomic_write(path) as temporary:
            temporary.write_text("".join(_line(row) for row in [header, *kept]), encoding="utf-8")
        self._began = time.monotonic() - spent
        try:
            self._file = path.open("a", encoding="utf-8")
        except OSError as error:
            raise trouble(path, error) from error

    def write(self, event: TrainingStep | Validation) -> None:
        """Append a line.

        Raises:
            SaveError: If the disk is full, for example.
        """
        seconds = f"{time.monotonic() - self._began:.2f}"
        if isinstance(event, Validation):
            scores = [event.mean_dice, *(event.dice.get(name, "") for name in self.names)]
            row = [event.step, event.epoch, seconds, "", *scores]
        elif event.step % self.every == 0:
            row = [event.step, event.epoch, seconds, repr(event.loss), *[""] * (1 + len(self.names))]
        else:
            return
        try:
            self._file.write(_line(row))
            self._file.flush()
        except OSError as error:
            raise trouble(self.path, error) from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()


class BoardLog:
    """Losses and scores for TensorBoard.

    Args:
        folder: Where its files go.
        after: The step that a resumed run goes on from.

    Raises:
        TrainingError: If TensorBoard is not installed.
    """

    def __init__(self, folder: Path, after: int = 0) -> None:
        check_tensorboard()
        from torch.utils.tensorboard import SummaryWriter

        self._writer: Any = SummaryWriter(str(folder), purge_step=after + 1 if after else None)

    def write(self, event: TrainingStep | Validation) -> None:
        """Add a point to the curves."""
        if isinstance(event, Validation):
            for name, dice in event.dice.items():
                self._writer.add_scalar(f"Dice/{name}", dice, event.step)
            self._writer.add_scalar("Dice/mean", event.mean_dice, event.step)
        else:
            self._writer.add_scalar("loss", event.loss, event.step)

    def close(self) -> None:
        """Write what is still in memory."""
        self._writer.close()


def check_tensorboard() -> None:
    """See that TensorBoard is there.

    Raises:
        TrainingError: If it is not installed.
    """
    if find_spec("tensorboard") is None:
        raise TrainingError(
            "TensorBoard is not installed.",
            "Run `pip install tensorboard`, or read the CSV log, which is always there.",
        )


def _line(row: Sequence[object]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(row)
    return text.getvalue()


def _complete_lines(path: Path, last: int) -> list[list[str]]:
    """Lines up to a step; the last one may have been cut off by a crash."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    return [row for row in list(csv.reader(io.StringIO(whole)))[1:] if int(row[0]) <= last]
