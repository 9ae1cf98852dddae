"""The file beside a mask that says how the mask was made, and how much of it a person changed since."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medattn.data.formats import stem
from napari_medattn.errors import InputError
from napari_medattn.files import atomic_write
from napari_medattn.geometry import Grid

Record = dict[str, Any]


def record_path(mask: Path) -> Path:
    """Where the record of a mask lies."""
    return mask.with_name(f"{stem(mask)}.json")


def read_record(path: Path) -> Record:
    """Read a record.

    Raises:
        InputError: If there is none.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(found, dict):
            raise TypeError("it holds no fields")
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path} is no record of a mask ({error}).", "Choose the JSON file beside a mask.") from error
    return found


def record_beside(mask: Path) -> Record | None:
    """The record of a mask's file, or None where there is none, or another file of that name."""
    try:
        found = read_record(record_path(mask))
    except InputError:
        return None
    return found if is_record(found) and found.get("mask", mask.name) == mask.name else None


def is_record(record: Mapping[str, Any]) -> bool:
    """Whether it is the whole record of a run, from which the mask can be made again."""
    return "format" in record and "weights_sha256" in record


def write_record(
    mask: Path, record: Mapping[str, Any], labels: NDArray[np.integer], class_names: Sequence[str], grid: Grid
) -> Record:
    """Write the record of a mask that has just been written.

    Args:
        mask: The mask's file.
        record: How it was made.
        labels: What the file holds.
        class_names: Names of the labels from 0.
        grid: Where the mask lies.

    Returns:
        The record with what is counted here: the voxels of each class.
    """
    voxels = {name: int(np.count_nonzero(labels == number)) for number, name in enumerate(class_names)}
    volume = float(np.prod(grid.spacing)) if grid.units == "mm" else None
    whole = {**record, "mask": mask.name, "voxels": voxels, "voxel_mm3": volume}
    with atomic_write(record_path(mask)) as temporary:
        temporary.write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return whole


def edited_since(record: Mapping[str, Any], edited: int, size: int) -> Record:
    """A record after a person edited some voxels.

    Args:
        record: How the mask was before: made by a network, or read with what was edited in an earlier session. Which
            voxels those were is not known any more, so what was edited both times counts twice.
        edited: Number of voxels edited since.
        size: Number of the mask's voxels.
    """
    before = float(record.get("share_edited", 0.0))
    return {**record, "share_edited": min(1.0, before + edited / max(1, size))}
