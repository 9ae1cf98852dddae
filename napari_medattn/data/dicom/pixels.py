"""The values of DICOM images: decompressed, coloured and rescaled."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medattn.data.dicom.files import quiet, read_whole
from napari_medattn.data.dicom.frames import Frame
from napari_medattn.data.reading import one_line, reading
from napari_medattn.errors import ReadError

_WHOLE = (np.uint8, np.int16, np.uint16, np.int32)


def values_type(frames: Sequence[Frame]) -> np.dtype[Any]:
    """The smallest type that holds every rescaled value; float32 where the scaling is no whole number."""
    ends: list[float] = []
    for frame in frames:
        low, high = (-(2 ** (frame.bits - 1)), 2 ** (frame.bits - 1) - 1) if frame.signed else (0, 2**frame.bits - 1)
        ends += [low * frame.slope + frame.intercept, high * frame.slope + frame.intercept]
    exact = all(frame.slope % 1 == 0 and frame.intercept % 1 == 0 for frame in frames)
    if not exact or max(map(abs, ends)) >= 2**31:
        return np.dtype(np.float32)
    fitting = (kind for kind in _WHOLE if np.iinfo(kind).min <= min(ends) and max(ends) <= np.iinfo(kind).max)
    return np.dtype(next(fitting, np.int32))


def read_frames(path: Path, frames: Sequence[Frame], dtype: np.dtype[Any]) -> list[NDArray[Any]]:
    """Values (Y, X) or (Y, X, 3) of frames of one file, rescaled.

    Raises:
        ReadError: If the file has no pixels, or in a form that cannot be decompressed.
    """
    header = read_whole(path)
    with reading(path, "a DICOM image", private=True):
        return _values(path, header, frames, dtype)


def _values(path: Path, header: Any, frames: Sequence[Frame], dtype: np.dtype[Any]) -> list[NDArray[Any]]:
    stored, rescaled = _decoded(path, header)
    try:
        found = [stored[frame.ref.number] for frame in frames]
    except IndexError as error:
        raise ReadError(
            f"{path.name} has {len(stored)} frames of {int(header.get('NumberOfFrames', 1))} (NumberOfFrames).",
            "It was cut off: copy it again from its source.",
        ) from error
    expected = (frames[0].rows, frames[0].columns)
    if any(one.shape[:2] != expected for one in found):
        raise ReadError(
            f"The pixels of {path.name} are {found[0].shape}, its header says {expected}.", "Export it anew."
        )
    if rescaled:
        return [_as(one, dtype) for one in found]
    if "ModalityLUTSequence" in header and frames[0].samples == 1:
        from pydicom.pixels.processing import apply_modality_lut

        return [apply_modality_lut(one, header) for one in found]
    return [_scaled(one, frame, dtype) for one, frame in zip(found, frames, strict=True)]


def _scaled(values: NDArray[Any], frame: Frame, dtype: np.dtype[Any]) -> NDArray[Any]:
    if frame.samples > 1 or (frame.slope, frame.intercept) == (1.0, 0.0):
        return values
    if dtype.kind == "f":
        return (values * np.float64(frame.slope) + frame.intercept).astype(dtype)
    return (values.astype(np.int64) * int(frame.slope) + int(frame.intercept)).astype(dtype)


def _as(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    return values.astype(dtype) if values.ndim == 2 else values


def _decoded(path: Path, header: Any) -> tuple[NDArray[Any], bool]:
    """(frames, Y, X[, 3]), and whether values are rescaled already."""
    from pydicom.pixels.processing import apply_color_lut
    from pydicom.pixels.utils import pixel_array

    if not any(key in header for key in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
        raise ReadError(f"{path.name} holds no pixels.", "Copy it again from its source.")
    try:
        quiet()
        values = pixel_array(header)
        if int(header.get("NumberOfFrames") or 1) == 1:
            values = values[None]
        if header.get("PhotometricInterpretation") == "PALETTE COLOR":
            values = apply_color_lut(values, header)
            values = (values >> 8).astype(np.uint8) if values.dtype == np.uint16 else values
        return values, False
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001 - decoders raise whatever they like; GDCM may know better
        return _decoded_by_gdcm(path, header, error), True


def _decoded_by_gdcm(path: Path, header: Any, first: Exception) -> NDArray[Any]:
    """For compressions that pydicom has no decoder for."""
    import SimpleITK as sitk

    syntax = header.file_meta.TransferSyntaxUID
    if not syntax.is_compressed:
        raise ReadError(
            f"The pixels of {path.name} cannot be read ({one_line(first)}).", "Copy it again from its source."
        ) from None
    try:
        values: NDArray[Any] = sitk.GetArrayFromImage(sitk.ReadImage(str(path), imageIO="GDCMImageIO"))
        return values
    except RuntimeError:
        raise ReadError(
            f"The pixels of {path.name} are compressed as {syntax.name} and cannot be decompressed.",
            "Copy it again from its source, or export it uncompressed.",
        ) from None
