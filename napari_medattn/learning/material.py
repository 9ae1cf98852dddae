"""What there is to learn from and to be scored on, checked and prepared once."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_medattn.data import Example, Prepared, prepare
from napari_medattn.errors import TrainingError
from napari_medattn.events import Progress
from napari_medattn.inference import Predictor
from napari_medattn.learning.agreeing import agreeing, apart, without
from napari_medattn.learning.fitting import check_fit
from napari_medattn.learning.plan import LearnPlan
from napari_medattn.learning.scoring import Reference
from napari_medattn.store import Card
from napari_medattn.training.examples import TrainingCase, case_of, check_labels

PREPARING_SHARE, SCORING_SHARE = 0.1, 0.05  # of the time may go into preparing and scoring earlier examples, each time


@dataclass(frozen=True, eq=False)
class Prepped:
    """An example with its image prepared."""

    example: Example
    prepared: Prepared

    def case(self, classes: int, leave_out: NDArray[np.bool_] | None = None) -> TrainingCase:
        """For training; without some voxels."""
        example = self.example if leave_out is None else without(self.example, leave_out)
        return case_of(example, self.prepared, classes)

    def reference(self, counts: NDArray[np.bool_] | None = None, by_slice: bool = False) -> Reference:
        """For scoring: all that counts, or a part of it; surfaces are compared slice by slice if asked for."""
        return Reference.of(self.example, self.prepared, counts, by_slice)


@dataclass(frozen=True, eq=False)
class Material:
    """All examples of one learning.

    Attributes:
        new: To learn from.
        earlier: To rehearse.
        held_out: To be scored on only.
        notes: What had to be decided.
    """

    new: tuple[Prepped, ...]
    earlier: tuple[Prepped, ...]
    held_out: tuple[Prepped, ...]
    notes: tuple[str, ...]

    @property
    def voxels(self) -> int:
        """How many there are to learn from."""
        return sum(int(part.example.counts().sum()) for part in self.new)


def gather_steps(
    predictor: Predictor,
    examples: Sequence[Example],
    earlier: Sequence[Example],
    held_out: Sequence[Example],
    plan: LearnPlan,
    seconds: float,
) -> Generator[Progress, None, Material]:
    """Check examples and prepare them.

    Args:
        predictor: The parent.
        examples: New ones, oldest first.
        earlier: Older ones, oldest first.
        held_out: For scoring.
        plan: How to learn.
        seconds: The whole budget; there may be more earlier examples than it allows to prepare.

    Raises:
        TrainingError: If no voxel counts, or a label is of no class.
        InputError: If an image does not fit the network.
    """
    card = predictor.card
    if not any(example.counts().any() for example in examples):
        raise TrainingError(
            "There is no voxel to learn from.", "Correct the mask or confirm a slice first, then press Learn."
        )
    for example in (*examples, *earlier, *held_out):
        predictor.check(example.volume)
        check_labels(example, len(card.class_names))
    if not plan.accept_mismatch:
        check_fit(card, [*examples, *earlier, *held_out])
    clean, notes = agreeing([*earlier, *examples])
    old, new = clean[: len(earlier)], [e for e in clean[len(earlier) :] if e.counts().any()]
    kept, more = apart(held_out, clean)
    notes += more + _missing_classes(card, new)
    prepared: dict[int, Prepared] = {}
    learned = yield from _prepare_steps(new, card, prepared)
    asked = yield from _prepare_steps(kept, card, prepared)
    rehearsed: list[Prepped] = []
    began = time.monotonic()
    order = np.random.default_rng(plan.seed).permutation(len(old))
    for index in order:
        if time.monotonic() - began > PREPARING_SHARE * seconds:
            notes.append(f"{len(rehearsed)} of {len(old)} earlier examples were taken, to save time.")
            break
        if old[index].counts().any():
            rehearsed += yield from _prepare_steps([old[index]], card, prepared)
    return Material(tuple(learned), tuple(rehearsed), tuple(asked), tuple(notes))


def _prepare_steps(
    examples: Sequence[Example], card: Card, prepared: dict[int, Prepared]
) -> Generator[Progress, None, list[Prepped]]:
    """Prepare images; one that several examples share is prepared once."""
    made = []
    for count, example in enumerate(examples):
        yield Progress("preparing", count, len(examples), "examples")
        key = id(example.volume)
        if key not in prepared:
            prepared[key] = prepare(example.volume, card.preparation)
        made.append(Prepped(example, prepared[key]))
    return made


def _missing_classes(card: Card, examples: Sequence[Example]) -> list[str]:
    """A sentence for each class that nothing is learned of."""
    there = {int(n) for e in examples for n in np.unique(e.labels[e.counts()])}
    return [
        f"No voxel of {name} is among the corrections: what the network knows of it stays as it may."
        for number, name in enumerate(card.class_names)
        if number not in there
    ]
