"""`TrainingRecord`: the part of a card's ``training`` that programs read, beside what was noted there freely."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from napari_medattn.store.card import Card

Scores = Mapping[str, Mapping[str, float | None]]


@dataclass(frozen=True)
class TrainingRecord:
    """How a checkpoint came from its parent.

    Attributes:
        method: What was trained and how, e.g. ``"whole"``; the name by which it can be asked for again.
        seconds: How long it took.
        examples: Names (hashes) of the stored examples that it was trained on.
        held_out: Names of the stored examples that it was scored on and not trained on.
        before: The parent's scores on ``held_out``: measure (``"dice"``, ``"hd95"``) to class name to value; None
            where a class is in neither mask.
        after: The new version's scores, alike.
    """

    method: str
    seconds: float = 0.0
    examples: tuple[str, ...] = ()
    held_out: tuple[str, ...] = ()
    before: Scores = field(default_factory=dict)
    after: Scores = field(default_factory=dict)

    def to_plain(self) -> dict[str, Any]:
        """As plain data for ``Card.training``, to be merged with whatever else is noted there."""
        return {
            "method": self.method,
            "seconds": round(float(self.seconds), 2),
            "examples": list(self.examples),
            "held_out": list(self.held_out),
            "before": _plain_scores(self.before),
            "after": _plain_scores(self.after),
        }

    @classmethod
    def of(cls, card: Card) -> TrainingRecord | None:
        """What a card tells; None if it tells of no method, as cards of trainings from scratch do."""
        told = card.training
        if not isinstance(told.get("method"), str):
            return None
        return cls(
            told["method"],
            float(told.get("seconds", 0.0)),
            tuple(str(name) for name in told.get("examples", ())),
            tuple(str(name) for name in told.get("held_out", ())),
            told.get("before", {}),
            told.get("after", {}),
        )


def _plain_scores(scores: Scores) -> dict[str, dict[str, float | None]]:
    """Scores with None for what is no number, which JSON does not have."""
    return {measure: {name: _plain(value) for name, value in by_class.items()} for measure, by_class in scores.items()}


def _plain(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(float(value), 4)
