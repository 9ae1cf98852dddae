"""Which series lie in a folder: images of one series, one size and one direction belong together."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from napari_medattn.data.dicom.files import dicom_files, read_header
from napari_medattn.data.dicom.frames import Frame, frames_of
from napari_medattn.data.reading import reading
from napari_medattn.errors import ReadError

_SAME_DIRECTION = 1e-3  # largest difference of direction cosines within a series


@dataclass(frozen=True)
class Series:
    """Images that make up one volume.

    Attributes:
        modality: ``"CT"``, ``"MR"``, ...
        description: What the scanner calls it; empty if that names the patient.
        number: The scanner's number of it.
        frames: Its images in no order.
        inverted: Whether low values are meant to be shown bright.
        palette: Whether its values are numbers of colours.
    """

    modality: str
    description: str
    number: int
    frames: tuple[Frame, ...]
    inverted: bool = False
    palette: bool = False

    @property
    def title(self) -> str:
        """For people, without anything that names a patient."""
        return " ".join(word for word in (self.modality, str(self.number or ""), self.description) if word)

    @property
    def label(self) -> str:
        """The title with number and size of its images."""
        first, count = self.frames[0], len(self.frames)
        return f"{self.title} ({count} image{'s' if count > 1 else ''} of {first.columns} x {first.rows})"


def list_series(path: Path | str) -> list[Series]:
    """The series of images in a folder and the folders in it, or in one file.

    Raises:
        ReadError: If there are no DICOM images, or one cannot be read.
    """
    path = Path(path)
    return series_of(path, list(dicom_files(path)) if path.is_dir() else [path])


def series_of(path: Path, files: Sequence[Path]) -> list[Series]:
    """The series among files; what holds no image is passed over.

    Args:
        path: What the user chose, for messages.
        files: DICOM files.

    Raises:
        ReadError: If none of them holds an image, or one cannot be read.
    """
    groups: dict[tuple[Any, ...], list[list[Frame]]] = {}
    headers: dict[tuple[Any, ...], Any] = {}
    segmentations = 0
    for file in files:
        header = read_header(file)
        with reading(file, "a DICOM image", private=True):
            segmentations += header.get("Modality") == "SEG" and len(files) > 1
            if header.get("Modality") in ("SEG", "RTDOSE") or (header.get("Rows") is None and not _is_image(header)):
                continue
            found = frames_of(file, header)
            key = (
                str(header.get("SeriesInstanceUID", "")),
                *(found[0].rows, found[0].columns, found[0].samples),
                *((str(header.get("SOPInstanceUID", file)),) if len(found) > 1 else ()),
            )
            headers.setdefault(key, header)
            for frame in found:
                _put(groups.setdefault(key, []), frame)
    if not groups:
        what = "segmentations, but no images" if segmentations else "no DICOM images"
        raise ReadError(f"{path.name} holds {what}.", "Choose the folder of a scan.")
    with reading(path, "a DICOM image", private=True):
        every = [_series(headers[key], tuple(one)) for key, found in groups.items() for one in found]
    return sorted(every, key=lambda one: (one.number, -len(one.frames)))


def _is_image(header: Any) -> bool:
    """Whether a file is meant to hold an image, also if it was cut off before it says of which size."""
    kind = getattr(header, "file_meta", {}).get("MediaStorageSOPClassUID") or header.get("SOPClassUID")
    return kind is not None and "Image Storage" in kind.name


def _put(directions: list[list[Frame]], frame: Frame) -> None:
    """Add a frame to those that look into the same direction."""
    for known in directions:
        a, b = known[0].orientation, frame.orientation
        if (a is None) == (b is None) and (a is None or np.abs(np.subtract(a, b)).max() < _SAME_DIRECTION):  # type: ignore[arg-type]
            known.append(frame)
            return
    directions.append([frame])


def _series(header: Any, frames: tuple[Frame, ...]) -> Series:
    number = str(header.get("SeriesNumber") or "")
    kind = str(header.get("PhotometricInterpretation", ""))
    return Series(
        modality=str(header.get("Modality") or "image"),
        description=_harmless(header),
        number=int(number) if number.isdigit() else 0,
        frames=frames,
        inverted=kind == "MONOCHROME1",
        palette=kind == "PALETTE COLOR",
    )


def _harmless(header: Any) -> str:
    """The description of a series, unless a part of the patient's name or id stands in it."""
    from pydicom.dataelem import RawDataElement

    text = " ".join(str(header.get("SeriesDescription") or "").split())[:60]
    raw = [header.get_item(key) for key in ("PatientName", "PatientID")]  # unread, so that nothing is quoted anywhere
    names = " ".join(bytes(one.value or b"").decode("latin-1") for one in raw if isinstance(one, RawDataElement))
    words = [re.escape(word.lower()) for word in re.split(r"[\s^=\0]+", names) if len(word) > 1]
    # Two letters, such as the name Li, stand in many words.
    found = any(re.search(rf"\b{word}\b" if len(word) == 2 else word, text.lower()) for word in words)
    return "" if found else text
