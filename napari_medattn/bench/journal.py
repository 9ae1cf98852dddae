"""What a stroke costs with its memory kept on disk, and how large that memory grows.

A stroke is what a hand draws: dabs of a round brush along a line, in one slice, reported as napari reports them.
`measure_journal` counts everything that follows such a report: merging, marking, the record on disk, following undo,
and the count of edited voxels. ``benchmarks/journal.py`` measures the same with a real Labels layer.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import numpy as np
from numpy.typing import NDArray

from napari_medattn.bench.row import Row
from napari_medattn.geometry import Grid
from napari_medattn.store.edit import Edit, Labels
from napari_medattn.store.edits import EditLog
from napari_medattn.store.journal import Journal
from napari_medattn.store.journal_header import Header

STROKE_MS = 5.0
FILE_SHARE = 0.01  # of the mask's bytes, after 500 strokes


@dataclass(frozen=True)
class JournalCost:
    """What was measured.

    Attributes:
        milliseconds: Wall time of each stroke.
        working: Time of each stroke on the processor, which a busy machine does not change.
        file_share: Bytes of the journal over bytes of the mask.
        base_share: Bytes of the mask that it starts from, compressed, over bytes of the mask.
    """

    milliseconds: list[float]
    working: list[float]
    file_share: float
    base_share: float

    def rows(self, side: int) -> list[Row]:
        """As rows of a benchmark, each with what is asked for."""
        size = f"{side}^3 uint8, {len(self.milliseconds)} strokes"
        stroke = "a stroke with its record on disk"
        high, middle = float(np.percentile(self.working, 99)), statistics.median(self.milliseconds)
        return [
            Row(f"{stroke}, median, {size}", middle, STROKE_MS, "ms", at_most=True),
            Row(
                f"{stroke}, 99th percentile of processor time, {size}",
                high,
                STROKE_MS,
                "ms",
                at_most=True,
            ),
            Row(f"journal over mask, bytes, {size}", 100 * self.file_share, 100 * FILE_SHARE, "%", at_most=True),
            Row(f"mask that the journal starts from over mask, bytes, {size}", 100 * self.base_share, unit="%"),
        ]


def organ(side: int) -> Labels:
    """A mask with two organs, as a network may have made it."""
    ball = np.linspace(-1, 1, side) ** 2
    radius = ball[:, None, None] + ball[None, :, None] + ball[None, None, :]
    return (radius < 0.5).astype(np.uint8) + (radius < 0.1).astype(np.uint8)


def hand(side: int, draw: np.random.Generator, dabs: int = 30) -> list[tuple[int, int, int]]:
    """Where the brush is put down along one stroke, in (z, y, x); nearer to each other than its radius."""
    z, y, x = draw.integers(side // 8, side - side // 8, 3)
    angle = draw.uniform(0, 2 * np.pi)
    found = [(int(y + 3 * n * np.sin(angle)), int(x + 3 * n * np.cos(angle))) for n in range(dabs)]
    return [(int(z), min(max(b, 0), side - 1), min(max(c, 0), side - 1)) for b, c in found]


def measure_journal(side: int = 512, strokes: int = 500, brush: int = 20) -> JournalCost:
    """Paint strokes into a mask under a journal.

    Args:
        side: Voxels along each axis of the mask.
        strokes: How many.
        brush: Diameter of the brush in voxels.
    """
    labels, draw, disk = organ(side), np.random.default_rng(0), _disk(brush)
    log = EditLog(labels.shape)

    with TemporaryDirectory() as folder:
        grid = Grid.from_spacing((side, side, side), (1.0, 1.0, 1.0))
        header = Header.of("0" * 32, grid, labels, ("background", "organ", "core"), {})
        journal = Journal(Path(folder) / "bench.journal", header)
        journal.begin(log, labels)()
        journal.settle()
        start, times, working = journal.size, [], []
        for number in range(strokes):
            atoms = [_dab(labels, at, disk, number % 3) for at in hand(side, draw)]
            began, worked = time.perf_counter(), time.thread_time()
            edit = Edit.from_atoms([atom for atom in atoms if atom is not None], labels.shape, tool="paint")
            if edit is not None:
                log.append(edit)
            log.follow(labels)
            _ = log.edited_count
            times.append(1000 * (time.perf_counter() - began))
            working.append(1000 * (time.thread_time() - worked))
        base = sum(path.stat().st_size for path in Path(folder).glob("*.base"))
        cost = JournalCost(times, working, (journal.size - start) / labels.nbytes, base / labels.nbytes)
        journal.close()
    return cost


def _disk(brush: int) -> NDArray[np.bool_]:
    away = np.arange(brush) - (brush - 1) / 2
    return (away[:, None] ** 2 + away[None] ** 2) <= (brush / 2) ** 2


def _dab(labels: Labels, at: tuple[int, int, int], disk: NDArray[np.bool_], label: int) -> SimpleNamespace | None:
    """One dab of the brush, written into the mask and told as napari tells it; None where it changes nothing."""
    half = len(disk) // 2
    low = [max(0, at[axis] - half) for axis in (1, 2)]
    high = [min(labels.shape[axis], at[axis] - half + len(disk)) for axis in (1, 2)]
    box = (slice(at[0], at[0] + 1), slice(low[0], high[0]), slice(low[1], high[1]))
    starts = [low[0] - at[1] + half, low[1] - at[2] + half]
    part = disk[starts[0] : starts[0] + high[0] - low[0], starts[1] : starts[1] + high[1] - low[1]][None]
    region = labels[box]
    mask = part & (region != label)
    if not mask.any():
        return None
    atom = SimpleNamespace(slice_key=box, mask=mask, old_values=region[mask], new_value=label)
    region[mask] = label
    return atom
