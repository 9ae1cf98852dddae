"""Writing masks of a DICOM series as DICOM SEG, by highdicom.

Standard: DICOM PS3.3 A.51 (Segmentation IOD). Segments are binary and in the patient's study, as 3D Slicer and dcmqi
read them. Segment n is the class of label n, so that labels come back as they were.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medattn._version import __version__
from napari_medattn.data.dicom.files import quiet, read_whole
from napari_medattn.data.dicom.source import DicomSource, FrameRef
from napari_medattn.data.volume import Volume
from napari_medattn.errors import SaveError
from napari_medattn.palette import class_colour

_MOST_SEGMENTS = 255
# Attributes of patient and study that the standard wants there, if only empty (type 2: PS3.3 C.7.1.1, C.7.2.1).
_MAY_BE_EMPTY = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
    "StudyID",
)
_ELSE = "Save it as .nii.gz or .nrrd."


def write_labels(path: Path, labels: NDArray[np.generic], like: Volume, class_names: Sequence[str] = ()) -> None:
    """Write (Z, Y, X) labels as segments of the series that ``like`` was read from; see `formats.write_labels`."""
    if not isinstance(like.header, DicomSource):
        raise SaveError("A DICOM segmentation needs the DICOM series that it lies on.", _ELSE)
    largest = max(int(labels.max()), len(class_names) - 1)
    if not 1 <= largest <= _MOST_SEGMENTS:
        why = "has no class" if largest < 1 else f"has {largest} classes, a DICOM segmentation {_MOST_SEGMENTS} at most"
        raise SaveError(f"The mask of {like.name} {why}.", _ELSE)
    frames = [(frame, plane) for frame, plane in zip(like.header.frames, labels, strict=True) if frame is not None]
    files = {frame.path: read_whole(frame.path) for frame, _ in frames}
    for header in files.values():
        if "FrameOfReferenceUID" not in header:
            raise SaveError(f"The series of {like.name} does not say where it lies in the patient.", _ELSE)
        _fill_in(header)
    quiet()
    try:
        made = _segmentation(list(files.values()), _in_file_order(files, frames), largest, class_names)
    except (ValueError, TypeError, AttributeError, KeyError, RuntimeError) as error:
        # No chain: what the libraries quote may name the patient.
        raise SaveError(
            f"The mask of {like.name} cannot be stored as a DICOM segmentation ({type(error).__name__}).", _ELSE
        ) from None
    made.save_as(path)


def _fill_in(header: Any) -> None:
    """What highdicom takes for granted and files leave out, in a header that is only held in memory."""
    for name in _MAY_BE_EMPTY:
        if name not in header:
            setattr(header, name, None)
    if "SpecificCharacterSet" in header and not header.SpecificCharacterSet:
        del header.SpecificCharacterSet  # empty is the default, which leaving it out says as well


def _in_file_order(files: dict[Path, Any], frames: list[tuple[FrameRef, NDArray[Any]]]) -> NDArray[np.uint8]:
    """(frames, Y, X) labels in the order in which highdicom sees the source's frames."""
    order = {file: number for number, file in enumerate(files)}
    if len(files) == 1:
        count = int(next(iter(files.values())).get("NumberOfFrames", 1))
        planes = np.zeros((count, *frames[0][1].shape), np.uint8)
        for frame, plane in frames:
            planes[frame.number] = plane
        return planes
    ordered = sorted(frames, key=lambda one: (order[one[0].path], one[0].number))
    return np.stack([plane for _, plane in ordered]).astype(np.uint8)


def _segmentation(sources: list[Any], planes: NDArray[np.uint8], largest: int, names: Sequence[str]) -> Any:
    from highdicom import UID
    from highdicom.seg import Segmentation, SegmentationTypeValues

    return Segmentation(
        source_images=sources,
        pixel_array=planes,
        segmentation_type=SegmentationTypeValues.BINARY,
        segment_descriptions=[_description(n, names[n] if n < len(names) else "") for n in range(1, largest + 1)],
        series_instance_uid=UID(),
        series_number=int(sources[0].get("SeriesNumber") or 0) + 1000,
        sop_instance_uid=UID(),
        instance_number=1,
        manufacturer="napari-medattn",
        manufacturer_model_name="napari-medattn",
        software_versions=__version__,
        device_serial_number="0",
        omit_empty_frames=bool(planes.any()),
        content_label="SEGMENTATION",
    )


def _description(number: int, name: str) -> Any:
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.color import CIELabColor
    from highdicom.seg import SegmentAlgorithmTypeValues, SegmentDescription
    from pydicom.sr.codedict import codes

    colour = class_colour(number)
    rgb = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
    found = SegmentDescription(
        segment_number=number,
        segment_label=(name or f"class {number}")[:64],
        segmented_property_category=codes.SCT.Tissue,
        segmented_property_type=codes.SCT.Tissue,
        # A network's mask, a person's corrections, or both: the file cannot know.
        algorithm_type=SegmentAlgorithmTypeValues.SEMIAUTOMATIC,
        algorithm_identification=AlgorithmIdentificationSequence(
            name="napari-medattn", version=__version__, family=codes.cid7162.ArtificialIntelligence
        ),
    )
    found.RecommendedDisplayCIELabValue = list(CIELabColor.from_rgb(*rgb).value)
    return found
