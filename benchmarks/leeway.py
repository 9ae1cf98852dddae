"""What learning gains from leeway where whole slices of scans of another hospital were corrected.

    python benchmarks/leeway.py ACDC SUNNYBROOK SCRATCH [SECONDS]

A network of the second set learns from five corrected slices of scans of the first one that nothing is reported of,
with all it was trained on to rehearse, for so many seconds each. Shown are, for each way to learn, the mean Dice of the
scans' other slices before and after, and the points of Dice lost on patients of the second set that the network never
saw: those that `medattn bench learn` reports on are learned from here, and the others are asked.
"""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from unittest.mock import patch

import numpy as np
from rich.console import Console
from rich.table import Table

from napari_medattn import segment
from napari_medattn.bench.learn import one_class
from napari_medattn.bench.learn_adapt import correct_slices, mean_dice
from napari_medattn.bench.starting import STEPS, Split, starting_network
from napari_medattn.bench.walk import Tally
from napari_medattn.events import run_to_end
from napari_medattn.inference import Predictor
from napari_medattn.learning.learn import LearnPlan, learn
from napari_medattn.learning.leeway import REHEARSAL
from napari_medattn.training.folder import DataFolder

# What is put in place of a part of learning.
WAYS = {
    "without leeway": {"task.leeway": lambda agreement, dice, rehearsing: 0.0},
    "with leeway": {},
    "the same, at the full rate from the first step": {"leeway.SLOW_START": 0},
    "the same, without the way back": {"leeway.WAY_BACK": 0.0},
    "the same, rehearsing no more than without": {"task.rehearsal_for": lambda leeway: REHEARSAL[0]},
}


def main(acdc: Path, sunnybrook: Path, scratch: Path, seconds: float) -> None:
    """Print the table."""
    new, other = DataFolder.open(acdc), DataFolder.open(sunnybrook)
    split = Split.of(other)
    checkpoint = run_to_end(starting_network(other, (*split.tuning, *split.reported), scratch, STEPS))
    earlier = [one_class(other.example(case), other) for case in (*split.tuning, *split.reported)]
    old = [one_class(other.example(case), other) for case in split.training]
    predictor = Predictor.load(checkpoint, "cpu")
    old_before = mean_dice(predictor, old)
    table = Table("way to learn", "other slices", f"lost of {old_before:.3f}", "steps")
    for title, instead in WAYS.items():
        dice, lost, steps = [], [], []
        for case in Split.of(new).tuning[1::2]:
            truth = one_class(new.example(case), new)
            guess = segment(truth.volume, predictor).labels
            corrected = correct_slices(truth, guess)
            others = ~corrected.counts().any(axis=(1, 2))
            with ExitStack() as stack:
                for name, value in instead.items():
                    stack.enter_context(patch(f"napari_medattn.learning.{name}", value))
                plan = LearnPlan(seconds=seconds)
                learned = learn(checkpoint, [corrected], earlier=earlier, plan=plan, device="cpu")
            after = Predictor.load(learned.checkpoint, "cpu")
            masks = guess, segment(truth.volume, after).labels
            dice.append([Tally(mask[others], truth.labels[others], 2).dice for mask in masks])
            lost.append(100 * (old_before - mean_dice(after, old)))
            steps.append(learned.steps)
        before, reached = np.mean(dice, axis=0)
        table.add_row(title, f"{before:.3f} -> {reached:.3f}", f"{np.mean(lost):.1f} points", f"{np.mean(steps):.0f}")
    Console().print(table)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MEDATTN_HOME"] = folder
        main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), float([*sys.argv, "60"][4]))
