"""Choices of learning from corrections: the recipe, the opinion on untouched voxels, the anchor, the method.

    python benchmarks/finetune.py FOLDER_OF_MSD_HIPPOCAMPUS recipes|opinion|anchor|methods [NETWORK,NETWORK]
    python benchmarks/finetune.py time

Three slices of a held-out case are corrected in one of two ways: *edits*, only the voxels that were wrong count, as
after painting; *slices*, all voxels of the slices count, as after confirming them. The shipped checkpoint learns from
them for a fixed number of steps. Shown are, over two such cases, the mean Dice on the other slices of the case and on
two other cases that nothing was corrected in, before and after, and the agreement with the corrections.

*time* takes five drawn slices of 256 x 256 and 10 seconds, and tells how long it takes from the call to the saved
version, in all and in CPU seconds beside the training steps.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

import numpy as np
from rich.console import Console
from rich.table import Table

from napari_medattn import Checkpoint, Example, load_checkpoint, segment
from napari_medattn.data.phantom import phantom
from napari_medattn.events import TrainingStep
from napari_medattn.learning.learn import LearnPlan, learn, learn_steps
from napari_medattn.learning.leeway import GENTLE, RATE
from napari_medattn.learning.own import own_recipe
from napari_medattn.learning.plan import ADAPTER_RATE, opinion_for
from napari_medattn.learning.statistics import batch_norms
from napari_medattn.models import Recipe
from napari_medattn.training.folder import DataFolder
from napari_medattn.training.loop import TrainingConfig

STEPS, CASES, ELSEWHERE = 40, 2, (5, 6)
NETWORKS = "hippocampus-dae-former,hippocampus"
GENERAL = Recipe(learning_rate=RATE, warm_up=0.05, dice_weight=0.0)


@dataclass(frozen=True)
class Choice:
    """One row: what is chosen, for which network."""

    network: str
    title: str
    recipe: Recipe
    opinion: float | None
    anchor: float = 0.0
    method: str = "whole"


def recipes(networks: list[str]) -> Iterator[Choice]:
    """The general recipe, the same with the network's own terms, the network's own with a tenth of its rate."""
    for network in networks:
        own = own_recipe(load_checkpoint(network).card)
        yield Choice(network, "general", GENERAL, None)
        if own.terms:
            yield Choice(network, "general + own terms", replace(GENERAL, terms=own.terms), None)
        yield Choice(network, "own, rate / 10", replace(own, learning_rate=own.learning_rate / 10, warm_up=0.05), None)


def opinion(networks: list[str]) -> Iterator[Choice]:
    """How strongly untouched voxels are held to the parent's opinion; None: by the agreement."""
    for network in networks:
        for strength in (0.0, 1.0, 3.0, 10.0, None):
            title = "by agreement" if strength is None else f"{strength:g}"
            yield Choice(network, title, GENERAL, strength)


def anchor(networks: list[str]) -> Iterator[Choice]:
    """How strongly weights are pulled to the parent's."""
    for network in networks:
        for strength in (0.0, 0.1, 1.0, 10.0):
            yield Choice(network, f"{strength:g}", GENERAL, None, strength)


def methods(networks: list[str]) -> Iterator[Choice]:
    """What of the network learns."""
    for network in networks:
        yield Choice(network, "whole", GENERAL, None)
        yield Choice(network, "decoder", GENERAL, None, method="decoder")
        for rate in (RATE, ADAPTER_RATE):
            recipe = replace(GENERAL, learning_rate=rate)
            yield Choice(network, f"adapters, rate {rate:g}", recipe, None, method="adapters")
        if batch_norms(load_checkpoint(network).build()):
            yield Choice(network, "statistics", GENERAL, None, method="statistics")


def mean_dice(labels: np.ndarray, truth: np.ndarray) -> float:
    """Mean over the two parts of the hippocampus."""
    pairs = [(labels == n, truth == n) for n in (1, 2)]
    return float(np.mean([2 * np.sum(a & b) / (a.sum() + b.sum()) for a, b in pairs]))


def corrected(example: Example, guess: np.ndarray, kind: str) -> tuple[Example, np.ndarray]:
    """The example as a person would leave it, and which slices were not touched."""
    filled = np.flatnonzero(example.labels.any((1, 2)))
    slices = filled[[len(filled) // 4, len(filled) // 2, 3 * len(filled) // 4]]
    labels, weights = guess.copy(), np.zeros(guess.shape, bool)
    labels[slices] = example.labels[slices]
    weights[slices] = (guess != example.labels)[slices] if kind == "edits" else True
    others = np.ones(len(guess), bool)
    others[slices] = False
    return Example(example.volume, labels, weights), others


def run(choice: Choice, kind: str, cases: list[Example], elsewhere: list[Example]) -> list[str]:
    """One row of the table."""
    parent = load_checkpoint(choice.network)
    rows = []
    there = np.mean([mean_dice(guess_of(choice.network, e), e.labels) for e in elsewhere])
    for truth in cases:
        guess = guess_of(choice.network, truth)
        example, others = corrected(truth, guess, kind)
        agreement = 0.0 if kind == "edits" else float(np.mean((guess == example.labels)[example.counts()]))
        config = TrainingConfig(
            epochs=STEPS,
            batch_size=2,
            recipe=choice.recipe,
            augmentation=GENTLE,
            freeze_statistics=True,
            hold=opinion_for(agreement) if choice.opinion is None else choice.opinion,
        )
        plan = LearnPlan(method=choice.method, anchor=choice.anchor, folds=0, config=config)
        learned = learn(parent, [example], plan=plan, device="cpu")
        found = segment(truth.volume, learned.checkpoint).labels
        far = np.mean([mean_dice(segment(e.volume, learned.checkpoint).labels, e.labels) for e in elsewhere])
        rows.append((*(mean_dice(m[others], truth.labels[others]) for m in (guess, found)), far, learned.agreement[1]))
    before, after, far, agreement = np.mean(rows, axis=0)
    return [
        choice.network,
        choice.title,
        kind,
        f"{before:.3f} -> {after:.3f}",
        f"{there:.3f} -> {far:.3f}",
        f"{agreement:.1%}",
    ]


@cache
def guess_of(network: str, example: Example) -> np.ndarray:
    """What a shipped checkpoint says."""
    return segment(example.volume, load_checkpoint(network)).labels


def held_out(parent: Checkpoint) -> list[str]:
    """Cases that the checkpoint never saw."""
    return list(parent.card.training["validation_cases"])


def main(folder: str, what: str, networks: list[str]) -> None:
    """Run the comparison and print the table."""
    data = DataFolder.open(folder)
    names = held_out(load_checkpoint("hippocampus"))
    cases = [data.example(name) for name in names[:CASES]]
    elsewhere = [data.example(names[number]) for number in ELSEWHERE]
    table = Table("network", what, "corrected", "other slices", "other cases", "agreement")
    console = Console(width=120)
    for choice in {"recipes": recipes, "opinion": opinion, "anchor": anchor, "methods": methods}[what](networks):
        for kind in ("edits", "slices"):
            row = run(choice, kind, cases, elsewhere)
            print(" | ".join(row), file=sys.stderr, flush=True)
            table.add_row(*row)
    console.print(table)


def call_to_version() -> None:
    """How long learning takes that was given 10 seconds; twice, as the first call loads libraries."""
    volume, labels = phantom(1005, (5, 256, 256), (5.0, 1.0, 1.0))
    parent = load_checkpoint("phantom-2d")
    for call in ("first", "second"):
        began, busy, training = time.monotonic(), time.process_time(), 0.0
        steps = learn_steps(parent, [Example(volume, labels)], plan=LearnPlan(seconds=10.0), device="cpu")
        while True:
            before = time.process_time()
            try:
                event = next(steps)
            except StopIteration as stop:
                learned = stop.value
                break
            if isinstance(event, TrainingStep) or "held back" in getattr(event, "stage", ""):
                training += time.process_time() - before
        wall, busy = time.monotonic() - began, time.process_time() - busy
        print(
            f"{call} call: {wall:.1f} s, {learned.steps} steps; {busy - training:.1f} CPU seconds beside the steps; "
            f"{learned.verdict.word}, load {os.getloadavg()[0]:.1f}"
        )


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as home:
        os.environ["MEDATTN_HOME"] = home
        if sys.argv[1] == "time":
            call_to_version()
            sys.exit()
        main(sys.argv[1], sys.argv[2], (sys.argv[3] if len(sys.argv) > 3 else NETWORKS).split(","))
