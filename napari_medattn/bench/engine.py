"""``medattn bench engine``: what segmenting whole volumes costs besides the network, in time and in memory."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Generator

import numpy as np

from napari_medattn.bench.engine_memory import COMPARED, CT
from napari_medattn.bench.engine_work import LIGHTEST, SMALL, ct_like, network, timed, with_monai
from napari_medattn.bench.memory import in_fresh_process
from napari_medattn.bench.row import Row
from napari_medattn.bench.yardstick import threads
from napari_medattn.events import Progress
from napari_medattn.inference import RunSettings

_SIZES = {True: (64, 96, 128), False: (128, 192, 256, 384, 512)}
_TILE, _SMALL_TILE = (64, 64, 64), (32, 32, 32)
_CPU = "processor time of one thread, so that other programs do not count"
Steps = Generator[Progress, None, list[Row]]


def measure(quick: bool = False) -> Steps:
    """Measure; with ``quick`` within a minute.

    Yields:
        Progress.
    """
    with threads(1):
        rows = yield from _cost(quick)
        rows += yield from _growth(quick)
    rows += yield from _memory(quick)
    return rows


def _cost(quick: bool) -> Steps:
    """The engine against the network alone, and against MONAI's sliding window."""
    side, rounds = (112, 1) if quick else (160, 3)
    predictor, volume = network(SMALL, _TILE), ct_like((side, side, side))
    settings, shares, ratios = RunSettings(batch=1), [], []
    for number in range(rounds):
        yield Progress("time", number, rounds, "rounds")
        tally = yield from timed(predictor, volume, settings)
        shares.append(tally.total / tally.network)
        began = time.process_time()
        with_monai(predictor, volume, settings)
        ratios.append(tally.total / (time.process_time() - began))
    what = f"3-D Attention U-Net / {SMALL}, {side}^3, tiles of {' x '.join(map(str, _TILE))}"
    return [
        Row("engine / bare forward passes", statistics.median(shares), 1.15, at_most=True, note=f"{what}, {_CPU}"),
        Row("engine / MONAI sliding_window_inference", statistics.median(ratios), 1.0, at_most=True, note="as above"),
    ]


def _growth(quick: bool) -> Steps:
    """How time grows with the number of voxels, without overlap, whose share is less in small volumes."""
    sizes, predictor = _SIZES[quick], network(LIGHTEST, _SMALL_TILE)
    seconds = []
    for number, side in enumerate(sizes):
        yield Progress("growth", number, len(sizes), "volumes")
        tally = yield from timed(predictor, ct_like((side, side, side)), RunSettings(overlap=0.0))
        seconds.append(tally.total)
    voxels = np.array([float(side) ** 3 for side in sizes])
    slope = float(np.polyfit(np.log(voxels), np.log(seconds), 1)[0])
    line = np.polyfit(voxels, seconds, 1)
    spent = np.array(seconds)
    left = np.square(np.polyval(line, voxels) - spent).sum() / np.square(spent - spent.mean()).sum()
    told = ", ".join(f"{side}^3 {one:.3g} s" for side, one in zip(sizes, seconds, strict=True))
    return [
        Row("growth of time with voxels, exponent", slope, 1.1, "", at_most=True, note=told),
        Row(
            "share of it that a straight line explains", 1 - float(left), 0.98, "", note=f"{line[0] * 1e6:.3g} s/Mvoxel"
        ),
    ]


def _memory_run(name: str) -> float | None:
    return in_fresh_process("napari_medattn.bench.engine_memory", name)


def _memory(quick: bool) -> Steps:
    """Peak memory, each in a process of its own."""
    found = {}
    names = ("ours", "monai") if quick else ("ours", "monai", "ct", "ct-paper")
    for number, name in enumerate(names):
        yield Progress("memory", number, len(names), "runs")
        found[name] = _memory_run(name)
    rows = []
    if found["ours"] is not None and found["monai"] is not None:
        size, note = " x ".join(map(str, COMPARED)), f"{found['ours']:.0f} against {found['monai']:.0f} MB"
        rows.append(
            Row(
                "peak memory: engine / MONAI", found["ours"] / found["monai"], 1.0, at_most=True, note=f"{note}, {size}"
            )
        )
    for name, what in (
        ("ct", f"3-D Attention U-Net / {LIGHTEST}"),
        ("ct-paper", "the paper's own width, stopped in the second of six layers of tiles, all of the mask counted in"),
    ):
        if found.get(name) is not None:
            volumes = float(found[name] or 0) * 2**20 / (4 * math.prod(CT))
            note = f"{found[name]:.0f} MB, {what}"
            title = "peak memory for 512 x 512 x 300 int16, in float32 volumes"
            rows.append(Row(title, volumes, 3.0, at_most=True, note=note))
    return rows
