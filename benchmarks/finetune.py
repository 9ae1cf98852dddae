"""How strongly a fine-tuning should hold on to what the network said before (`TrainingConfig.hold`).

    python benchmarks/finetune.py FOLDER_OF_MSD_HIPPOCAMPUS

Three slices of a held-out case are corrected in one of two ways: *edits*, only the voxels that were wrong
count, as after painting; *slices*, all voxels of the slices count, as after confirming them. The shipped
checkpoint learns from them for a fixed number of steps. Shown are the mean Dice on the other slices of the
case, and on another case that nothing was corrected in, before and after.
"""

from __future__ import annotations

import os
import sys
import tempfile
from dataclasses import replace

import numpy as np
from rich.console import Console
from rich.table import Table

from napari_medattn import Example, finetune, load_checkpoint, segment
from napari_medattn.training.finetune import DEFAULT
from napari_medattn.training.folder import DataFolder
from napari_medattn.training.train import dice_of

HOLDS = (0.0, 5.0, 10.0, 20.0)
STEPS, CASES = 40, 2


def mean_dice(labels: np.ndarray, truth: np.ndarray) -> float:
    """Mean over the two parts of the hippocampus."""
    return float(np.mean([dice_of(labels == n, truth == n) for n in (1, 2)]))


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


def main(folder: str) -> None:
    """Run the comparison and print the table."""
    data, parent = DataFolder.open(folder), load_checkpoint("hippocampus")
    held_out = parent.card.training["validation_cases"]
    elsewhere = data.example(held_out[5])
    config = replace(DEFAULT, seconds=None, epochs=STEPS)
    table = Table("corrected", "hold", "other slices", "other case", "agreement")
    there = mean_dice(segment(elsewhere.volume, parent).labels, elsewhere.labels)
    for kind in ("edits", "slices"):
        for hold in HOLDS:
            rows = []
            for case in held_out[:CASES]:
                truth = data.example(case)
                guess = segment(truth.volume, parent).labels
                example, others = corrected(truth, guess, kind)
                child = finetune(parent, [example], config=replace(config, hold=hold))
                learned = segment(truth.volume, child).labels
                rows.append(
                    (
                        mean_dice(guess[others], truth.labels[others]),
                        mean_dice(learned[others], truth.labels[others]),
                        mean_dice(segment(elsewhere.volume, child).labels, elsewhere.labels),
                        child.card.metrics["agreement_after"],
                    )
                )
            before, after, far, agreement = np.mean(rows, axis=0)
            table.add_row(
                kind, f"{hold:g}", f"{before:.3f} -> {after:.3f}", f"{there:.3f} -> {far:.3f}", f"{agreement:.1%}"
            )
    Console().print(table)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as home:
        os.environ["MEDATTN_HOME"] = home
        main(sys.argv[1])
