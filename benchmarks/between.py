"""How well slices are filled between others (`napari_medattn.correct.between`).

    python benchmarks/between.py DATA_FOLDER

Every second or fourth slice of the true labels is kept, from the first with an object on, and what is filled between
them is compared with the truth: mean Dice over the classes in the slices in between. *As published* leaves the outlines
where they are; otherwise they move from centre to centre.
"""

from __future__ import annotations

import sys

import numpy as np
from rich.console import Console
from rich.table import Table

from napari_medattn.correct.between import fill_between
from napari_medattn.training.folder import DataFolder
from napari_medattn.training.metrics import dice_of


def filled(truth: np.ndarray, step: int, spacing: tuple[float, ...], follow: bool) -> float:
    """Mean Dice between kept slices."""
    used = np.flatnonzero(truth.any(axis=(1, 2)))
    kept = list(range(used[0], used[-1] + 1, step))
    labels = np.zeros_like(truth)
    labels[kept] = truth[kept]
    proposal = fill_between(labels, spacing=spacing, slices=kept, follow=follow)
    labels[proposal.box][proposal.changes] = proposal.labels[proposal.changes]
    between = np.setdiff1d(np.arange(kept[0], kept[-1]), kept)
    return float(np.nanmean([dice_of(labels[between] == n, truth[between] == n) for n in range(1, truth.max() + 1)]))


def main(data: str) -> None:
    """Run the comparison and print the table."""
    folder = DataFolder.open(data)
    examples = list(folder.examples(list(folder.cases)))
    table = Table("kept slices", "moved from centre to centre", "as published")
    for step in (2, 4):
        found = [
            [filled(e.labels.astype(np.uint8), step, e.volume.grid.spacing, follow) for follow in (True, False)]
            for e in examples
        ]
        table.add_row(f"every {step}", *(f"{dice:.3f}" for dice in np.mean(found, axis=0)))
    Console().print(f"{len(examples)} scans of {folder.name}")
    Console().print(table)


if __name__ == "__main__":
    main(*sys.argv[1:])
