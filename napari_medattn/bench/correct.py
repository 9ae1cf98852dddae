"""``medattn bench correct``: strokes and slices until a mask is right, by tool and by order.

Tools are used beside a brush of three sizes (*brush*), or beside a *fine brush* alone.

A small network is trained on some patients of a set; its masks of other patients are what a simulated annotator
(`napari_medattn.correct.annotator`) corrects. Nothing was chosen on the patients that are reported: the queue's weights
and the growing's settings come from the tuning patients of the split and from other sets.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_medattn.bench.row import Row
from napari_medattn.bench.starting import STEPS, Split, starting_network
from napari_medattn.bench.walk import (
    Choose,
    Start,
    Walk,
    best_order,
    coarse_order,
    queue_order,
    random_order,
    slice_order,
    walk,
)
from napari_medattn.correct.annotator import Hand
from napari_medattn.correct.grow import grow
from napari_medattn.correct.queue import Evidence, Weights, evidence_steps
from napari_medattn.data.phantom import phantom
from napari_medattn.errors import InputError
from napari_medattn.events import Progress
from napari_medattn.inference import Predictor, segment
from napari_medattn.store import load_checkpoint
from napari_medattn.training.examples import Example
from napari_medattn.training.folder import DataFolder

LEVELS = (0.90, 0.95)
FINE = Hand(radii=(1,), most=200)
TOOLS = {
    "brush": (frozenset[str](), Hand()),
    "grow": (frozenset({"grow"}), Hand()),
    "between": (frozenset({"between"}), Hand()),
    "fine brush": (frozenset[str](), FINE),
    "fine brush and grow": (frozenset({"grow"}), FINE),
}
SIGNS = {
    "uncertainty": Weights(1, 0, 0, 0),
    "flips": Weights(0, 1, 0, 0),
    "neighbours": Weights(0, 0, 1, 0),
    "attention": Weights(0, 0, 0, 1),
    "with flips": Weights(disagreement=0.25),
    "with attention": Weights(attention=0.25),
}
_QUICK_STEPS = 60
_DRAWS = 5  # random orders that are averaged
_SEED = 0
Walks = dict[tuple[str, str], list[list[Walk]]]  # by tool and order: for each case, one walk or several draws


def measure(
    quick: bool = False, data: Path | None = None, scratch: Path | None = None, figure: Path | None = None
) -> Generator[Any, None, list[Row]]:
    """Measure tools and orders.

    Args:
        quick: Brush and growing on two cases, after a minimal training.
        data: A data folder; made-up scans through noise, and the network that is shipped for them, if None.
        scratch: Folder for the network's checkpoint; it is trained anew if there is none.
        figure: Where to draw the Dice over the slices looked at.

    Yields:
        Progress, and what training yields.

    Returns:
        The rows of the table.

    Raises:
        InputError: If a data folder comes without a scratch folder.
    """
    if data is None:
        starts = yield from _phantoms(2 if quick else 6)
        tuning: list[Start] = []
    else:
        if scratch is None:
            raise InputError("The network that is trained on the data has to be kept somewhere.", "Give --scratch.")
        starts, tuning = yield from _scans(DataFolder.open(data), scratch, quick)
    tools = {name: tool for name, tool in TOOLS.items() if not quick or name in ("brush", "grow")}
    walks: Walks = {}
    for count, start in enumerate(starts):
        yield Progress(f"correcting {start.name}", count, len(starts), "cases")
        for name, (tool, hand) in tools.items():
            for order, chosen in _orders(start, name).items():
                walks.setdefault((name, order), []).append([walk(start, one, tool, hand, _SEED) for one in chosen])
                yield Progress(f"correcting {start.name}", count, len(starts), "cases")
    rows = [*_time_rows(), *_area_rows(walks)]
    for key, found in walks.items():
        rows += _level_rows(*key, found)
    rows += _sign_rows(tuning)
    if figure is not None:
        from napari_medattn.bench.correct_figure import draw

        draw({order: walks["brush", order] for tool, order in walks if tool == "brush"}, figure)
    return rows


def _orders(start: Start, tool: str) -> dict[str, list[Choose]]:
    if "fine" in tool:
        return {"queue": [queue_order(start)]}
    orders = {
        "queue": [queue_order(start)],
        "slice order": [slice_order(start)],
        "random": [random_order(start, seed) for seed in range(_DRAWS)],
    }
    if tool == "brush":
        orders["best"] = [best_order(start)]
    if tool == "between":
        orders["every fourth first"] = [coarse_order(start)]
    return orders


def _time_rows() -> list[Row]:
    """How long a stroke takes to grow in a slice of 256 x 256, everything included."""
    volume, labels = phantom(77_100, (1, 256, 256))
    sure = np.stack([np.where(labels == n, 0.8, 0.1) for n in range(int(labels.max()) + 1)]).astype(np.float32)
    empty, rows = np.zeros_like(labels), []
    for what, share in (("a stroke", 0.3), ("strokes all over", 1.0)):
        drawn = {n: np.argwhere(labels == n) for n in range(int(labels.max()) + 1)}
        lines = {n: voxels[: int(share * len(voxels))][::40] for n, voxels in drawn.items() if n or share == 1}
        times = []
        for _ in range(5):
            began = time.perf_counter()
            grow(empty, lines, image=volume.array[0], probabilities=sure)
            times.append(time.perf_counter() - began)
        rows.append(Row(f"growing {what} in 256 x 256", float(np.median(times)), 1.0, "s", at_most=True))
    return rows


def _area_rows(walks: Walks) -> list[Row]:
    """The claim: in queue order Dice rises faster than in slice order and at random."""
    area = {order: _areas(walks["brush", order]) for tool, order in walks if tool == "brush"}
    rows = [Row(f"Dice over slices, {order}", float(values.mean()), unit="mean Dice") for order, values in area.items()]
    for other in ("slice order", "random"):
        gain = area["queue"] - area[other]
        note = f"better in {np.count_nonzero(gain > 0)} of {len(gain)} cases"
        rows.append(Row(f"Dice over slices, queue - {other}", float(gain.mean()), 0.0, "mean Dice", note=note))
    way = float((area["queue"] - area["random"]).mean() / (area["best"] - area["random"]).mean())
    rows.append(Row("way of the queue from random to best", way, unit="of it"))
    return rows


def _areas(found: Sequence[Sequence[Walk]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.array([np.mean([one.area for one in draws]) for draws in found])


def _level_rows(tool: str, order: str, found: Sequence[Sequence[Walk]]) -> list[Row]:
    rows = []
    for level in LEVELS:
        reached = [one.until(level) for draws in found for one in draws]
        note = f"{sum(r is not None for r in reached)} of {len(reached)} runs got there"
        # A run that does not get there counts with all its strokes and slices.
        counted = [one.until(level) or (int(one.strokes[-1]), int(one.looked[-1])) for draws in found for one in draws]
        for place, unit in enumerate(("strokes", "slices")):
            value = float(np.mean([pair[place] for pair in counted]))
            rows.append(Row(f"{tool}, {order}: {unit} to Dice {level:.2f}", value, unit=unit, note=note))
    return rows


def _sign_rows(tuning: Sequence[Start]) -> list[Row]:
    """What each sign is worth on the tuning cases: its share of the way from random to the best order."""
    if not tuning:
        return []
    by_name = {"default": Weights(), **SIGNS}

    def areas(choose: Iterable[Choose]) -> float:
        return float(np.mean([_rising(start, one) for start, one in zip(tuning, choose, strict=True)]))

    random = float(np.mean([areas(random_order(start, seed) for start in tuning) for seed in range(_DRAWS)]))
    best = areas(best_order(start) for start in tuning)
    rows = []
    for name, weights in by_name.items():
        found = areas(queue_order(start, weights) for start in tuning)
        rows.append(Row(f"tuning cases, queue by {name}: way from random to best", (found - random) / (best - random)))
    return rows


def _rising(start: Start, choose: Choose) -> float:
    """Area under the Dice if each slice is simply right once it was looked at: all that an order is about."""
    labels, looked, tally = start.labels.copy(), list[int](), start.tally()
    dice = [tally.dice]
    for _ in range(len(labels)):
        index = choose(labels, looked)
        labels[index] = start.truth[index]
        looked.append(index)
        tally.put(index, labels[index])
        dice.append(tally.dice)
    return float(np.trapezoid(dice)) / len(labels)


def _scans(folder: DataFolder, scratch: Path, quick: bool) -> Generator[Any, None, tuple[list[Start], list[Start]]]:
    split = Split.of(folder)
    checkpoint = yield from starting_network(folder, split.training, scratch, _QUICK_STEPS if quick else STEPS)
    predictor = Predictor.load(checkpoint, "cpu")
    starts: dict[bool, list[Start]] = {True: [], False: []}
    wanted = [(case, True) for case in split.reported] + [(case, False) for case in split.tuning]
    for count, (case, reported) in enumerate(wanted[:2] if quick else wanted):
        yield Progress(f"segmenting {case}", count, len(wanted), "cases")
        starts[reported].append((yield from start_of(case, folder.example(case), predictor, not reported)))
    return starts[True], starts[False]


def _phantoms(count: int) -> Generator[Any, None, list[Start]]:
    """Made-up scans that the shipped network never saw, through so much noise that it errs."""
    predictor = Predictor.load(load_checkpoint("phantom"), "cpu")
    starts = []
    for seed in range(count):
        yield Progress("segmenting made-up scans", seed, count, "cases")
        volume, labels = phantom(77_000 + seed, (24, 96, 96))
        noise = np.random.default_rng(seed).normal(0, 120, volume.array.shape)
        noisy = replace(volume, array=(volume.array + noise).astype(np.float32))
        starts.append((yield from start_of(volume.name, Example(noisy, labels), predictor)))
    return starts


def start_of(
    name: str, example: Example, predictor: Predictor, everything: bool = False
) -> Generator[Any, None, Start]:
    """What the network makes of a scan; with flips and attention if ``everything`` is to be compared.

    Yields:
        Progress of the runs.
    """
    found = segment(example.volume, predictor, probabilities=True, uncertainty=True)
    assert found.probabilities is not None
    evidence = Evidence(found.uncertainty)
    if everything:
        site = next(key for key, site in predictor.sites.items() if site.spatial)
        evidence = yield from evidence_steps(example.volume, predictor, flips=(1, 2), attention=site)
    return Start(
        name=name,
        image=example.volume.array[0],
        truth=example.labels.astype(found.labels.dtype),
        labels=found.labels,
        probabilities=found.probabilities,
        evidence=evidence,
        spacing=example.volume.grid.spacing,
    )
