"""What five corrected slices of a scan teach a network of another set, and what it forgets meanwhile.

Three ways to use the same slices in the same time: to go on from the network with what was corrected (*adapt*), to go
on from it with every voxel of its mask taken for true (*untouched as truth*), and to train a network from random
weights on the slices (*fresh*). The mean Dice is that of the scan's other slices, which nobody corrected.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_medattn.bench.walk import Tally
from napari_medattn.inference import Predictor, segment
from napari_medattn.learning.learn import LearnPlan, learn_steps
from napari_medattn.models import Recipe, create_model
from napari_medattn.store import Checkpoint
from napari_medattn.training.examples import Example, prepare_example
from napari_medattn.training.loop import TrainingConfig, train_steps
from napari_medattn.training.patches import Augmentation, PatchSampler

SLICES = 5


@dataclass(frozen=True)
class Adapted:
    """Mean Dice of the foreground classes, for one scan.

    Attributes:
        case: The scan.
        before: On the slices that nobody corrected, by the network as it was.
        adapt: By the network that learned from the corrected slices.
        untouched: By the network that took its whole mask for true.
        fresh: By a network that saw nothing else.
        old_before: On scans of the set that the network comes from.
        old_after: The same after adapting.
    """

    case: str
    before: float
    adapt: float
    untouched: float
    fresh: float
    old_before: float
    old_after: float


@dataclass(frozen=True, eq=False)
class Task:
    """A scan to adapt to.

    Attributes:
        case: Its name.
        truth: Image and true labels.
        checkpoint: A network of another set with the same classes.
        earlier: Examples of that set to rehearse.
        old: Scans of that set that the network never saw.
        seconds: Time to learn.
    """

    case: str
    truth: Example
    checkpoint: Checkpoint
    earlier: Sequence[Example]
    old: Sequence[Example]
    seconds: float


def adapt_steps(task: Task) -> Generator[Any, None, Adapted]:
    """Correct, learn in three ways, and compare.

    Yields:
        What learning yields.
    """
    predictor = Predictor.load(task.checkpoint, "cpu")
    truth, guess = task.truth.labels, segment(task.truth.volume, predictor).labels
    corrected = correct_slices(task.truth, guess)
    others = ~corrected.counts().any(axis=(1, 2))

    def dice(mask: NDArray[np.integer]) -> float:
        return Tally(mask[others], truth[others], len(task.checkpoint.card.class_names)).dice

    plan = LearnPlan(seconds=task.seconds)
    learned = yield from learn_steps(task.checkpoint, [corrected], earlier=task.earlier, plan=plan, device="cpu")
    adapted = Predictor.load(learned.checkpoint, "cpu")
    everything = replace(corrected, weights=None)
    other = yield from learn_steps(task.checkpoint, [everything], earlier=task.earlier, plan=plan, device="cpu")
    fresh = yield from fresh_steps(task.checkpoint, corrected, task.seconds)
    return Adapted(
        task.case,
        before=dice(guess),
        adapt=dice(segment(task.truth.volume, adapted).labels),
        untouched=dice(segment(task.truth.volume, Predictor.load(other.checkpoint, "cpu")).labels),
        fresh=dice(segment(task.truth.volume, fresh).labels),
        old_before=mean_dice(predictor, task.old),
        old_after=mean_dice(adapted, task.old),
    )


def correct_slices(truth: Example, guess: NDArray[np.uint8]) -> Example:
    """A mask of which a person put some slices right; only these count."""
    chosen = chosen_slices(truth.labels)
    labels, weights = guess.copy(), np.zeros(guess.shape, bool)
    labels[chosen], weights[chosen] = truth.labels[chosen], True
    return Example(truth.volume, labels, weights)


def chosen_slices(truth: NDArray[np.integer], count: int = SLICES) -> NDArray[np.intp]:
    """Slices at equal steps through the object, its first and last left out: what a person would take."""
    filled = np.flatnonzero(truth.any(axis=(1, 2)))
    steps = np.linspace(0, len(filled) - 1, count + 2)[1:-1]
    return np.unique(filled[np.rint(steps).astype(int)])


def fresh_steps(like: Checkpoint, example: Example, seconds: float) -> Generator[Any, None, Predictor]:
    """A network like another one, with its recipe, but from random weights."""
    card = like.card
    torch.manual_seed(0)
    model = create_model(card.network, **card.arguments)
    case = prepare_example(example, card.preparation, len(card.class_names))
    sampler = PatchSampler([case], card.tile, card.spatial_dims, Augmentation(), seed=0)
    recipe = Recipe(**card.training["config"]["recipe"])
    device = torch.device("cpu")
    yield from train_steps(model, sampler, TrainingConfig(seconds=seconds, recipe=recipe), device)
    return Predictor(model, card, device)


def mean_dice(predictor: Predictor, examples: Sequence[Example]) -> float:
    """Mean Dice over scans and foreground classes."""
    count = len(predictor.card.class_names)
    found = [Tally(segment(e.volume, predictor).labels, e.labels, count).dice for e in examples]
    return float(np.mean(found))
