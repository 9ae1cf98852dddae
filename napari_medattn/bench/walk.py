"""Correcting one scan in some order of slices: what a simulated annotator needs to get how far."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medattn.correct.annotator import Annotator, Hand, Hidden, Stroke
from napari_medattn.correct.proposal import Labels
from napari_medattn.correct.queue import Evidence, Weights, rank

Choose = Callable[[Labels, Sequence[int]], int]  # the mask as it is, slices looked at -> the next one


@dataclass(frozen=True, eq=False)
class Start:
    """A scan before anybody corrected it.

    Attributes:
        name: The case.
        image: (Z, Y, X) intensities.
        truth: (Z, Y, X) labels.
        labels: (Z, Y, X) what the network made of it.
        probabilities: (K, Z, Y, X).
        evidence: What the network's runs say of each voxel.
        spacing: Voxel size in mm.
        memory: Of the simulated annotator, see `Annotator.memory`.
    """

    name: str
    image: NDArray[np.generic]
    truth: Labels
    labels: Labels
    probabilities: NDArray[np.float32]
    evidence: Evidence
    spacing: tuple[float, float, float]
    memory: dict[tuple[Any, ...], list[Stroke]] = field(default_factory=dict)

    @property
    def within(self) -> list[int]:
        """From the first to the last slice in which the network found something."""
        has = np.flatnonzero(self.labels.any(axis=(1, 2)))
        return list(range(int(has[0]), int(has[-1]) + 1)) if has.size else []

    @property
    def beyond(self) -> list[int]:
        """The slices before and after those, the nearest first."""
        inside = self.within
        middle = (inside[0] + inside[-1]) / 2 if inside else 0
        return sorted(set(range(len(self.labels))) - set(inside), key=lambda index: (abs(index - middle), index))

    def tally(self) -> Tally:
        """The Dice to begin with."""
        return Tally(self.labels, self.truth, len(self.probabilities))


class Tally:
    """Mean Dice over the foreground classes, brought up to date slice by slice."""

    def __init__(self, labels: Labels, truth: Labels, classes: int) -> None:
        self._truth, self._classes = truth, range(1, classes)
        self._counts = np.array([self._count(layer, index) for index, layer in enumerate(labels)])

    @property
    def dice(self) -> float:
        """The mean; a class that is nowhere is right."""
        mask, truth, both = self._counts.sum(axis=0).T
        return float(np.where(mask + truth > 0, 2 * both / np.maximum(mask + truth, 1), 1.0).mean())

    def put(self, index: int, layer: Labels) -> None:
        """A slice has new labels."""
        self._counts[index] = self._count(layer, index)

    def _count(self, layer: Labels, index: int) -> NDArray[np.int64]:
        truth = self._truth[index]
        return np.array([((layer == n).sum(), (truth == n).sum(), ((layer == n) & (truth == n)).sum())
                         for n in self._classes])  # fmt: skip


@dataclass(frozen=True, eq=False)
class Walk:
    """How the Dice rose.

    Attributes:
        strokes: Strokes so far, after each.
        looked: Slices looked at so far.
        dice: Mean Dice then; first the Dice to begin with.
    """

    strokes: NDArray[np.int64]
    looked: NDArray[np.int64]
    dice: NDArray[np.float64]

    def until(self, level: float) -> tuple[int, int] | None:
        """Strokes and slices until the Dice first reached a level; None if it did not."""
        there = np.flatnonzero(self.dice >= level)
        return (int(self.strokes[there[0]]), int(self.looked[there[0]])) if there.size else None

    def by_slice(self) -> NDArray[np.float64]:
        """The Dice after 0, 1, 2, ... slices."""
        return self.dice[np.flatnonzero(np.diff(self.looked, append=self.looked[-1] + 1))]

    @property
    def area(self) -> float:
        """Mean Dice over the slices looked at, from none to all: the area under the curve."""
        return float(np.trapezoid(self.by_slice())) / max(1, int(self.looked[-1]))


def walk(
    start: Start, choose: Choose, tools: frozenset[str] = frozenset(), hand: Hand | None = None, seed: int = 0
) -> Walk:
    """Correct all slices in the order in which they are chosen."""
    labels = start.labels.copy()
    annotator = Annotator(
        labels,
        Hidden(start.truth),
        start.spacing,
        tools,
        start.image,
        start.probabilities,
        hand or Hand(),
        seed,
        start.memory,
    )
    tally = start.tally()
    steps = [(0, 0, tally.dice)]
    for count in range(1, len(labels) + 1):
        index = choose(labels, annotator.truth.looked)
        for stroke in annotator.correct(index):
            tally.put(index, stroke.after)
            steps.append((steps[-1][0] + stroke.cost, count, tally.dice))
        if steps[-1][1] < count:  # nothing to correct there
            steps.append((steps[-1][0], count, tally.dice))
    strokes, looked, dice = zip(*steps, strict=True)
    return Walk(np.array(strokes), np.array(looked), np.array(dice))


def in_order(order: Sequence[int]) -> Choose:
    """Slice by slice as given."""
    return lambda labels, looked: order[len(looked)]


def slice_order(start: Start) -> Choose:
    """From the first slice with an object to the last, then what lies beyond."""
    return in_order([*start.within, *start.beyond])


def random_order(start: Start, seed: int) -> Choose:
    """At random between the first slice with an object and the last, then what lies beyond."""
    random = np.random.default_rng(seed)
    return in_order([*random.permutation(start.within).astype(int).tolist(), *start.beyond])


def coarse_order(start: Start, step: int = 4) -> Choose:
    """Every fourth slice, then those halfway, then the rest: what is filled lies between."""
    some = start.within
    order = [*some[::step], *some[-1:], *some[step // 2 :: step], *some, *start.beyond]
    return in_order(list(dict.fromkeys(order)))


def queue_order(start: Start, weights: Weights | None = None) -> Choose:
    """By the review queue, ranked anew after every slice; slices that it leaves out at the end."""

    def choose(labels: Labels, looked: Sequence[int]) -> int:
        places = rank(labels, start.evidence, done=looked, weights=weights, count=1)
        return places[0].index if places else next(n for n in (*start.within, *start.beyond) if n not in looked)

    return choose


def best_order(start: Start) -> Choose:
    """By how much each slice by itself would raise the Dice: what nobody can know beforehand."""
    gains = []
    for index in range(len(start.labels)):
        tally = start.tally()
        tally.put(index, start.truth[index])
        gains.append(tally.dice)
    return in_order([int(n) for n in np.argsort(-np.array(gains), kind="stable")])
