"""Reading TIFF files: plain, ImageJ, OME and big ones, with their voxel size.

The geometry comes from the file's own description if we wrote it, else from a JSON file beside it, else from OME,
ImageJ or resolution tags. Large stacks are mapped, or read page by page where they are compressed.
"""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_medattn.data.lazy import by_pages
from napari_medattn.data.reading import (
    DEFLATE_LIMIT,
    LAZY_BYTES,
    check_claim,
    check_memory,
    file_size,
    plain_grid,
    reading,
    real_voxels,
    without_alpha,
)
from napari_medattn.data.sidecar import TO_MM, facts_beside, grid_of
from napari_medattn.data.volume import Array, Volume
from napari_medattn.errors import ReadError
from napari_medattn.geometry import Triple

_EXPANDS = {1: 1.0, 8: float(DEFLATE_LIMIT), 32946: float(DEFLATE_LIMIT)}  # by the compression tag
_ELSE_EXPANDS = 1 << 14


def read(path: Path) -> Volume:
    """Read the first series of a TIFF; see `formats.read_volume`."""
    return _read(path, as_labels=False)


def read_indices(path: Path) -> Volume:
    """Read a TIFF as a mask: numbers of a palette are labels."""
    return _read(path, as_labels=True)


def _read(path: Path, *, as_labels: bool) -> Volume:
    with reading(path, "a TIFF image"), tifffile.TiffFile(path) as file:
        if not file.series:
            raise ReadError(f"{path.name} holds no image.", "Copy it again from its source, or export it anew.")
        series = file.series[0]
        _check_size(path, series)
        _check_complete(file, series)
        data, axes = _voxels(path, file, series), series.axes
        large = series.nbytes >= LAZY_BYTES
        if series.keyframe.photometric == tifffile.PHOTOMETRIC.PALETTE and not as_labels and not large:
            data, axes = _coloured(series, data), f"{axes}S"
        colours = "S" in axes
        array, spatial_dims, notes = _to_array(path, data, axes)
        if colours and not large:
            array, told = without_alpha(array)
            notes += told
        described = _described(file)
        facts = described if "affine" in described or "spacing" in described else facts_beside(path, _stem(path))
        shape = (array.shape[1], array.shape[2], array.shape[3])
        names = described.get("class_names", facts.get("class_names", ()))
        several = len(file.series) - 1
        notes += (f"It holds {several + 1} images: the first is shown.",) if several else ()
        return Volume(
            array,
            grid_of(facts, shape) or plain_grid(shape, _spacing(file)),
            spatial_dims=spatial_dims,
            path=path,
            class_names=tuple(str(name) for name in names) if isinstance(names, list) else (),
            notes=(*notes, *_slice_note(file, series.axes)),
        )


def _stem(path: Path) -> str:
    name = path.name[: -len(path.suffix)]
    return name.removesuffix(".ome")


def _check_size(path: Path, series: tifffile.TiffPageSeries) -> None:
    expands = _EXPANDS.get(int(series.keyframe.compression), _ELSE_EXPANDS)
    check_claim(path, series.shape, 1, 8 * file_size(path), expands)  # down to one bit a voxel
    if series.dtype is None:
        raise ReadError(f"{path.name} has voxels of an unknown type.", "Export it with real numbers.")


def _check_complete(file: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> None:
    """A file that was cut off keeps its first pages, but says how many it once had."""
    described = _described(file).get("shape") or (file.imagej_metadata or {}).get("images")
    if isinstance(described, list):
        described = int(np.prod(described)) // max(int(np.prod(series.keyframe.shape)), 1)
    if isinstance(described, int) and described > int(np.prod(series.shape)) // int(np.prod(series.keyframe.shape)):
        raise ValueError(f"it should have {described} pages and has {len(file.pages)}")


def _voxels(path: Path, file: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> Any:
    """The voxels of a series in its own axes: mapped or lazy where they are many."""
    if series.nbytes < LAZY_BYTES:
        check_memory(path, 2 * series.nbytes)
        return series.asarray()
    if series.dataoffset is not None and int(series.keyframe.compression) == 1:
        dtype = np.dtype(series.dtype).newbyteorder(file.byteorder)
        return np.memmap(path, dtype, "c", series.dataoffset, series.shape)
    plane = series.keyframe.shape
    count = int(np.prod(series.shape)) // int(np.prod(plane))
    check_memory(path, 2 * series.keyframe.nbytes)
    if series.shape[len(series.shape) - len(plane) :] != plane or count != len(series.pages):
        check_memory(path, 2 * series.nbytes)
        return series.asarray()
    return by_pages(_Pages(path).read, count, plane, series.dtype).reshape(series.shape)


class _Pages:
    """The pages of a file's first series, opened when the first one is read."""

    def __init__(self, path: Path) -> None:
        self._path, self._lock = path, threading.Lock()
        self._file: tifffile.TiffFile | None = None

    def read(self, number: int) -> Array:
        """The page of a number."""
        with self._lock:
            if self._file is None:
                self._file = tifffile.TiffFile(self._path)
            page = self._file.series[0].pages[number]
            if page is None:
                raise ReadError(f"Page {number} of {self._path.name} is missing.", "Copy it again from its source.")
            values: Array = np.asarray(page.asarray())
            return values

    def __del__(self) -> None:
        if self._file is not None:
            self._file.close()


def _coloured(series: tifffile.TiffPageSeries, data: NDArray[Any]) -> NDArray[Any]:
    """Indices -> (..., 3) colours of the palette, in 8 bits where those say it all."""
    palette = np.asarray(series.keyframe.colormap).T  # (entries, 3), 16 bits
    if not (palette % 257).any() or not (palette & 255).any():
        palette = (palette >> 8).astype(np.uint8)
    coloured: NDArray[Any] = palette[data]
    return coloured


def _to_array(path: Path, data: Any, axes: str) -> tuple[Any, int, tuple[str, ...]]:
    """Any axes -> (C, Z, Y, X), the number of spatial axes, and what to tell.

    A leading axis that the file does not name (Q, I) is read as slices; S are the samples of RGB. Times are channels
    of a volume, and slices of a film.
    """
    kinds = "".join({"S": "C", "Q": "Z", "I": "Z"}.get(axis, axis) for axis in axes)
    keep = [n for n, size in enumerate(data.shape) if size > 1 or kinds[n] in "YX"]
    single_slice = "Z" in kinds and not any(kinds[n] == "Z" for n in keep)
    data, kinds = data.reshape([data.shape[n] for n in keep]), "".join(kinds[n] for n in keep)
    notes: tuple[str, ...] = ()
    if "T" in kinds and "Z" not in kinds:
        kinds, notes = kinds.replace("T", "Z"), ("Its moments in time are shown as slices.",)
    elif "T" in kinds:
        notes = ("Its moments in time are shown as channels.",)
    others = [n for n, kind in enumerate(kinds) if kind in "TC"]
    space = [n for kind in "ZYX" for n, found in enumerate(kinds) if found == kind]
    if len(others) + len(space) != len(kinds) or len(space) not in (2, 3) or kinds[space[-1]] != "X":
        raise ReadError(
            f"{path.name} has axes {axes} of shape {data.shape}.",
            "Open a 2-D image or a stack (Z), with or without channels (C) and times (T).",
        )
    spatial_dims = 3 if len(space) == 3 or single_slice else 2
    turned = data.transpose([*others, *space])
    array = turned.reshape(-1, *((1,) if len(space) == 2 else ()), *turned.shape[len(others) :])
    return real_voxels(path, array) if isinstance(array, np.ndarray) else array, spatial_dims, notes


def _spacing(file: tifffile.TiffFile) -> Triple | None:
    """(Z, Y, X) in mm, or None where the file gives no lengths."""
    if file.is_ome and file.ome_metadata:
        return _ome_spacing(file.ome_metadata)
    x, y = (_per_unit(file, tag) for tag in ("XResolution", "YResolution"))
    if file.is_imagej:
        meta = file.imagej_metadata or {}
        scale = TO_MM.get(str(meta.get("unit", "")).lower())
        if scale is None or not x or not y:
            return None
        return float(meta.get("spacing", 1.0)) * scale, scale / y, scale / x
    unit = file.pages.first.tags.get("ResolutionUnit")
    scale = {2: 25.4, 3: 10.0}.get(int(unit.value)) if unit is not None else None
    if scale is None or not x or not y or (x, y) in ((72, 72), (96, 96), (1, 1)):
        return None  # screen resolutions say nothing about the object
    return 1.0, scale / y, scale / x


def _slice_note(file: tifffile.TiffFile, axes: str) -> tuple[str, ...]:
    if (
        file.is_ome
        and "Z" in axes
        and "PhysicalSizeX=" in (xml := file.ome_metadata or "")
        and "PhysicalSizeZ=" not in xml
    ):
        return ("The file gives no slice distance: it is taken to be that of the pixels.",)
    return ()


def _ome_spacing(xml: str) -> Triple | None:
    try:
        root = ElementTree.fromstring(xml)
    except ElementTree.ParseError:
        return None
    pixels = next((node for node in root.iter() if node.tag.endswith("Pixels")), None)
    if pixels is None or "PhysicalSizeX" not in pixels.attrib:
        return None

    def size(axis: str) -> float:
        value = pixels.attrib.get(f"PhysicalSize{axis}")
        unit = pixels.attrib.get(f"PhysicalSize{axis}Unit", "µm")
        return float(value) * TO_MM.get(unit, 1e-3) if value else 1.0

    in_plane = size("Y"), size("X")
    return (size("Z") if "PhysicalSizeZ" in pixels.attrib else in_plane[1], *in_plane)


def _per_unit(file: tifffile.TiffFile, name: str) -> float:
    tag = file.pages.first.tags.get(name)
    if tag is None:
        return 0.0
    numerator, denominator = tag.value
    return float(numerator) / float(denominator) if denominator else 0.0


def _described(file: tifffile.TiffFile) -> dict[str, Any]:
    try:
        found = json.loads(file.pages.first.description or "")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
