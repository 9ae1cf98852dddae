"""The record of a run: how a mask was made, as plain data, and the way back from it to the same mask."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from napari_medattn._version import __version__
from napari_medattn.data import Prepared
from napari_medattn.data.slabs import Slabs
from napari_medattn.data.tidy import Tidy
from napari_medattn.data.tiles import TilePlan
from napari_medattn.device import describe_device
from napari_medattn.errors import InputError
from napari_medattn.inference.predictor import Predictor
from napari_medattn.inference.scope import Box
from napari_medattn.inference.settings import Attempt, RunSettings

FORMAT = 2


def describe_run(predictor: Predictor, prepared: Prepared | Slabs, plan: TilePlan, overlap: float) -> dict[str, Any]:
    """How a network was run over a scan, as plain data."""
    card = predictor.card
    return {
        "format": FORMAT,
        "image": prepared.source.name,
        "checkpoint": card.name,
        "weights_sha256": card.weights_sha256,
        "parent": card.parent,
        "parent_name": card.parent_name,
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


def describe_settings(
    settings: RunSettings, attempt: Attempt, steps: Sequence[dict[str, str]], box: Box | None
) -> dict[str, Any]:
    """What a run was asked for and settled on, so that it can be run again."""
    return {
        "device_name": attempt.device,
        "threads": torch.get_num_threads(),
        "batch": attempt.batch,
        "accumulator": attempt.accumulator,
        "accumulated_in": "float16" if settings.half else "float32",
        "flips": settings.flips,
        "skip_below": settings.skip_below,
        "box": None if box is None else [[side.start, side.stop] for side in box],
        "ladder": list(steps),
        "seed": None,  # nothing is drawn at random
    }


def hash_labels(labels: NDArray[Any]) -> str:
    """SHA-256 of a mask (Z, Y, X) as 32-bit numbers, whatever the type it is stored in."""
    digest = hashlib.sha256(str(tuple(labels.shape)).encode())
    for plane in labels:
        digest.update(np.ascontiguousarray(plane, dtype="<i4").data)
    return digest.hexdigest()


def run_again(record: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `segment` that make the mask of a record again.

    Threads are not among them: call ``torch.set_num_threads(record["threads"])`` first, as sums on a CPU depend on
    their order in the last digits.

    Raises:
        InputError: If the record is none, or of another layout.
    """
    try:
        if record["format"] != FORMAT:
            raise InputError(
                f"The record has layout {record['format']}, known here is {FORMAT}.", "Segment the image anew."
            )
        z, y, x = (int(side) for side in record["tile"])
        box = record["box"]
        return {
            "device": str(record["device_name"]),
            "precision": str(record["precision"]),
            "box": None if box is None else tuple(slice(int(a), int(b)) for a, b in box),
            "tidy": tuple(Tidy.parse(step["step"]) for step in record["tidy"]),
            "settings": RunSettings(
                overlap=float(record["overlap"]),
                flips=str(record["flips"]),
                skip_below=record["skip_below"],
                tile=(z, y, x),
                batch=int(record["batch"]),
                accumulator=record["accumulator"],
                half=record["accumulated_in"] == "float16",
            ),
        }
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"This is no record of a mask ({error!r}).", "Choose the JSON file beside a mask.") from error
