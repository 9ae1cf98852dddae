"""Segmenting a file: the mask with the image's exact geometry, and its record beside it."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from napari_medattn.data import Volume, read_volume, write_labels
from napari_medattn.data.formats import VALUE_SUFFIXES, open_values, stem
from napari_medattn.errors import InputError
from napari_medattn.events import Progress
from napari_medattn.inference.frames import retold, split_frames
from napari_medattn.inference.outputs import Measure
from napari_medattn.inference.prediction import Prediction
from napari_medattn.inference.predictor import Predictor
from napari_medattn.inference.settings import RunSettings
from napari_medattn.inference.volume_run import segment_steps
from napari_medattn.store.mask_record import Record, read_record, record_path, write_record

Steps = Generator[Progress, None, list[Record]]


@dataclass(frozen=True)
class Asked:
    """What is wanted of every image.

    Attributes:
        settings: How each is gone through.
        tidy: What is done to each mask afterwards, as text, see `Tidy`.
        uncertainty: Which measure is saved beside the mask, if any.
        frames: Whether the images are time series, segmented frame by frame.
        box: [start, stop] along (Z, Y, X) of the part that is wanted; None for all.
    """

    settings: RunSettings = field(default_factory=RunSettings)
    tidy: tuple[str, ...] = ()
    uncertainty: Measure | None = None
    frames: bool = False
    box: tuple[tuple[int, int], ...] | None = None

    def to_record(self) -> Record:
        """As plain data."""
        plain: Record = json.loads(json.dumps(asdict(self)))
        return plain


def segment_file_steps(image: Path, target: Path, predictor: Predictor, asked: Asked) -> Steps:
    """Segment a file; can be left after every batch of tiles, and then leaves nothing behind.

    Args:
        image: The image.
        target: Where the mask goes; the record goes beside it under the same name with ``.json``. A time series gets
            one mask per frame, with the frame's number behind the name.
        predictor: The network.
        asked: What is wanted.

    Yields:
        The events of the run.

    Returns:
        The records, one per mask.

    Raises:
        MedAttnError: If the image cannot be read or segmented, or a mask cannot be written.
    """
    yield Progress("reading", 0, 0)
    volume = read_volume(image)
    about: Record = {"asked": asked.to_record(), **_stamp(image)}
    if not asked.frames:
        prediction = yield from _segment(volume, predictor, asked)
        return [_save(prediction, target, about)]
    records, frames = [], split_frames(volume, predictor.channels)
    for number, (frame, path) in enumerate(zip(frames, frame_targets(target, len(frames)), strict=True)):
        steps = _segment(frame, predictor, asked)
        prediction = yield from retold(steps, f"frame {number + 1} of {len(frames)}")
        records.append(_save(prediction, path, {**about, "frame": number, "frames": len(frames)}))
    return records


def frame_targets(target: Path, count: int) -> list[Path]:
    """Where the masks of a time series go."""
    name, digits = stem(target), len(str(count - 1))
    ending = target.name[len(name) :]
    return [target.with_name(f"{name}_t{number:0{digits}d}{ending}") for number in range(count)]


def finished(image: Path, target: Path, predictor_hash: str, asked: Asked) -> list[Record] | None:
    """The records of masks that this very network made of this very file as asked, or None if one is missing."""
    wanted = {"asked": asked.to_record(), **_stamp(image), "weights_sha256": predictor_hash}
    first = target if not asked.frames else next(iter(target.parent.glob(f"{stem(target)}_t*.json")), target)
    try:
        count = int(read_record(record_path(first) if first is target else first).get("frames", 1))
        masks = frame_targets(target, count) if asked.frames else [target]
        found = [read_record(record_path(mask)) for mask in masks]
    except InputError:
        return None
    same = all(record.get(key) == value for record in found for key, value in wanted.items())
    return found if same and all(mask.exists() for mask in masks) else None


def _segment(volume: Volume, predictor: Predictor, asked: Asked) -> Generator[Progress, None, Prediction]:
    box = None if asked.box is None else [slice(start, stop) for start, stop in asked.box]
    return segment_steps(
        volume,
        predictor,
        uncertainty=asked.uncertainty or False,
        box=box,
        tidy=asked.tidy,
        settings=asked.settings,
    )


def _save(prediction: Prediction, target: Path, about: Mapping[str, Any]) -> Record:
    """Write the mask, what goes with it, and last the record, which says that all is there."""
    volume = prediction.volume
    if prediction.uncertainty is not None:
        ending = target.name[len(stem(target)) :]
        ending = ending if ending in VALUE_SUFFIXES else ".nii.gz"
        values = target.with_name(f"{stem(target)}_uncertainty{ending}")
        with open_values(values, volume) as put:
            for plane in prediction.uncertainty:
                put(np.ascontiguousarray(plane[None]))
    write_labels(target, prediction.labels, like=volume, class_names=prediction.class_names)
    record = {**prediction.record, **about}
    return write_record(target, record, prediction.labels, prediction.class_names, volume.grid)


def _stamp(image: Path) -> Record:
    """Which file it is, and whether it was changed since; of a folder, the latest change in it."""
    files = [image] if image.is_file() else [path for path in image.rglob("*") if path.is_file()]
    return {
        "image_file": str(image.resolve()),
        "image_changed": max((path.stat().st_mtime_ns for path in files), default=0),
        "image_bytes": sum(path.stat().st_size for path in files),
    }
