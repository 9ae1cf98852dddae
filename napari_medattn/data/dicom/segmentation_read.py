"""Reading DICOM SEG: every segment where it lies, as one map of labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medattn.data.dicom.files import read_header, read_whole
from napari_medattn.data.dicom.frames import Frame, frames_of
from napari_medattn.data.dicom.source import DicomSource, to_ras
from napari_medattn.data.reading import check_claim, check_memory, file_size, one_line, reading
from napari_medattn.data.volume import Volume
from napari_medattn.errors import ReadError
from napari_medattn.geometry import Grid

_FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])
_EXPANDS = 1 << 14  # run-length coded bits of an empty mask
_MOST_SLICES = 1 << 14


def is_segmentation(path: Path) -> bool:
    """Whether a DICOM file holds segments rather than an image."""
    header = read_header(path)
    with reading(path, "a DICOM image", private=True):
        return str(header.get("Modality", "")) == "SEG"


def read_segmentation(path: Path) -> Volume:
    """Read a segmentation on the smallest grid of its source's slices that holds it.

    Where segments overlap, the one with the higher number counts; fractions from one half up count as inside.
    """
    header = read_whole(path)
    with reading(path, "a DICOM segmentation", private=True):
        frames = frames_of(path, header)
        shape = (len(frames), frames[0].rows, frames[0].columns)
        check_claim(path, shape, 1, 8 * file_size(path), _EXPANDS)
        check_memory(path, 4.0 * shape[0] * shape[1] * shape[2])
        values, notes = _values(path, header)
        numbers = [_segment_number(header, n) for n in range(len(frames))]
        affine, places = _places(path, frames)
        corners = {place: to_ras(frame.position) for place, frame in zip(places, frames, strict=True)}
        labels = np.zeros((max(places) + 1, *shape[1:]), np.uint16)
        overlap = _paint(labels, values.reshape(shape), numbers, places)
        if overlap:
            notes.append("Segments overlap: where they do, the higher number counts.")
        return Volume(
            labels[None].astype(np.uint8) if labels.max() < 256 else labels[None],
            Grid((labels.shape[0], labels.shape[1], labels.shape[2]), affine),
            name="segmentation",
            path=path,
            header=DicomSource((None,) * len(labels), tuple(corners.get(place) for place in range(len(labels)))),
            class_names=_names(header),
            notes=tuple(notes),
            modality="SEG",
        )


def _values(path: Path, header: Any) -> tuple[NDArray[np.bool_] | NDArray[Any], list[str]]:
    """What lies inside; label numbers where the file holds a map of labels."""
    from pydicom.pixels.utils import pixel_array

    try:
        stored = pixel_array(header)
    except (RuntimeError, NotImplementedError, AttributeError) as error:
        raise ReadError(f"The pixels of {path.name} cannot be read ({one_line(error)}).", "Export it anew.") from None
    kind = str(header.get("SegmentationType", "BINARY"))
    if kind == "FRACTIONAL":
        most = int(header.get("MaximumFractionalValue", 255))
        return stored >= most / 2, ["It holds fractions: from one half up they count as inside."]
    return (stored if kind == "LABELMAP" else stored > 0), []


def _segment_number(header: Any, frame: int) -> int | None:
    """The segment that a frame belongs to; None in a map of labels."""
    for group in (
        header.PerFrameFunctionalGroupsSequence[frame],
        *(header.get("SharedFunctionalGroupsSequence") or ()),
    ):
        found = group.get("SegmentIdentificationSequence")
        if found:
            return int(found[0].ReferencedSegmentNumber)
    return None


def _places(path: Path, frames: list[Frame]) -> tuple[NDArray[np.float64], list[int]]:
    """The affine (RAS+), and the slice of each frame."""
    if any(frame.position is None or frame.orientation is None for frame in frames):
        raise ReadError(f"{path.name} does not say where its segments lie.", "Export it anew.")
    x, y = np.array(frames[0].orientation[:3]), np.array(frames[0].orientation[3:])  # type: ignore[index]
    across = np.cross(x, y)
    corners = np.array([frame.position for frame in frames])
    heights = corners @ across
    gaps = np.diff(np.unique(np.round(heights, 3)))
    step = frames[0].thickness or 1.0
    if len(gaps) and abs(gaps.min() / step - round(gaps.min() / step)) > 0.02 * round(gaps.min() / step):
        step = float(gaps.min())  # the thickness is not the distance
    places = np.rint((heights - heights.min()) / step).astype(int)
    if places.max() >= _MOST_SLICES:
        raise ReadError(f"The segments of {path.name} lie {np.ptp(heights):.4g} mm apart.", "Export it anew.")
    rows, columns = frames[0].spacing or (1.0, 1.0)
    first, last = int(np.argmin(places)), int(np.argmax(places))
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = x * columns, y * rows
    span = int(places[last])
    affine[:3, 2] = (corners[last] - corners[first]) / span if span else across * step
    affine[:3, 3] = corners[first]
    return _FLIP @ affine, [int(place) for place in places]


def _paint(labels: NDArray[np.uint16], values: NDArray[Any], numbers: list[int | None], places: list[int]) -> bool:
    """Put each frame into its slice; whether some overlap."""
    overlap = False
    for frame in sorted(range(len(values)), key=lambda n: numbers[n] or 0):
        plane, number = labels[places[frame]], numbers[frame]
        inside = values[frame] != 0
        overlap = overlap or bool(plane[inside].any())
        plane[inside] = values[frame][inside] if number is None else number
    return overlap


def _names(header: Any) -> tuple[str, ...]:
    names = {int(one.SegmentNumber): str(one.get("SegmentLabel", "")) for one in header.get("SegmentSequence") or ()}
    return tuple(names.get(n, "background" if n == 0 else f"class {n}") for n in range(max(names) + 1)) if names else ()
