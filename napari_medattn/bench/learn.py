"""``medattn bench learn``: what learning from corrections brings, what it costs, and how soon it is there.

Without data folders, slices of made-up volumes through noise stand for the new scanner, and the network shipped for
single drawings for the old one: that shows whether the machinery works, not what it is worth on people.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from napari_medattn.bench import learn_scribbles
from napari_medattn.bench.correct import start_of
from napari_medattn.bench.learn_adapt import SLICES, Adapted, Task, adapt_steps
from napari_medattn.bench.learn_loop import Rhythm, loop_steps, without_learning
from napari_medattn.bench.row import Row
from napari_medattn.bench.starting import STEPS, Split, starting_network
from napari_medattn.bench.walk import Walk
from napari_medattn.data.phantom import phantom
from napari_medattn.errors import InputError
from napari_medattn.events import Progress
from napari_medattn.inference import Predictor, segment
from napari_medattn.learning.learn import LearnPlan, learn_steps
from napari_medattn.store import Checkpoint, load_checkpoint
from napari_medattn.training.examples import Example
from napari_medattn.training.folder import DataFolder

SHORTEST = 8.0  # seconds to learn, for somebody who wants to see something soon
_SHARED = "left ventricle"  # what both sets have a label for
_SOURCE = "sunnybrook_lv_2d"
_SCANS, _CASES = 14, 3  # to adapt to; to correct and learn in turn


@dataclass(frozen=True)
class _Times:
    """How long is learned, in seconds."""

    adapt: float = 60.0
    loop: float = 30.0
    rounds: int = 5


def measure(
    quick: bool = False, data: Path | None = None, scratch: Path | None = None, source: Path | None = None
) -> Generator[Any, None, list[Row]]:
    """Measure adapting, correcting and learning in turn, the time to the first new mask, and scribbles alone.

    Args:
        quick: One case of each, and little time to learn.
        data: ACDC as a data folder; made-up scans if None.
        scratch: Folder for the networks to start from; they are trained anew if there are none.
        source: The set that the network to adapt comes from; ``sunnybrook_lv_2d`` beside ``data`` if None.

    Yields:
        Progress, and what training yields.

    Returns:
        The rows of the table.

    Raises:
        InputError: If a data folder comes without a scratch folder, or without another set beside it.
    """
    times = _Times(3.0, 2.0, 1) if quick else _Times()
    with _own_checkpoints():
        if data is None:
            tasks = _phantom_tasks(1 if quick else 4, times)
            loops = yield from _phantom_loops(1 if quick else 4, times)
        else:
            if scratch is None:
                raise InputError(
                    "The networks that are trained on the data have to be kept somewhere.", "Give --scratch."
                )
            other = source or data.parent / _SOURCE
            tasks = yield from _scan_tasks(
                DataFolder.open(data), DataFolder.open(other), scratch, times, 1 if quick else _SCANS
            )
            loops = yield from _scan_loops(DataFolder.open(data), scratch, times, 1 if quick else _CASES)
        adapted = []
        for count, task in enumerate(tasks):
            yield Progress(f"adapting to {task.case}", count, len(tasks), "cases")
            adapted.append((yield from adapt_steps(task)))
        rows = [*_adapt_rows(adapted), *_loop_rows(loops)]
        rows.append((yield from _first_mask_row()))
        rows += yield from learn_scribbles.measure(quick, data, scratch)
    return rows


# From another set to a new scan


def _phantom_tasks(count: int, times: _Times) -> list[Task]:
    checkpoint = load_checkpoint("phantom-2d")
    earlier = [Example(*phantom(88_000 + seed, (1, 96, 96))) for seed in range(16)]
    old = [Example(*phantom(89_000 + seed, (1, 96, 96))) for seed in range(16)]
    return [
        Task(f"made-up scan {seed}", _noisy(78_000 + seed), checkpoint, earlier, old, times.adapt)
        for seed in range(count)
    ]


def _noisy(seed: int) -> Example:
    """A made-up scan as another scanner would show it."""
    volume, labels = phantom(seed, (20, 96, 96))
    noise = np.random.default_rng(seed).normal(0, 40, volume.array.shape)
    return Example(replace(volume, array=(volume.array + noise).astype(np.float32)), labels)


def _scan_tasks(
    data: DataFolder, other: DataFolder, scratch: Path, times: _Times, count: int
) -> Generator[Any, None, list[Task]]:
    split, source = Split.of(data), Split.of(other)
    checkpoint = yield from starting_network(other, source.training, scratch, STEPS)
    earlier = [one_class(other.example(case), other) for case in source.training]
    old = [one_class(other.example(case), other) for case in source.reported]
    return [
        Task(case, one_class(data.example(case), data), checkpoint, earlier, old, times.adapt)
        for case in split.reported[:count]
    ]


def one_class(example: Example, folder: DataFolder) -> Example:
    """Only the class that both sets have."""
    wanted = next(n for n, name in enumerate(folder.class_names) if name.startswith(_SHARED))
    labels = (example.labels == wanted).astype(np.uint8)
    return Example(example.volume, labels)


def _adapt_rows(found: Sequence[Adapted]) -> list[Row]:
    def mean(field: str) -> float:
        return float(np.mean([getattr(one, field) for one in found]))

    ahead = [one.adapt - one.fresh for one in found]
    each = f"more in {sum(more > 0 for more in ahead)} of {len(found)}: {', '.join(f'{more:+.2f}' for more in ahead)}"
    note = f"{len(found)} case{'s' if len(found) > 1 else ''}, {SLICES} slices each"
    forgotten = 100 * (mean("old_before") - mean("old_after"))
    return [
        Row("adapt: Dice of the other slices, before", mean("before"), unit="Dice", note=note),
        Row("adapt: Dice of the other slices, after", mean("adapt"), unit="Dice"),
        Row("adapt: after - before", mean("adapt") - mean("before"), 0.0, "Dice"),
        Row("adapt: after - a fresh network's", mean("adapt") - mean("fresh"), 0.0, "Dice", note=each),
        Row("adapt: after - with untouched voxels as truth", mean("adapt") - mean("untouched"), 0.0, "Dice"),
        Row("adapt: Dice on the old set, before", mean("old_before"), unit="Dice"),
        Row("adapt: Dice lost on the old set", forgotten, 1.0, "points", at_most=True),
    ]


# Correcting and learning in turn


@dataclass(frozen=True)
class _Pair:
    plain: Walk
    learning: Walk


def _phantom_loops(count: int, times: _Times) -> Generator[Any, None, list[_Pair]]:
    cases = [(f"made-up scan {seed}", _noisy(79_000 + seed)) for seed in range(count)]
    return (yield from _loops(cases, load_checkpoint("phantom-2d"), times))


def _scan_loops(data: DataFolder, scratch: Path, times: _Times, count: int) -> Generator[Any, None, list[_Pair]]:
    split = Split.of(data)
    checkpoint = yield from starting_network(data, split.training, scratch, STEPS)
    cases = [(case, data.example(case)) for case in split.reported[1::2][:count]]
    return (yield from _loops(cases, checkpoint, times))


def _loops(
    cases: Sequence[tuple[str, Example]], checkpoint: Checkpoint, times: _Times
) -> Generator[Any, None, list[_Pair]]:
    predictor, rhythm = Predictor.load(checkpoint, "cpu"), Rhythm(rounds=times.rounds, seconds=times.loop)
    pairs = []
    for count, (case, truth) in enumerate(cases):
        yield Progress(f"correcting {case}", count, len(cases), "cases")
        start = yield from start_of(case, truth, predictor)
        learning = yield from loop_steps(start, truth, checkpoint, rhythm)
        pairs.append(_Pair(without_learning(start), learning))
    return pairs


def _loop_rows(pairs: Sequence[_Pair]) -> list[Row]:
    level = Rhythm().level
    plain, learning = (np.array([_until(getattr(p, who), level) for p in pairs]) for who in ("plain", "learning"))
    fewer = int(np.count_nonzero(learning[:, 0] < plain[:, 0]))
    return [
        Row(f"loop: strokes to Dice {level:.2f}, correcting alone", plain[:, 0].mean(), unit="strokes"),
        Row(f"loop: strokes to Dice {level:.2f}, learning too", learning[:, 0].mean(), unit="strokes"),
        Row(
            "loop: strokes with learning / without",
            learning[:, 0].sum() / max(1, plain[:, 0].sum()),
            1.0,
            at_most=True,
            note=f"fewer in {fewer} of {len(pairs)} cases",
        ),
        Row("loop: slices with learning / without", learning[:, 1].sum() / max(1, plain[:, 1].sum())),
    ]


def _until(walk: Walk, level: float) -> tuple[int, int]:
    """Strokes and slices until a level; all of them if it is never reached."""
    return walk.until(level) or (int(walk.strokes[-1]), int(walk.looked[-1]))


# How soon


def _first_mask_row() -> Generator[Any, None, Row]:
    """From pressing Learn to the first mask of the new network, on five slices of 256 x 256."""
    checkpoint = load_checkpoint("phantom-2d")
    volume, labels = phantom(77_200, (SLICES, 256, 256))
    noisy = replace(volume, array=volume.array + np.random.default_rng(0).normal(0, 60, volume.array.shape))
    began = time.perf_counter()
    plan = LearnPlan(seconds=SHORTEST)
    learned = yield from learn_steps(checkpoint, [Example(noisy, labels)], plan=plan, device="cpu")
    segment(noisy, Predictor.load(learned.checkpoint, "cpu"))
    seconds = time.perf_counter() - began
    note = f"{SHORTEST:g} s to learn, the rest to prepare, score, save and segment"
    return Row("Learn to the first new mask, 5 slices of 256 x 256", seconds, 15.0, "s", at_most=True, note=note)


@contextmanager
def _own_checkpoints() -> Iterator[None]:
    """Versions made here are of no use to anybody: they go to a folder that goes away."""
    before = os.environ.get("MEDATTN_HOME")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MEDATTN_HOME"] = folder
        try:
            yield
        finally:
            if before is None:
                del os.environ["MEDATTN_HOME"]
            else:
                os.environ["MEDATTN_HOME"] = before
