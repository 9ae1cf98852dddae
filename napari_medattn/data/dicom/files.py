"""Which files are DICOM, and what of their headers is looked at."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from napari_medattn.data.reading import reading
from napari_medattn.errors import ReadError

_MOST_FILES = 100_000
_FIRST_ELEMENTS = (b"\x00\x00", b"\x01\x00", b"\x05\x00", b"\x08\x00")
_TAGS = [
    "Modality", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "SeriesDescription", "SeriesNumber",
    "InstanceNumber", "Rows", "Columns", "SamplesPerPixel", "PhotometricInterpretation", "NumberOfFrames",
    "BitsAllocated", "BitsStored", "PixelRepresentation", "ImagePositionPatient", "ImageOrientationPatient",
    "PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing", "SpacingBetweenSlices", "SliceThickness",
    "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence", "SequenceOfUltrasoundRegions",
    "TemporalPositionIdentifier", "EchoTime", "AcquisitionNumber", "TriggerTime", "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence", "TotalPixelMatrixColumns", "PatientName", "PatientID",
]  # fmt: skip


def is_dicom(path: Path) -> bool:
    """Whether a file begins like a DICOM file, or a folder holds one that does."""
    try:
        if path.is_dir():
            return next(dicom_files(path), None) is not None
        return path.is_file() and _begins_like_dicom(path)
    except OSError:
        return False


def numbered_series(path: Path) -> tuple[Path, int | None]:
    """Where ``study#2``, the second of several series in ``study``, lies, and its number, from 1.

    Any other path is given back as it is, without a number; so is a file or folder whose name happens to end like that.
    """
    base, _, number = path.name.rpartition("#")
    if not base or not number.isdecimal() or path.exists() or not path.with_name(base).exists():
        return path, None
    return path.with_name(base), int(number)


def dicom_files(folder: Path) -> Iterator[Path]:
    """The DICOM files in a folder and the folders in it, by name.

    Raises:
        ReadError: If the folder holds so many files that it cannot be meant.
    """
    seen = 0
    for root, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            seen += 1
            if seen > _MOST_FILES:
                raise ReadError(f"{folder.name} holds more than {_MOST_FILES} files.", "Choose the folder of one scan.")
            path = Path(root, name)
            if not name.startswith(".") and name.upper() != "DICOMDIR" and _begins_like_dicom(path):
                yield path


def read_header(path: Path) -> Any:
    """What is needed of a file's header, voxels left out.

    Raises:
        ReadError: If it cannot be read.
    """
    from pydicom import dcmread

    quiet()
    with reading(path, "a DICOM image", private=True):
        return dcmread(path, stop_before_pixels=True, force=not _has_preamble(path), specific_tags=_TAGS)


def read_whole(path: Path) -> Any:
    """A file with its voxels, see `read_header`."""
    from pydicom import dcmread

    if not path.is_file():
        raise ReadError(f"{path.name} is not there any more.", "Put it back, or open the scan again.")

    quiet()
    with reading(path, "a DICOM image", private=True):
        found = dcmread(path, force=not _has_preamble(path))
        if "TransferSyntaxUID" not in found.file_meta:
            from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

            implicit = found.original_encoding[0]
            found.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
        return found


def quiet() -> None:
    """Silence warnings that quote header values, a patient's name among them."""
    warnings.filterwarnings("ignore", module=r"(pydicom|highdicom)(\.|$)")


def _begins_like_dicom(path: Path) -> bool:
    try:
        if not path.is_file():  # a pipe would never answer
            return False
        with path.open("rb") as file:
            start = file.read(132)
    except OSError:
        return False
    if start[128:] == b"DICM":
        return True
    # Old files begin with their first element, which is of the group 8, at once.
    return len(start) == 132 and start[:2] == b"\x08\x00" and start[2:4] in _FIRST_ELEMENTS


def _has_preamble(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"
