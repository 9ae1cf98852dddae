"""Where a training is between 0 and 1, by steps or by time."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from napari_medattn.events import Progress


class Clock:
    """Counts the steps of a run and tells how much of its budget is used.

    Args:
        epochs: Passes over the cases, if that is the budget.
        seconds: Time budget, otherwise.
        steps_per_epoch: Steps of a pass.
    """

    def __init__(self, epochs: int | None, seconds: float | None, steps_per_epoch: int) -> None:
        self.step, self.steps_per_epoch = 0, steps_per_epoch
        self._allowed = seconds
        self._total = epochs * steps_per_epoch if epochs is not None else 0
        self._began = time.monotonic()
        self._validated = 0

    @property
    def seconds(self) -> float:
        """Time since the run began, without interruptions."""
        return time.monotonic() - self._began

    @property
    def epoch(self) -> int:
        """Passes that are complete."""
        return self.step // self.steps_per_epoch

    @property
    def epochs(self) -> float:
        """Passes, in fractions."""
        return self.step / self.steps_per_epoch

    @property
    def progress(self) -> float:
        """Used share of the budget."""
        if self._allowed is not None:
            return self.seconds / self._allowed if self._allowed else 1.0
        return self.step / self._total if self._total else 1.0

    def tick(self) -> None:
        """One more step is done."""
        self.step += 1

    def event(self) -> Progress:
        """For whoever watches."""
        if self._allowed is None:
            return Progress("training", self.step, self._total, "steps", self.seconds)
        return Progress("training", min(int(self.seconds), int(self._allowed)), int(self._allowed), "s")

    def validation_due(self, count: int) -> bool:
        """Whether one of so many validations, spread over the run, is due; says so once."""
        due = int(min(self.progress, 1.0) * count)
        due, self._validated = due > self._validated, max(due, self._validated)
        return bool(due)

    def facts(self) -> dict[str, Any]:
        """As plain data."""
        return {"step": self.step, "seconds": self.seconds, "validated": self._validated}

    def restore(self, facts: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.step, self._validated = facts["step"], facts["validated"]
        self._began = time.monotonic() - facts["seconds"]
