"""Segment a whole volume, tile by tile."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_medattn._version import __version__
from napari_medattn.attention.capture import choose_sites
from napari_medattn.data import Prepared, Volume, prepare
from napari_medattn.data.tiles import Stitcher, TileMean, TilePlan, cut, plan_tiles
from napari_medattn.device import describe_device
from napari_medattn.events import Progress, run_to_end
from napari_medattn.inference.prediction import AttentionMap, Prediction
from napari_medattn.inference.predictor import Predictor
from napari_medattn.store import Checkpoint, load_checkpoint

Float = NDArray[np.float32]


def segment(
    volume: Volume,
    checkpoint: Checkpoint | Predictor | str | Path,
    *,
    device: str = "auto",
    precision: str = "fp32",
    attention: Iterable[str] | None = (),
    probabilities: bool = False,
    uncertainty: bool = False,
    overlap: float = 0.25,
) -> Prediction:
    """Segment a volume.

    Args:
        volume: The image.
        checkpoint: A checkpoint, its name or path, or a network that is already loaded.
        device: ``"auto"``, ``"cpu"``, ``"cuda:N"`` or ``"mps"``; ignored for a loaded network.
        precision: ``"fp32"`` or ``"bf16"``, see `Predictor`; ignored for a loaded network.
        attention: Keys of the sites whose maps are wanted; None for all of them.
        probabilities: Whether to give the class probabilities too.
        uncertainty: Whether to give the entropy of the probabilities too.
        overlap: Share of a tile that neighbouring tiles have in common.

    Returns:
        The mask on the volume's own grid, and what was asked for.

    Raises:
        InputError: If the network cannot take the volume.
        CheckpointError: If the checkpoint is missing or damaged.
        DeviceError: If the device is not there.
    """
    steps = segment_steps(
        volume,
        checkpoint,
        device=device,
        precision=precision,
        attention=attention,
        probabilities=probabilities,
        uncertainty=uncertainty,
        overlap=overlap,
    )
    return run_to_end(steps)


def segment_steps(
    volume: Volume,
    checkpoint: Checkpoint | Predictor | str | Path,
    *,
    device: str = "auto",
    precision: str = "fp32",
    attention: Iterable[str] | None = (),
    probabilities: bool = False,
    uncertainty: bool = False,
    overlap: float = 0.25,
) -> Generator[Progress, None, Prediction]:
    """`segment` as a generator that can be left after every batch of tiles.

    Yields:
        Progress, once before the first tile and once after each batch.
    """
    began = time.monotonic()
    yield Progress("preparing", 0, 0)
    predictor = _predictor(checkpoint, device, precision)
    predictor.check(volume)
    asked = None if attention is None else list(attention)
    keys = [] if asked == [] else [site.key for site in choose_sites(predictor.model, asked)]
    prepared = prepare(volume, predictor.card.preparation)
    plan = plan_tiles(prepared.array.shape[1:], predictor.card.tile, predictor.stride, overlap)
    try:
        blended = yield from _run_tiles(predictor, prepared, plan, keys)
    finally:
        predictor.free()
    yield Progress("finishing", len(plan), len(plan), "tiles", time.monotonic() - began)
    found = blended.pop("")
    z, y, x = plan.shape
    labels, on_grid = _onto_source(prepared, found[:, :z, :y, :x], probabilities or uncertainty)
    yield Progress("finishing", len(plan), len(plan), "tiles", time.monotonic() - began)  # the last chance to cancel
    return Prediction(
        volume=volume,
        labels=labels,
        class_names=predictor.card.class_names,
        probabilities=on_grid if probabilities else None,
        uncertainty=_entropy(on_grid) if uncertainty and on_grid is not None else None,
        sites=tuple(predictor.sites.values()),
        attention={
            key: AttentionMap(predictor.sites[key], values, prepared, plan.tile) for key, values in blended.items()
        },
        record={**describe_run(predictor, prepared, plan, overlap), "seconds": round(time.monotonic() - began, 3)},
    )


def _predictor(checkpoint: Checkpoint | Predictor | str | Path, device: str, precision: str) -> Predictor:
    if isinstance(checkpoint, Predictor):
        return checkpoint
    if not isinstance(checkpoint, Checkpoint):
        checkpoint = load_checkpoint(checkpoint)
    return Predictor.load(checkpoint, device, precision)


def _run_tiles(
    predictor: Predictor, prepared: Prepared, plan: TilePlan, keys: Sequence[str]
) -> Generator[Progress, None, dict[str, Float]]:
    """The blended probabilities under ``""`` and the blended maps under their keys, on the padded grid."""
    stitchers: dict[str, Stitcher | TileMean] = {}
    began, done = time.monotonic(), 0
    yield Progress("segmenting", 0, len(plan), "tiles")
    for starts in _batches(plan.starts, _batch_size(plan)):
        tiles = np.stack([cut(prepared.array, plan, start) for start in starts])
        outputs, maps = predictor.probabilities(tiles, keys)
        for key, values in {"": outputs, **maps}.items():
            if key not in stitchers:
                placed = not key or predictor.sites[key].spatial
                stitchers[key] = _stitcher(plan, values.shape) if placed else TileMean()
            for start, one in zip(starts, values, strict=True):
                stitchers[key].add(start, one)
        done += len(starts)
        yield Progress("segmenting", done, len(plan), "tiles", time.monotonic() - began)
    return {key: stitcher.result() for key, stitcher in stitchers.items()}


def _stitcher(plan: TilePlan, shape: tuple[int, ...]) -> Stitcher:
    """For outputs (B, channels, Z, Y, X) of one tile."""
    stride = tuple(t // n for t, n in zip(plan.tile, shape[2:], strict=True))
    return Stitcher(plan, shape[1], stride)


def _batches(items: Sequence[Any], size: int) -> Iterable[Sequence[Any]]:
    return (items[first : first + size] for first in range(0, len(items), size))


def _batch_size(plan: TilePlan, voxels: int = 1 << 16) -> int:
    """Small tiles go through together: about ``voxels`` voxels at a time, so that Cancel stays quick."""
    return max(1, voxels // int(np.prod(plan.tile)))


def _onto_source(prepared: Prepared, found: Float, keep: bool) -> tuple[NDArray[np.uint8], Float | None]:
    """Labels on the source grid, and the probabilities there if they are wanted.

    The most probable class is taken on the source grid; where no voxel is interpolated that is the same as
    taking it before, and far cheaper.
    """
    interpolated = tuple(found.shape[1:]) != prepared.turned_shape
    on_grid = prepared.restore(found) if interpolated or keep else None
    winner = np.argmax(found if on_grid is None else on_grid, axis=0).astype(np.uint8)
    if on_grid is None:
        winner = prepared.turn.undo(winner[None])[0]
    return np.ascontiguousarray(winner), on_grid if keep else None


def _entropy(probabilities: Float) -> Float:
    safe = np.clip(probabilities, 1e-7, 1.0)
    return -(safe * np.log(safe)).sum(axis=0) / np.float32(np.log(len(safe)))  # type: ignore[no-any-return]


def describe_run(predictor: Predictor, prepared: Prepared, plan: TilePlan, overlap: float) -> dict[str, Any]:
    """How a network was run over a scan, as plain data."""
    card = predictor.card
    return {
        "image": prepared.source.name,
        "checkpoint": card.name,
        "weights_sha256": card.weights_sha256,
        "parent": card.parent,
        "network": card.network,
        "trained_on": card.trained_on or "untrained",
        "class_names": list(card.class_names),
        "device": describe_device(predictor.device),
        "precision": predictor.precision,
        "preparation": asdict(card.preparation),
        "tile": list(plan.tile),
        "tiles": len(plan),
        "overlap": overlap,
        "notes": list(prepared.notes),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"napari_medattn": __version__, "torch": torch.__version__, "numpy": np.__version__},
    }
