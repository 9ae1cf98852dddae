"""`Frame`: one image of a series, whether it has a file of its own or shares one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_medattn.data.dicom.source import FrameRef
from napari_medattn.data.reading import check_claim, file_size
from napari_medattn.errors import ReadError

Numbers = tuple[float, ...]


@dataclass(frozen=True)
class Frame:
    """What a header says of one image.

    Attributes:
        ref: File and number.
        rows: Pixels along y.
        columns: Pixels along x.
        samples: 1, or 3 for colours.
        position: World position (LPS+, mm) of the first pixel, if given.
        orientation: Directions of x and of y in the world (LPS+), if given.
        spacing: Distance of rows and of columns in mm, if given.
        thickness: Distance to the next slice in mm as the header has it, if given.
        rank: Sorts the images of one position in time and by contrast.
        bits: Stored bits of a sample.
        signed: Whether samples are signed.
        slope: What stored values are multiplied with.
        intercept: What is then added.
        uid: The image's own id.
    """

    ref: FrameRef
    rows: int
    columns: int
    samples: int
    position: Numbers | None
    orientation: Numbers | None
    spacing: Numbers | None
    thickness: float | None
    rank: Numbers
    bits: int
    signed: bool
    slope: float
    intercept: float
    uid: str


def frames_of(path: Path, header: Any) -> list[Frame]:
    """The frames that a file holds.

    Raises:
        ReadError: If the header says something that cannot be.
    """
    rows, columns, samples = (_whole(path, header, key, default) for key, default in _SIZES)
    count = _whole(path, header, "NumberOfFrames", 1)
    if "TotalPixelMatrixColumns" in header:
        raise ReadError(f"{path.name} is a whole slide in tiles.", "Convert it to OME-TIFF and open that.")
    _check_claim(path, header, count, rows, columns, samples)
    shared = _first(header.get("SharedFunctionalGroupsSequence"))
    own = header.get("PerFrameFunctionalGroupsSequence") or ()
    if own and len(own) != count:
        raise ReadError(
            f"{path.name} claims {count} frames (NumberOfFrames) and describes {len(own)}.", "Export it anew."
        )
    frames = []
    for number in range(count):
        groups = (own[number] if own else None, shared, header)
        frames.append(
            Frame(
                ref=FrameRef(path, number),
                rows=rows,
                columns=columns,
                samples=samples,
                position=_numbers(_find(groups, "PlanePositionSequence", "ImagePositionPatient"), 3)
                if own or count == 1
                else None,
                orientation=_numbers(_find(groups, "PlaneOrientationSequence", "ImageOrientationPatient"), 6),
                spacing=_spacing(groups, header),
                thickness=_thickness(groups),
                rank=_rank(groups, header, number),
                bits=_whole(path, header, "BitsStored", _whole(path, header, "BitsAllocated", 16)),
                signed=bool(header.get("PixelRepresentation", 0)),
                slope=_number(_find(groups, "PixelValueTransformationSequence", "RescaleSlope"), 1.0),
                intercept=_number(_find(groups, "PixelValueTransformationSequence", "RescaleIntercept"), 0.0),
                uid=f"{header.get('SOPInstanceUID', path)}/{number}",
            )
        )
    return frames


def _check_claim(path: Path, header: Any, count: int, rows: int, columns: int, samples: int) -> None:
    """Refuse more pixels than the file can hold, before anything is made for each of them."""
    syntax = getattr(header, "file_meta", {}).get("TransferSyntaxUID")
    packed = syntax is not None and (syntax.is_deflated or (not syntax.is_private and syntax.is_compressed))
    bits = _whole(path, header, "BitsAllocated", 16)
    stored = 8 * file_size(path) / bits
    check_claim(path, (count, rows, columns, samples), 1, stored, _PACKED if packed else _SUBSAMPLED)


_PACKED = 1 << 14  # an empty image, run-length coded or in JPEG 2000
_SUBSAMPLED = 1.5  # colours of every second pixel are left out
_SIZES: tuple[tuple[str, int | None], ...] = (("Rows", None), ("Columns", None), ("SamplesPerPixel", 1))
_MOST_FRAMES = 1 << 20


def _whole(path: Path, header: Any, key: str, default: int | None) -> int:
    found = header.get(key)
    try:
        value = default if found is None else int(found)
    except (TypeError, ValueError):
        value = None
    if value is None or not 0 < value <= _MOST_FRAMES:
        raise ReadError(
            f"{path.name} has no usable {key}.", "It was cut off or is damaged: copy it again, or remove it."
        )
    return value


def _first(sequence: Any) -> Any:
    return sequence[0] if sequence else None


def _find(groups: tuple[Any, ...], sequence: str, key: str) -> Any:
    """A value from a frame's own group, the shared one, or the header itself."""
    own, shared, header = groups
    for group in (own, shared):
        item = _first(group.get(sequence)) if group is not None else None
        if item is not None and item.get(key) is not None:
            return item.get(key)
    return header.get(key)


def _numbers(value: Any, count: int) -> Numbers | None:
    try:
        found = tuple(float(one) for one in value) if value is not None else ()
    except (TypeError, ValueError):
        return None
    return found if len(found) == count and all(np.isfinite(found)) else None


def _number(value: Any, default: float) -> float:
    found = _numbers((value,), 1) if value is not None else None
    return found[0] if found else default


def _spacing(groups: tuple[Any, ...], header: Any) -> Numbers | None:
    found = _numbers(_find(groups, "PixelMeasuresSequence", "PixelSpacing"), 2)
    for key in ("ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        found = found or _numbers(header.get(key), 2)
    region = _first(header.get("SequenceOfUltrasoundRegions"))
    if found is None and region is not None and region.get("PhysicalUnitsXDirection") == 3:  # centimetres
        y, x = region.get("PhysicalDeltaY"), region.get("PhysicalDeltaX")
        found = _numbers((abs(10 * _number(y, 0)), abs(10 * _number(x, 0))), 2)
    return found if found is not None and min(found) > 0 else None


def _thickness(groups: tuple[Any, ...]) -> float | None:
    for key in ("SpacingBetweenSlices", "SliceThickness"):
        found = abs(_number(_find(groups, "PixelMeasuresSequence", key), 0.0))
        if found > 0:
            return found
    return None


def _rank(groups: tuple[Any, ...], header: Any, number: int) -> Numbers:
    content = _find(groups, "FrameContentSequence", "TemporalPositionIndex")
    keys = ("TemporalPositionIdentifier", "EchoTime", "AcquisitionNumber", "TriggerTime", "InstanceNumber")
    return (_number(content, 0.0), *(_number(header.get(key), 0.0) for key in keys), float(number))
