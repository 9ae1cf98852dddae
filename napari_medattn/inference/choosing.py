"""What a run begins with: tile, batch and a place for unfinished slices, by what the device has free."""

from __future__ import annotations

from dataclasses import replace

from napari_medattn.data.tiles import Shape, TilePlan, plan_tiles
from napari_medattn.device import as_size, available_memory, free_memory
from napari_medattn.inference.blend import Batches, blend_bytes
from napari_medattn.inference.predictor import Predictor
from napari_medattn.inference.scope import Box, touching
from napari_medattn.inference.settings import Attempt, Limits, Place, RunSettings

# Voxels at a time: on a CPU so few that Cancel stays quick, elsewhere enough to fill the device.
_BATCH_VOXELS = {"cpu": 1 << 16, "cuda": 1 << 21, "mps": 1 << 18}
_MOST_BYTES = 1 << 13  # per voxel of a tile; no network here takes more, so what fits at that rate is not measured
_WORKSPACE = 1.5  # what libraries take on top of the tensors
_SHARE = 0.9  # of the free memory that may be planned for
_ACCUMULATOR_SHARE = 0.3  # of a device's free memory, or of the main one


def first_attempt(predictor: Predictor, settings: RunSettings) -> Attempt:
    """What is tried first, before memory is looked at."""
    tile = settings.tile or predictor.card.tile
    voxels = _BATCH_VOXELS.get(predictor.device.type, 1 << 16)
    batch = settings.batch or max(1, voxels // (tile[0] * tile[1] * tile[2]))
    place: Place = "device" if settings.accumulator == "auto" else settings.accumulator
    return Attempt(str(predictor.device), predictor.precision, tile, batch, place)


def limits(predictor: Predictor, first: Attempt) -> Limits:
    """How far down a run may go: tiles of half the side that the network was trained on, but not smaller."""
    stride = predictor.stride
    smallest = tuple(
        min(have, max(step, -(-side // 2 // step) * step))
        for have, side, step in zip(first.tile, predictor.card.tile, stride, strict=True)
    )
    return Limits(stride, smallest, first)


def cut_up(
    shape: Shape, needed: Box, predictor: Predictor, attempt: Attempt, overlap: float
) -> tuple[TilePlan, Batches]:
    """How a volume is cut, and the tiles that a box of it needs, in batches."""
    plan = plan_tiles(shape, attempt.tile, predictor.stride, overlap)
    starts = touching(plan, needed)
    return plan, [starts[n : n + attempt.batch] for n in range(0, len(starts), attempt.batch)]


def place_accumulator(
    predictor: Predictor, attempt: Attempt, plan: TilePlan, batches: Batches, settings: RunSettings
) -> Attempt:
    """The attempt with unfinished slices where they fit: on the device, in main memory, or on disk."""
    if settings.accumulator != "auto" or attempt.accumulator != "device":
        return attempt
    needed = blend_bytes(plan, batches, len(predictor.card.class_names), settings.half)
    places: list[tuple[Place, int | None]] = [("device", free_memory(predictor.device)), ("memory", available_memory())]
    for place, free in places:
        if free is None or needed < _ACCUMULATOR_SHARE * free:
            return replace(attempt, accumulator=place)
    return replace(attempt, accumulator="disk")


def too_much(predictor: Predictor, attempt: Attempt, plan: TilePlan) -> str:
    """Why a batch would not fit into the device's memory, or nothing if it may."""
    free = free_memory(predictor.device)
    if free is None:
        return ""
    voxels = plan.tile[0] * plan.tile[1] * plan.tile[2] * attempt.batch
    if voxels * _MOST_BYTES < _SHARE * free:
        return ""
    one = predictor.forward_bytes(plan.tile)
    needed = _WORKSPACE * attempt.batch * (one or 0) * (1 if attempt.precision == "fp32" else 0.6)
    if needed < _SHARE * free:
        return ""
    return f"a batch would take about {as_size(needed)}, {as_size(free)} are free"
