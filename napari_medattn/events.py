"""What long work tells whoever watches: small frozen events, yielded between steps."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, TypeVar

Result = TypeVar("Result")


@dataclass(frozen=True)
class Progress:
    """So far ``done`` of ``total`` steps of a stage.

    Attributes:
        stage: What is being done, in words for people, e.g. ``"segmenting"``.
        done: Finished steps.
        total: All steps; 0 if unknown.
        unit: What a step is, in the plural, e.g. ``"tiles"``.
        seconds: Time since the stage began.
    """

    stage: str
    done: int
    total: int
    unit: str = "steps"
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        """Steps per second; 0 before the first."""
        return self.done / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Estimated time to the end, or None where that cannot be said."""
        return (self.total - self.done) / self.rate if self.rate > 0 and self.total else None

    def __str__(self) -> str:
        text = f"{self.stage}: {self.done}/{self.total} {self.unit}"
        if self.rate:
            text += f", {self.rate:.3g}/s"
        left = self.seconds_left
        return text if left is None else f"{text}, {for_people(left)} left"


@dataclass(frozen=True)
class TrainingStep:
    """One optimiser step: its loss, and where the run is."""

    step: int
    epoch: int
    loss: float
    progress: Progress


@dataclass(frozen=True)
class Validation:
    """Scores on held-out cases.

    Attributes:
        step: Optimiser steps so far.
        epoch: Passes over the training cases so far.
        dice: Mean Dice of each foreground class, by name.
        best: Whether this is the best mean so far.
    """

    step: int
    epoch: int
    dice: dict[str, float] = field(default_factory=dict)
    best: bool = False

    @property
    def mean_dice(self) -> float:
        """Mean over the foreground classes."""
        return sum(self.dice.values()) / len(self.dice)


def run_to_end(steps: Generator[Any, None, Result]) -> Result:
    """What a generator returns, its events left aside."""
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]


def for_people(seconds: float) -> str:
    """A duration rounded the way people say it."""
    if seconds < 10:
        return f"{seconds:.0f} s" if seconds >= 1 else "1 s"
    if seconds < 90:
        return f"{round(seconds / 5) * 5} s"
    if seconds < 5400:
        return f"{round(seconds / 60)} min"
    return f"{seconds / 3600:.1f} h"
