"""Across the network: how far each head of each site looks and how widely it spreads, as a table."""

from __future__ import annotations

import csv
import time
from collections.abc import Generator, Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Literal

import numpy as np

from napari_medattn.attention.capture import choose_sites
from napari_medattn.attention.statistics import Statistics, pool, statistics
from napari_medattn.events import Progress
from napari_medattn.files import atomic_write
from napari_medattn.look.batches import batches, inside, starts_of, steps_of
from napari_medattn.look.scene import Scene

Column = Literal["entropy", "distance", "even_distance", "mean", "share_open", "head", "title", "kind"]


@dataclass(frozen=True)
class HeadRow:
    """One head of one site. What is not defined for its kind is None, and ``note`` says why.

    Attributes:
        key: The site.
        title: Its name for people.
        head: The head, counted from 0.
        kind: What kind of attention it is.
        entropy: Mean entropy of what a query attends to, 0 (one position) to 1 (spread evenly), see
            `attention.statistics`.
        distance: Mean distance attended.
        unit: ``"mm"``, or ``"voxels"`` where the voxel size is not known; empty without distance.
        even_distance: What the distance would be if every position counted alike.
        mean: For gates, the mean factor.
        share_open: For sigmoid gates, the share of positions with a factor above one half.
        note: What the numbers are of, or why there are none.
    """

    key: str
    title: str
    head: int
    kind: str
    entropy: float | None
    distance: float | None
    unit: str
    even_distance: float | None
    mean: float | None
    share_open: float | None
    note: str


def across_steps(
    scene: Scene, frames: Sequence[int] | None = None, sites: Iterable[str] | None = None
) -> Generator[Progress, None, tuple[HeadRow, ...]]:
    """Measure every head on some frames of a scan.

    Each tile goes through the network once, which feeds all sites.

    Args:
        scene: The scan before the network.
        frames: Which frames; all for None.
        sites: Keys of the sites; all for None.

    Yields:
        Progress, before the first batch of tiles and after each.

    Returns:
        A row for each head of each site, in forward order; see `sort_rows`.

    Raises:
        InputError: If a site is unknown or the network has none.
    """
    keys = [site.key for site in choose_sites(scene.predictor.model, sites)]
    starts, began, done = starts_of(scene, frames), time.monotonic(), 0
    parts: dict[str, list[Statistics]] = {key: [] for key in keys}
    yield Progress("measuring", 0, len(starts), "tiles")
    for some, tiles in batches(scene, starts):
        _, records = scene.predictor.run(tiles, keys)
        for key in keys:
            parts[key].append(statistics(records[key], steps_of(scene, key)[0], inside(scene, some, key)))
        del records
        done += len(some)
        yield Progress("measuring", done, len(starts), "tiles", time.monotonic() - began)
    return tuple(row for key in keys for row in _rows(scene, key, pool(parts[key])))


def sort_rows(rows: Iterable[HeadRow], by: Column, *, descending: bool = False) -> list[HeadRow]:
    """Rows by one of their columns; those where it is not defined come last either way."""
    rows = list(rows)
    known = [row for row in rows if getattr(row, by) is not None]
    known.sort(key=lambda row: getattr(row, by), reverse=descending)
    return known + [row for row in rows if getattr(row, by) is None]


def save_rows(rows: Iterable[HeadRow], path: Path | str) -> None:
    """Write rows as CSV; what is not defined stays empty.

    Raises:
        SaveError: If the file cannot be written.
    """
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(field.name for field in fields(HeadRow))
        writer.writerows(astuple(row) for row in rows)


def _rows(scene: Scene, key: str, found: Statistics) -> Iterable[HeadRow]:
    site, (_, unit) = scene.site(key), steps_of(scene, key)
    for head in range(site.heads):

        def at(values: np.ndarray | None, head: int = head) -> float | None:
            return None if values is None else float(values[head])

        yield HeadRow(
            key=key,
            title=site.title,
            head=head,
            kind=site.kind,
            entropy=at(found.entropy),
            distance=at(found.distance),
            unit=unit if found.distance is not None else "",
            even_distance=found.even_distance,
            mean=at(found.mean),
            share_open=at(found.share_open),
            note=found.note,
        )
