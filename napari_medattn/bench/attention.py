"""``medattn bench attention``: what looking costs: asking a voxel, listening to a forward pass, scrolling, memory.

Each family with queries runs at its paper's size, with fresh weights, on two threads. The image is 512 x 512 per slice,
so a query ends with three maps of that size. Sites are the three with most positions: the dearest ones.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
import torch

from napari_medattn.bench.memory import extra_megabytes, in_fresh_process
from napari_medattn.bench.row import Row
from napari_medattn.bench.yardstick import in_turn, threads
from napari_medattn.data import Preparation, Volume
from napari_medattn.events import Progress
from napari_medattn.geometry import Grid
from napari_medattn.inference import Predictor
from napari_medattn.look import Atlas, Scene, ask, can_ask
from napari_medattn.models import create_model
from napari_medattn.store import Card

THREADS = 2
SIDE, SLICES = 512, 200  # of the image
QUERY_MS, MEMORY_GB = 50.0, 2.0
TICKED, TICKED_FOR_MEMORY = 3, 10
NEIGHBOURS = 2  # slices on either side that the network of the memory test sees, as the shipped ones do


@dataclass(frozen=True)
class Family:
    """A network with queries.

    Attributes:
        name: Name in the registry.
        side: Y and X of the input in its paper.
    """

    name: str
    side: int

    def predictor(self, *, resample: bool = True, neighbours: int = 0) -> Predictor:
        """The network with fresh weights, on the CPU.

        Args:
            resample: Whether a slice is brought to one tile of the paper's size; else it is covered by tiles.
            neighbours: Slices on either side that it sees.
        """
        torch.manual_seed(0)
        arguments = {"in_channels": 1 + 2 * neighbours, "num_classes": 2, "spatial_dims": 2}
        spacing = (1.0, SIDE / self.side, SIDE / self.side) if resample else None
        card = Card(
            name=f"{self.name} of the paper",
            network=self.name,
            arguments=arguments,
            class_names=("background", "structure"),
            preparation=Preparation(spacing=spacing, neighbours=neighbours),
            tile=(1, self.side, self.side),
        )
        model = create_model(self.name, **arguments)  # type: ignore[arg-type]
        return Predictor(model, card, torch.device("cpu"))


FAMILIES = (Family("medt", 128), Family("dae_former", 224), Family("self_guided", 256))


def scan(slices: int) -> Volume:
    """Noise of 512 x 512 voxels per slice."""
    shape = (slices, SIDE, SIDE)
    values = np.random.default_rng(0).integers(-1000, 1000, (1, *shape), dtype=np.int16)
    return Volume(values, Grid.from_spacing(shape, (1.0, 1.0, 1.0)), name="noise")


def finest(predictor: Predictor, count: int) -> list[str]:
    """The sites with queries that have most positions."""
    sites = [site for site in predictor.sites.values() if can_ask(site)]
    return [site.key for site in sorted(sites, key=lambda site: math.prod(site.stride))][:count]


def measure(quick: bool = False) -> Generator[Progress, None, list[Row]]:
    """Measure all families.

    Args:
        quick: Fewer voxels and slices.

    Yields:
        Progress before each family.

    Returns:
        The rows of the table.
    """
    rows: list[Row] = []
    for count, family in enumerate(FAMILIES):
        yield Progress(family.name, count, len(FAMILIES) + 1, "measurements")
        with threads(THREADS):
            rows += _family_rows(family, 15 if quick else 100, 1 if quick else 5)
    yield Progress("memory", len(FAMILIES), len(FAMILIES) + 1, "measurements")
    return rows + _memory_rows(quick)


def _family_rows(family: Family, voxels: int, rounds: int) -> list[Row]:
    predictor = family.predictor()
    scene = Scene(scan(2), predictor)
    keys = finest(predictor, TICKED)
    atlas = Atlas(scene)
    atlas.keep(atlas.make(0, keys, keys))
    tiles = scene.tiles(0)
    asked = _query_times(atlas, keys, voxels)
    note = f"{TICKED} sites, 95 % within {np.percentile(asked, 95):.0f} ms"
    listening = in_turn(lambda: predictor.run(tiles, keys), lambda: predictor.run(tiles), rounds)
    looking = in_turn(lambda: atlas.make(0, keys), lambda: predictor.run(tiles), rounds)
    name, size = family.name, f"{family.side} x {family.side}"
    return [
        Row(f"{name} {size}: voxel to pixels", statistics.median(asked), QUERY_MS, "ms", at_most=True, note=note),
        Row(f"{name} {size}: forward listened to / not", listening, note=f"{TICKED} sites"),
        Row(f"{name} {size}: forward with maps / without", looking, note=f"{TICKED} sites"),
        Row(f"{name} {size}: scroll to a known slice", _scroll_time(atlas, keys), None, "ms", note=f"{TICKED} sites"),
    ]


def _query_times(atlas: Atlas, keys: list[str], voxels: int) -> list[float]:
    """Milliseconds from a voxel to what each site's layer shows of the slice."""
    scene, box = atlas.scene, (slice(0, 1), slice(0, SIDE), slice(0, SIDE))
    times = []
    for y, x in np.random.default_rng(1).integers(0, SIDE, (voxels + 1, 2)):
        began = time.perf_counter()
        spot = scene.locate((0, int(y), int(x)))
        glance = atlas.glance(spot)
        assert glance is not None
        for answer in [ask(scene, glance, key, spot) for key in keys]:
            atlas.draw_answer(answer, None, box)
        times.append((time.perf_counter() - began) * 1e3)
    return times[1:]


def _scroll_time(atlas: Atlas, keys: list[str], repeats: int = 15) -> float:
    """Milliseconds that the maps of a slice take to be drawn when they are there already."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        for key in keys:
            atlas.draw(key, None, (slice(0, 1), slice(0, SIDE), slice(0, SIDE)))
        times.append((time.perf_counter() - began) * 1e3)
    return statistics.median(times)


def _memory_rows(quick: bool) -> list[Row]:
    slices = 2 if quick else 6
    megabytes = in_fresh_process(__name__, str(slices))
    if megabytes is None:
        return []
    name = f"peak memory with {TICKED_FOR_MEMORY} sites on {SIDE}x{SIDE}x{SLICES}, image not counted"
    note = f"medt in tiles of 128 x 128, {slices} slices scrolled and asked, plus what the cache may still grow"
    return [Row(name, megabytes / 1024, MEMORY_GB, "GB", at_most=True, note=note)]


def _most_megabytes(slices: int) -> float | None:
    """The peak while slices are scrolled through and asked, as if the cache of maps were full from the start."""
    volume = scan(SLICES)
    predictor = FAMILIES[0].predictor(resample=False, neighbours=NEIGHBOURS)
    keys = [key for key, site in predictor.sites.items() if site.spatial][:TICKED_FOR_MEMORY]
    room = 0.0

    def scroll() -> None:
        nonlocal room
        atlas = Atlas(Scene(volume, predictor))
        for frame in range(slices):
            atlas.keep(atlas.make(frame, keys, keys))
            atlas.draw(keys[0], None, (slice(frame, frame + 1), slice(0, SIDE), slice(0, SIDE)))
        room = max(0, atlas.limit - atlas.bytes) / (1 << 20)

    with threads(THREADS):
        found = extra_megabytes(scroll)
    return None if found is None else found + room


if __name__ == "__main__":
    import sys

    most = _most_megabytes(int(sys.argv[1]))
    print("" if most is None else most)
