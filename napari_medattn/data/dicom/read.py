"""Reading DICOM: a folder, a file or a list of files becomes one volume."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medattn.data.dicom.frames import Frame
from napari_medattn.data.dicom.pixels import read_frames, values_type
from napari_medattn.data.dicom.series import Series, list_series
from napari_medattn.data.dicom.source import DicomSource, to_ras
from napari_medattn.data.dicom.stacking import Stack, stack
from napari_medattn.data.lazy import by_pages
from napari_medattn.data.reading import LAZY_BYTES, check_memory
from napari_medattn.data.volume import Volume
from napari_medattn.errors import ReadError

_NAMED = 8  # series that are named in a message


def read(path: Path, series: int | None = None) -> Volume:
    """Read a series from a folder, or what a single file holds.

    Args:
        path: A folder or a file.
        series: Which series, from 1, where a folder holds several.

    Raises:
        ReadError: If there are several series and none was chosen, or the images cannot be read.
    """
    from napari_medattn.data.dicom.segmentation_read import is_segmentation, read_segmentation

    if path.is_file() and is_segmentation(path):
        return read_segmentation(path)
    found = list_series(path)
    if len(found) > 1 and series is None:
        listed = "; ".join(f"{n}: {one.label}" for n, one in enumerate(found[:_NAMED], 1))
        more = f"; and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        raise ReadError(
            f"{path.name} holds {len(found)} series: {listed}{more}.",
            "Choose one by its number (--series, or read_volume's series), or give the folder of one alone.",
        )
    if not 1 <= (series or 1) <= len(found):
        raise ReadError(f"{path.name} has no series {series}.", f"Choose from 1 to {len(found)}.")
    return read_series(found[(series or 1) - 1], path)


def read_series(series: Series, path: Path) -> Volume:
    """Read the images of a series.

    Args:
        series: From `list_series`.
        path: Where it was found.
    """
    stacked = stack(path.name, series.frames)
    array = _voxels(path, series, stacked)
    notes = list(stacked.notes)
    if series.inverted:
        notes.append("Low values are meant to be shown bright.")
    channels = len(next(slot for slot in stacked.slots if slot is not None))
    if channels > 1:
        notes.append(f"Each position has {channels} images: they are its channels.")
    return Volume(
        array,
        stacked.grid,
        name=series.title,
        spatial_dims=2 if len(stacked.slots) == 1 else 3,
        path=path,
        header=_source(stacked),
        notes=tuple(notes),
        modality=series.modality,
    )


def _source(stacked: Stack) -> DicomSource:
    frames = [slot[0] if slot else None for slot in stacked.slots]
    return DicomSource(
        frames=tuple(frame.ref if frame else None for frame in frames),
        corners=tuple(to_ras(frame.position) if frame else None for frame in frames),
        uneven=stacked.uneven,
    )


def _voxels(path: Path, series: Series, stacked: Stack) -> Any:
    """(C, Z, Y, X); large ones are read slice by slice when they are asked for."""
    z, y, x = stacked.grid.shape
    present = [slot for slot in stacked.slots if slot is not None]
    times, samples = len(present[0]), 3 if series.palette else present[0][0].samples
    dtype = np.dtype(np.uint8) if series.palette else values_type([frame for slot in present for frame in slot])
    needed = float(times * samples * z * y * x * dtype.itemsize)
    own_files = len({frame.ref.path for slot in present for frame in slot}) == times * len(present)
    if needed > LAZY_BYTES and own_files and len(present) == z and samples == 1:
        ordered = [slot[time] for time in range(times) for slot in present]

        def page(number: int) -> NDArray[Any]:
            frame = ordered[number]
            return read_frames(frame.ref.path, [frame], dtype)[0]

        return by_pages(page, len(ordered), (y, x), dtype).reshape(times, z, y, x)
    check_memory(path, 2 * needed)
    array: NDArray[Any] | None = None
    for frame_values, time, place in _each(stacked, dtype):
        if array is None:
            array = np.zeros((times, samples, z, y, x), frame_values.dtype)
        if frame_values.dtype != array.dtype:
            array = array.astype(np.result_type(array, frame_values))
        array[time, :, place] = frame_values if samples == 1 else np.moveaxis(frame_values, -1, 0)
    assert array is not None
    array = array.reshape(-1, z, y, x)
    _fill(array, stacked)
    narrow = array.dtype == np.int32 and array.min() >= -(2**15) and array.max() < 2**15
    return array.astype(np.int16) if narrow else array


def _each(stacked: Stack, dtype: np.dtype[Any]) -> Any:
    """Values, channel and slice of each image, file by file."""
    placed = [
        (frame, time, place)
        for place, slot in enumerate(stacked.slots)
        if slot is not None
        for time, frame in enumerate(slot)
    ]
    placed.sort(key=lambda one: (str(one[0].ref.path), one[0].ref.number))
    for file, group in groupby(placed, key=lambda one: one[0].ref.path):
        items: Sequence[tuple[Frame, int, int]] = list(group)
        for values, (_, time, place) in zip(read_frames(file, [one[0] for one in items], dtype), items, strict=True):
            yield values, time, place


def _fill(array: NDArray[Any], stacked: Stack) -> None:
    """Slices that are missing, linearly between their neighbours."""
    there = np.flatnonzero([slot is not None for slot in stacked.slots])
    for place in np.flatnonzero([slot is None for slot in stacked.slots]):
        before, after = there[there < place][-1], there[there > place][0]
        share = (place - before) / (after - before)
        mixed = array[:, before] * (1 - share) + array[:, after] * share
        array[:, place] = mixed if array.dtype.kind == "f" else np.rint(mixed)
