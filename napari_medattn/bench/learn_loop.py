"""Correcting and learning in turn: does it save strokes?

The simulated annotator corrects the two most doubtful slices, the network learns from all slices corrected so far, and
the rest of the mask is made anew; five times. Beside it the same annotator corrects in the same order, ranked anew
after every slice, without anybody learning. What was looked at is never made anew.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from napari_medattn.bench.walk import Start, Walk, queue_order, walk
from napari_medattn.correct.annotator import Annotator, Hand, Hidden
from napari_medattn.correct.queue import Evidence
from napari_medattn.inference import Predictor, segment
from napari_medattn.learning.learn import LearnPlan, learn_steps
from napari_medattn.store import Checkpoint
from napari_medattn.training.examples import Example


@dataclass(frozen=True)
class Rhythm:
    """How often is learned.

    Attributes:
        rounds: How many times.
        slices: Corrected before each.
        seconds: Time to learn each time.
        level: Mean Dice at which the annotator stops.
    """

    rounds: int = 5
    slices: int = 2
    seconds: float = 30.0
    level: float = 0.90


def without_learning(start: Start) -> Walk:
    """The strokes of the same annotator without learning."""
    return walk(start, queue_order(start))


def loop_steps(
    start: Start, truth: Example, checkpoint: Checkpoint, rhythm: Rhythm = Rhythm()
) -> Generator[Any, None, Walk]:
    """Correct and learn in turn until the mask is good enough.

    Args:
        start: The scan before anybody corrected it.
        truth: The scan with its true labels.
        checkpoint: The network that made the start.
        rhythm: How often is learned.

    Yields:
        What learning yields.

    Returns:
        The Dice by strokes and slices, up to `Rhythm.level` or to the end.
    """
    labels = start.labels.copy()
    annotator = Annotator(
        labels, Hidden(start.truth), start.spacing, frozenset(), start.image, start.probabilities, Hand(), 0, {}
    )
    tally, current = start.tally(), start
    steps = [(0, 0, tally.dice)]
    looked = annotator.truth.looked
    parent = checkpoint
    while tally.dice < rhythm.level and len(looked) < len(labels):
        index = queue_order(current)(labels, looked)
        for stroke in annotator.correct(index):
            tally.put(index, stroke.after)
            steps.append((steps[-1][0] + stroke.cost, len(looked), tally.dice))
        if steps[-1][1] < len(looked):  # nothing to correct there
            steps.append((steps[-1][0], len(looked), tally.dice))
        rounds, odd = divmod(len(looked), rhythm.slices)
        if odd or rounds > rhythm.rounds or tally.dice >= rhythm.level:
            continue
        weights = np.zeros(labels.shape, bool)
        weights[looked] = True
        example = Example(truth.volume, labels.copy(), weights)
        learned = yield from learn_steps(parent, [example], plan=LearnPlan(seconds=rhythm.seconds), device="cpu")
        if learned.verdict.word == "worse":  # such a version does not become the current one by itself
            continue
        parent = learned.checkpoint
        found = segment(truth.volume, Predictor.load(parent, "cpu"), probabilities=True, uncertainty=True)
        rest = np.setdiff1d(np.arange(len(labels)), looked)
        labels[rest] = found.labels[rest]
        current = replace(current, labels=labels, evidence=Evidence(found.uncertainty))
        for slice_index in rest.tolist():
            tally.put(slice_index, labels[slice_index])
        steps.append((*steps[-1][:2], tally.dice))
    counts, slices, dice = zip(*steps, strict=True)
    return Walk(np.array(counts), np.array(slices), np.array(dice))
