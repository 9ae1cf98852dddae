"""What growing is worth beside other ways to make a region of a stroke (`napari_medattn.correct.grow`).

    python benchmarks/grow.py DATA_FOLDER SCRATCH_FOLDER

On the tuning cases of the split of ``medattn bench correct``, a line is drawn along the middle of each of the
four largest errors of a slice, in every second slice. Each method makes a region of it, within the same reach, of
voxels with the labels under the stroke, and against the same seeds at the rim:

- *grow*: the random walker with priors that is used;
- *no prior*: the same with a negligible prior;
- *scikit-image*: `skimage.segmentation.random_walker` on image and probabilities, mode ``cg_j``;
- *geodesic*: the stroke or the rim, whichever is nearer over image and probabilities (`skimage.graph.MCP_Geometric`).

Shown are the mean share of an error that is mended, new errors taken off (at worst -1), how often that is more than the
best stroke of a brush mends, and milliseconds per stroke.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import ndimage
from skimage.graph import MCP_Geometric
from skimage.segmentation import random_walker

from napari_medattn.bench.correct import start_of
from napari_medattn.bench.starting import Split, starting_network
from napari_medattn.bench.walk import Start
from napari_medattn.correct import grow as growing
from napari_medattn.correct.annotator import Hand
from napari_medattn.correct.boxes import slice_box
from napari_medattn.correct.lines import best_line, errors, middle_line
from napari_medattn.events import run_to_end
from napari_medattn.inference import Predictor
from napari_medattn.training.folder import DataFolder

STEPS, SMALLEST = 1000, 30


def strokes(start: Start) -> Iterator[tuple[int, np.ndarray, np.ndarray, int, int]]:
    """Slice, error, line, label, and what the brush would mend."""
    for index in range(0, len(start.labels), 2):
        labels, truth = start.labels[index], start.truth[index]
        for error in errors(labels, truth, SMALLEST)[:4]:
            line = best_line(labels, truth, error, Hand().radii)
            yield index, error, middle_line(error, 0.15), int(truth[error][0]), line.mends if line else 0


def ours(start: Start, index: int, line: np.ndarray, label: int) -> np.ndarray:
    drawn = np.argwhere(line)
    proposal = growing.grow(
        start.labels,
        {label: np.column_stack([np.full(len(drawn), index), drawn])},
        image=start.image,
        probabilities=start.probabilities,
        box=slice_box(start.labels.shape, 0, index),
        spacing=start.spacing,
    )
    after = start.labels[index].copy()
    after[proposal.box[1:]][proposal.changes[0]] = proposal.labels[0][proposal.changes[0]]
    return after


def without_prior(start: Start, index: int, line: np.ndarray, label: int) -> np.ndarray:
    kept, growing._PRIOR = growing._PRIOR, 1e-6
    try:
        return ours(start, index, line, label)
    finally:
        growing._PRIOR = kept


def field(start: Start, index: int, line: np.ndarray, label: int) -> tuple[np.ndarray, ...]:
    """Image and probabilities as channels, which voxels may change, and the rim, as `grow` has them."""
    labels = start.labels[index]
    distance = ndimage.distance_transform_edt(~line, sampling=start.spacing[1:])
    under = np.unique(labels[line])
    takes = np.isin(labels, under[under != label]) & (distance <= growing.REACH)
    rim = takes & (distance > growing.REACH - 1.5 * min(start.spacing[1:])) & ~line
    image = start.image[index].astype(float)
    channels = np.stack([(image - image.mean()) / image.std(), *start.probabilities[:, index]], axis=-1)
    return channels, takes, rim


def scikit_image(start: Start, index: int, line: np.ndarray, label: int) -> np.ndarray:
    channels, takes, rim = field(start, index, line, label)
    seeds = np.where(takes, 0, -1)
    seeds[rim], seeds[line] = 2, 1
    box = ndimage.find_objects((seeds >= 0).astype(int))[0]
    after = start.labels[index].copy()
    after[line] = label
    if rim.any():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of voxels that no seed reaches
            found = random_walker(channels[box], seeds[box], beta=1000, mode="cg_j", channel_axis=-1)
        after[box][found == 1] = label
    return after


def geodesic(start: Start, index: int, line: np.ndarray, label: int) -> np.ndarray:
    channels, takes, rim = field(start, index, line, label)
    slope = np.sqrt(
        sum(ndimage.gaussian_gradient_magnitude(channel, 0.7) ** 2 for channel in np.moveaxis(channels, -1, 0))
    )
    cost = np.where(takes | line, 1 + 20 * slope, -1)
    after = start.labels[index].copy()
    after[line] = label
    if rim.any():
        near, far = (MCP_Geometric(cost).find_costs(np.argwhere(seeds))[0] for seeds in (line, rim))
        after[takes & (near < far)] = label
    return after


METHODS = {"grow": ours, "no prior": without_prior, "scikit-image": scikit_image, "geodesic": geodesic}


def main(data: str, scratch: str) -> None:
    """Run the comparison and print the table."""
    folder = DataFolder.open(data)
    split = Split.of(folder)
    network = run_to_end(starting_network(folder, split.training, Path(scratch), STEPS))
    predictor = Predictor.load(network, "cpu")
    rows: dict[str, list[tuple[float, bool, float]]] = {name: [] for name in METHODS}
    for case in split.tuning:
        start = run_to_end(start_of(case, folder.example(case), predictor))
        for index, error, line, label, brush in strokes(start):
            wrong = np.count_nonzero(start.labels[index] != start.truth[index])
            for name, method in METHODS.items():
                began = time.perf_counter()
                after = method(start, index, line, label)
                seconds = time.perf_counter() - began
                mended = int(wrong - np.count_nonzero(after != start.truth[index]))
                rows[name].append((max(mended / error.sum(), -1.0), mended > brush, seconds))
    table = Table("method", "mended", "more than the brush", "ms")
    for name, found in rows.items():
        mended, more, seconds = np.mean(found, axis=0)
        table.add_row(name, f"{mended:.2f}", f"{more:.0%}", f"{1000 * seconds:.0f}")
    Console().print(f"{len(found)} strokes")
    Console().print(table)


if __name__ == "__main__":
    main(*sys.argv[1:])
