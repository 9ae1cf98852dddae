"""The folder of a training run: what was planned, the state to go on from, and the log."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from napari_medattn.errors import TrainingError
from napari_medattn.files import atomic_write, make_folder
from napari_medattn.training.state import Keeper


@dataclass(frozen=True)
class RunFolder:
    """Where a training keeps what it needs to be gone on with.

    Attributes:
        path: The folder; created if it does not exist.
        resume: Go on with the run that lies there, rather than begin one.
        seconds: How often its state is saved, by the clock...
        steps: ... or by optimiser steps, where it is given.
        log_every: How many steps share one line of the log.
        tensorboard: Log for TensorBoard too.
    """

    path: Path
    resume: bool = False
    seconds: float = 60.0
    steps: int | None = None
    log_every: int = 1
    tensorboard: bool = False

    @property
    def state(self) -> Path:
        """The state that was saved last; there is none before the first and after the end."""
        return self.path / "state.safetensors"

    @property
    def log(self) -> Path:
        """Losses and scores as CSV."""
        return self.path / "log.csv"

    @property
    def plan(self) -> Path:
        """What was planned, on which data."""
        return self.path / "plan.json"

    def keeper(self) -> Keeper:
        """Saves the state and finds it again."""
        return Keeper(self.state, self.seconds, self.steps)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other trainings away.

        Raises:
            TrainingError: If one is at work there.
        """
        make_folder(self.path)
        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise TrainingError(
                f"Another training is at work in {self.path}.", "Wait for it, or give this one another name."
            ) from error
        try:
            yield
        finally:
            lock.release()

    def check(self, facts: Mapping[str, Any]) -> None:
        """See that what lies there is what is to be gone on with.

        Args:
            facts: Everything that a run follows from, as plain data.

        Raises:
            TrainingError: If it is of another plan or other data, or would be lost.
        """
        if not self.resume:
            if self.state.exists():
                raise TrainingError(
                    f"A training that was interrupted lies in {self.path}.",
                    "Go on with it (--resume), delete that folder, or give this one another name.",
                )
            return
        if not self.plan.exists():
            raise TrainingError(f"There is no training to go on with in {self.path}.", "Leave out --resume.")
        have = _flat(json.loads(self.plan.read_text(encoding="utf-8")))
        wanted = _flat(json.loads(json.dumps(facts)))
        differing = sorted(key for key in {*have, *wanted} if have.get(key) != wanted.get(key))
        if differing:
            what = ", ".join(_difference(key, have, wanted) for key in differing[:3])
            more = f" and {len(differing) - 3} more" if len(differing) > 3 else ""
            raise TrainingError(
                f"The training in {self.path} is another one: {what}{more}.",
                "Resume it with the options and data it was begun with, or give this one another name.",
            )

    def begin(self, facts: Mapping[str, Any]) -> None:
        """Note what is planned; leftovers of a run that came to nothing go."""
        if not self.resume:
            self.log.unlink(missing_ok=True)
        for leftover in self.path.glob(".saving-*"):  # of a process that was killed while it wrote
            leftover.unlink(missing_ok=True)
        with atomic_write(self.plan) as temporary:
            temporary.write_text(json.dumps(facts, indent=1, ensure_ascii=False), encoding="utf-8")

    def finish(self) -> None:
        """The checkpoint is saved: there is nothing to go on with any more. The log stays."""
        self.state.unlink(missing_ok=True)
        self.plan.unlink(missing_ok=True)


def file_hash(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flat(data: Any, prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one, with dotted keys."""
    if not isinstance(data, Mapping):
        return {prefix: data}
    found: dict[str, Any] = {}
    for key, value in data.items():
        found |= _flat(value, f"{prefix}.{key}" if prefix else str(key))
    return found


def _difference(key: str, have: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    name = key.rsplit(".", 1)[-1] if not key.startswith("data.") else key.removeprefix("data.")
    if key.startswith("data."):
        return f"the file {name} " + ("differs" if key in have and key in wanted else "is new or gone")
    old, new = (str(part.get(key)) for part in (have, wanted))
    return f"{name} was {old} and is {new}" if len(old) + len(new) < 60 else f"{name} differs"
