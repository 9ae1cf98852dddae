"""Maps of several sites on the whole scan, or on the part of it that a slice shows; and what one voxel attends to."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from napari_medattn.attention import Record
from napari_medattn.attention.capture import choose_sites
from napari_medattn.attention.records import RECORDS
from napari_medattn.data import Volume
from napari_medattn.data.tiles import Stitcher, TileMean, TilePlan
from napari_medattn.device import as_size, check_memory
from napari_medattn.errors import InputError
from napari_medattn.events import Progress, run_to_end
from napari_medattn.inference import Predictor
from napari_medattn.inference.placement import Box, Placement
from napari_medattn.inference.predictor import to_numpy
from napari_medattn.inference.volume_run import describe_run
from napari_medattn.look.batches import batches
from napari_medattn.look.placed_map import Asked, Heads, PlacedMap, Shape, choose_heads
from napari_medattn.look.query import Direction, ask, can_ask, partner_of, sites_to_listen
from napari_medattn.look.scene import Scene
from napari_medattn.models import AttentionSite
from napari_medattn.store import Checkpoint, load_checkpoint

Float = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Overview:
    """What a run over a scan gave.

    Attributes:
        maps: The sites' maps, by key.
        class_names: Names of the classes.
        labels: (Z, Y, X) class of each voxel on the image's grid, or of the box that was asked for.
    """

    maps: dict[str, PlacedMap]
    class_names: tuple[str, ...]
    labels: NDArray[np.uint8]


def attention_maps(
    volume: Volume,
    checkpoint: Checkpoint | Predictor | str | Path,
    sites: Iterable[str] | None = None,
    *,
    heads: Heads = "mean",
    query: Sequence[float] | None = None,
    direction: Direction = "to",
    device: str = "auto",
    precision: str = "fp32",
) -> list[PlacedMap]:
    """Where a network's attention sites look on a scan, ready to be saved and drawn: `save_maps`, `contact_sheet`.

    Args:
        volume: The image.
        checkpoint: A checkpoint, its name or path, or a network that is already loaded.
        sites: Keys of the sites; all of them for None.
        heads: ``"mean"``, ``"all"``, or one head counted from 0.
        query: A voxel (Z, Y, X) of the image: the maps are then what it attends to.
        direction: With a query: ``"to"`` what it attends to, ``"from"`` who attends to it, ``"through"`` axial rows and
            columns composed, an approximation.
        device: ``"auto"``, ``"cpu"``, ``"cuda:N"`` or ``"mps"``; ignored for a loaded network.
        precision: ``"fp32"`` or ``"bf16"``; ignored for a loaded network.

    Raises:
        InputError: For unknown sites or heads, a query outside the image or at a site without queries, or maps too
            large for memory.
        CheckpointError: If the checkpoint is missing or damaged.
        DeviceError: If the device is not there.
    """
    if not isinstance(checkpoint, Predictor):
        found = checkpoint if isinstance(checkpoint, Checkpoint) else load_checkpoint(checkpoint)
        checkpoint = Predictor.load(found, device, precision)
    scene = Scene(volume, checkpoint)
    keys = [site.key for site in choose_sites(checkpoint.model, sites)]
    if query is None:
        return list(run_to_end(overview_steps(scene, keys, heads=heads)).maps.values())
    return run_to_end(answers_steps(scene, keys, query, direction=direction, heads=heads))


def overview_steps(
    scene: Scene, keys: Sequence[str], *, box: Box | None = None, heads: Heads = "mean"
) -> Generator[Progress, None, Overview]:
    """Run the network over the tiles that a box of the image shows; heads are reduced where they are captured.

    Args:
        scene: The scan before the network.
        keys: Sites.
        box: Slices (Z, Y, X) of the image; the whole image for None. The maps are exact there, tiles beyond it that
            would have been blended in are part of the run.
        heads: Which head, counted from 0, the mean, or all.

    Yields:
        Progress, before the first forward pass and after each.

    Raises:
        InputError: For an unknown site or head, or if the maps would not fit into memory.
    """
    blanks = blank_maps(scene, keys, heads)
    sites = [blank.site for blank in blanks]
    whole = Placement(scene.prepared, scene.plan.padded, (1, 1, 1))
    box = whole.everything if box is None else box
    plan, begin = _part(scene, _needed(scene, sites, whole, box))
    _check_size(scene, sites, plan, heads)
    blended: dict[str, Stitcher | TileMean] = {}
    done, began = 0, time.monotonic()
    yield Progress("looking", 0, len(plan), "tiles")
    try:
        for starts, tiles in batches(scene, [_moved(start, begin, 1) for start in plan.starts]):
            probabilities, records = scene.predictor.run(tiles, keys)
            _add(scene, [_moved(start, begin, -1) for start in starts], probabilities, records, plan, heads, blended)
            done += len(starts)
            yield Progress("looking", done, len(plan), "tiles", time.monotonic() - began)
    finally:
        scene.predictor.free()
    maps = {
        blank.site.key: replace(blank, values=blended[blank.site.key].result(), begin=_on_map(scene, blank.site, begin))
        for blank in blanks
    }
    return Overview(maps, scene.predictor.card.class_names, _labels(whole, blended[""].result(), begin, box))


def answers_steps(
    scene: Scene,
    keys: Sequence[str],
    voxel: Sequence[float],
    *,
    direction: Direction = "to",
    heads: Heads = "mean",
) -> Generator[Progress, None, list[PlacedMap]]:
    """What a voxel attends to at several sites, from one forward pass.

    Args:
        scene: The scan before the network.
        keys: Sites, all with queries.
        voxel: (Z, Y, X) in the image.
        direction: Which question, see `look.query.ask`.
        heads: Which head, counted from 0, the mean, or all.

    Yields:
        Progress.

    Raises:
        InputError: If the voxel lies outside the image, or a site is unknown or has no queries or no such head.
    """
    blanks, spot = blank_maps(scene, keys, heads, voxel, direction), scene.locate(voxel)
    yield Progress("looking", 0, 1)
    listened = sites_to_listen(scene.predictor.sites, keys, direction)
    glance = scene.glance(spot.frame, listened, range(spot.tile, spot.tile + 1))
    start, made = scene.starts(spot.frame)[spot.tile], []
    for number, blank in enumerate(blanks):
        yield Progress("asking", number, len(keys), "sites")
        values = choose_heads(ask(scene, glance, blank.site.key, spot, direction).values, blank.site, heads)
        made.append(replace(blank, values=values, begin=_on_map(scene, blank.site, start)))
    scene.predictor.free()
    return made


def blank_maps(
    scene: Scene,
    keys: Sequence[str],
    heads: Heads = "mean",
    voxel: Sequence[float] | None = None,
    direction: Direction = "to",
) -> list[PlacedMap]:
    """The maps that a run will give, checked and described before it, with zeros for values.

    Args:
        scene: The scan before the network.
        keys: Sites.
        heads: Which head, counted from 0, the mean, or all.
        voxel: (Z, Y, X) in the image, if the maps are to answer a question.
        direction: Which question.

    Raises:
        InputError: As for `overview_steps` and `answers_steps`.
    """
    spot = None if voxel is None else scene.locate(voxel)
    record = describe_run(scene.predictor, scene.prepared, scene.plan, scene.overlap)
    size = (scene.plan.padded[0], scene.plan.padded[1], scene.plan.padded[2])
    blanks, tile = [], scene.plan.tile
    for site in (scene.site(key) for key in keys):
        nothing = choose_heads(np.zeros((site.heads, 1, 1, 1), np.float32), site, heads)
        asked, share = None, site.even_share(tile)
        if voxel is not None and spot is not None:
            if not can_ask(site):
                raise InputError(
                    f"{site.title} {RECORDS[site.kind].why_no_query}, so it has no query.",
                    "Save its map without a query, or choose a pairwise, axial or factored site.",
                )
            z, y, x = (round(float(at)) for at in voxel)
            partner = partner_of(scene.predictor.sites, site.key) if direction == "through" else None
            world = scene.volume.grid.to_world((z, y, x))
            asked = Asked(
                (z, y, x), world, spot.on_grid(site), "to" if direction == "through" and not partner else direction
            )
            share *= scene.site(partner).even_share(tile) if partner else 1
        blanks.append(
            PlacedMap(
                site, heads, nothing, scene.prepared, tile, size, share, asked is not None, (0, 0, 0), asked, record
            )
        )
    return blanks


def _needed(scene: Scene, sites: Sequence[AttentionSite], whole: Placement, box: Box) -> Box:
    """The prepared voxels below every map position that a box of the image shows."""
    spans = list(whole.needed(box))
    for site in sites:
        if site.spatial:
            parts = zip(spans, scene.placement(site.key).needed(box), scene.stride(site.key), strict=True)
            spans = [slice(min(a.start, b.start * step), max(a.stop, b.stop * step)) for a, b, step in parts]
    return spans[0], spans[1], spans[2]


def _part(scene: Scene, needed: Box) -> tuple[TilePlan, Shape]:
    """The tiles that have a part in some prepared voxels, as a plan of its own, and its first voxel."""
    plan = scene.plan
    chosen = [
        start
        for start in plan.starts
        if all(
            at < span.stop and at + size > span.start for at, size, span in zip(start, plan.tile, needed, strict=True)
        )
    ]
    z, y, x = (min(start[axis] for start in chosen) for axis in range(3))
    ends = [max(start[axis] for start in chosen) + plan.tile[axis] for axis in range(3)]
    size = tuple(end - first for end, first in zip(ends, (z, y, x), strict=True))
    return TilePlan(size, size, plan.tile, tuple(_moved(start, (z, y, x), -1) for start in chosen)), (z, y, x)


def _moved(start: Sequence[int], begin: Shape, sign: int) -> tuple[int, ...]:
    return tuple(at + sign * first for at, first in zip(start, begin, strict=True))


def _add(
    scene: Scene,
    starts: Sequence[tuple[int, ...]],
    probabilities: Float,
    records: Mapping[str, Record],
    plan: TilePlan,
    heads: Heads,
    blended: dict[str, Stitcher | TileMean],
) -> None:
    """Blend what one forward pass gave into the whole."""
    outputs = {"": probabilities}
    with torch.inference_mode():
        for key, record in records.items():
            outputs[key] = choose_heads(to_numpy(record.maps()), scene.site(key), heads, axis=1)
    for key, values in outputs.items():
        if key not in blended:
            spatial = not key or scene.site(key).spatial
            stride = scene.stride(key) if key and spatial else (1, 1, 1)
            blended[key] = Stitcher(plan, values.shape[1], stride) if spatial else TileMean()
        for start, one in zip(starts, values, strict=True):
            blended[key].add(start, one)


def _labels(whole: Placement, probabilities: Float, begin: Shape, box: Box) -> NDArray[np.uint8]:
    """The most probable class on a box of the image, slice by slice."""
    planes = []
    for z in range(box[0].start, box[0].stop):
        plane = (slice(z, z + 1), box[1], box[2])
        spans = (slice(s.start - b, s.stop - b) for s, b in zip(whole.needed(plane), begin, strict=True))
        planes.append(whole.draw(probabilities[(slice(None), *spans)], plane).argmax(axis=0).astype(np.uint8))
    return np.concatenate(planes)


def _check_size(scene: Scene, sites: Sequence[AttentionSite], plan: TilePlan, heads: Heads) -> None:
    """Refuse maps that would not fit into memory, before anything is allocated."""
    spatial = [site for site in sites if site.spatial]
    positions = {site.key: int(np.prod(plan.padded)) // int(np.prod(scene.stride(site.key))) for site in spatial}
    # Each map is kept with the sum of its weights, beside the probabilities.
    base = 4 * int(np.prod(plan.padded)) * (len(scene.predictor.card.class_names) + 1)
    mean = base + sum(4 * 2 * positions[site.key] for site in spatial)
    full = base + sum(4 * (site.heads + 1) * positions[site.key] for site in spatial)
    many = f"The maps of {len(spatial)} sites" if len(spatial) > 1 else "The map"
    if heads == "all" and full > mean:
        check_memory(full, f"{many} with all heads", f"Take the mean of the heads ({as_size(mean)}), or fewer sites.")
    else:
        check_memory(mean, many, "Take fewer sites, or crop the image.")


def _on_map(scene: Scene, site: AttentionSite, start: Sequence[int]) -> Shape:
    """A prepared voxel as a position on a site's map."""
    if not site.spatial:
        return 0, 0, 0
    z, y, x = (at // step for at, step in zip(start, scene.stride(site.key), strict=True))
    return z, y, x
