"""TIFF files: plain, ImageJ and OME stacks with their voxel size."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_medattn.data.volume import Volume
from napari_medattn.errors import ReadError
from napari_medattn.geometry import Grid, Triple

_DAMAGE = (
    tifffile.TiffFileError,
    OSError,
    ValueError,
    IndexError,
    KeyError,
    RuntimeError,
    struct.error,
    zlib.error,
)
PutSlab = Callable[[NDArray[np.float32]], None]
_CLASSIC_LIMIT = 1 << 31  # bytes of voxels; offsets in a classic TIFF have 32 bits
_TO_MM = {
    "mm": 1.0,
    "millimeter": 1.0,
    "cm": 10.0,
    "centimeter": 10.0,
    "um": 1e-3,
    "µm": 1e-3,
    "μm": 1e-3,
    "\\u00b5m": 1e-3,
    "micron": 1e-3,
    "micrometer": 1e-3,
    "nm": 1e-6,
    "nanometer": 1e-6,
    "inch": 25.4,
}


def read(path: Path) -> Volume:
    """Read the first series of a TIFF; see `formats.read_volume`."""
    try:
        with tifffile.TiffFile(path) as file:
            series = file.series[0]
            _check_complete(file, series)
            data, axes = series.asarray(), series.axes
            spacing = _spacing(file)
            notes = _notes(file, series.axes)
            names = _class_names(file)
    except MemoryError as error:
        raise ReadError(f"{path.name} does not fit into memory.", "Crop it, or use a machine with more.") from error
    except _DAMAGE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ReadError(
            f"{path.name} is damaged or not a TIFF image ({reason}).",
            "Copy it again from its source, or export it anew.",
        ) from error
    array, spatial_dims = _to_array(path, data, axes)
    shape = (array.shape[1], array.shape[2], array.shape[3])
    if spacing is None or not all(np.isfinite(spacing)) or min(spacing) <= 0:
        grid = Grid.from_spacing(shape, (1.0, 1.0, 1.0), units="pixel")
    else:
        grid = Grid.from_spacing(shape, spacing)
    return Volume(array, grid, spatial_dims=spatial_dims, path=path, class_names=names, notes=notes)


def write_labels(path: Path, labels: NDArray[np.generic], like: Volume, class_names: Sequence[str] = ()) -> None:
    """Write (Z, Y, X) labels as an ImageJ-free TIFF with its spacing in the description."""
    z, y, x = like.grid.spacing
    described = {"spacing": [z, y, x], "unit": like.grid.units, "class_names": list(class_names)}
    flat = like.spatial_dims == 2
    tifffile.imwrite(
        path,
        labels[0] if flat else labels,
        photometric="minisblack",  # else three or four slices of bytes would be taken for colours
        metadata={"axes": "YX" if flat else "ZYX", **described},
        compression="zlib",
    )


@contextmanager
def open_values(path: Path, like: Volume, count: int | None, about: Mapping[str, Any]) -> Iterator[PutSlab]:
    """Write real values slab by slab, one page per slice; see `formats.open_values`."""
    z, y, x = like.grid.shape
    planes = ("YX", [y, x]) if like.spatial_dims == 2 else ("ZYX", [z, y, x])
    axes, shape = planes if count is None else (f"C{planes[0]}", [count, *planes[1]])
    described = {
        "shape": shape,  # comes first: by it, tifffile knows its own way of describing a stack
        "axes": axes,
        "spacing": list(like.grid.spacing),
        "unit": like.grid.units,
        **about,
    }
    big = 4 * z * y * x * (count or 1) > _CLASSIC_LIMIT
    with tifffile.TiffWriter(path, bigtiff=big) as file:
        unsaid = iter([json.dumps(described)])

        def put(slab: NDArray[np.float32]) -> None:
            for plane in slab:
                file.write(
                    np.ascontiguousarray(plane, np.float32),
                    photometric="minisblack",
                    compression="zlib",
                    description=next(unsaid, None),
                    metadata=None,
                )

        yield put


def _check_complete(file: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> None:
    """A file that was cut off keeps its first pages, but says how many it once had."""
    described = _described(file).get("shape") or (file.imagej_metadata or {}).get("images")
    if isinstance(described, list):
        described = int(np.prod(described)) // max(int(np.prod(series.keyframe.shape)), 1)
    if isinstance(described, int) and described > int(np.prod(series.shape)) // int(np.prod(series.keyframe.shape)):
        raise ValueError(f"it should have {described} pages and has {len(file.pages)}")


def _to_array(path: Path, data: NDArray[Any], axes: str) -> tuple[NDArray[Any], int]:
    """Any axes with at most one of slices and one of channels -> (C, Z, Y, X) and spatial axes."""
    # A leading axis that the file does not name (Q, I) is read as slices; S are the samples of RGB.
    kinds = "".join({"S": "C", "Q": "Z", "I": "Z"}.get(axis, axis) for axis in axes)
    keep = [n for n, size in enumerate(data.shape) if size > 1 or kinds[n] in "ZYX"]
    data = data.reshape([data.shape[n] for n in keep])
    kinds = "".join(kinds[n] for n in keep)
    if sorted(kinds) not in (sorted("YX"), sorted("ZYX"), sorted("CYX"), sorted("CZYX")):
        raise ReadError(
            f"{path.name} has axes {axes} of shape {data.shape}.",
            "Open a 2-D image or a stack (Z), with or without channels (C).",
        )
    spatial_dims = 3 if "Z" in kinds else 2
    for missing in "ZC":
        if missing not in kinds:
            data, kinds = data[None], missing + kinds
    array = data.transpose([kinds.index(axis) for axis in "CZYX"])
    if 0 in array.shape:
        raise ReadError(f"{path.name} is empty: its shape is {array.shape}.", "Export it anew.")
    if array.dtype.kind not in "buif":
        raise ReadError(f"{path.name} holds {array.dtype} voxels.", "Export it with real numbers.")
    return array.astype(np.uint8) if array.dtype == bool else array, spatial_dims


def _spacing(file: tifffile.TiffFile) -> Triple | None:
    """(Z, Y, X) in mm, or None where the file gives no lengths."""
    described = _described(file)
    if described.get("unit") == "mm" and len(described.get("spacing", ())) == 3:
        z, y, x = described["spacing"]
        return float(z), float(y), float(x)
    if file.is_ome and file.ome_metadata:
        return _ome_spacing(file.ome_metadata)
    x, y = (_per_unit(file, tag) for tag in ("XResolution", "YResolution"))
    if file.is_imagej:
        meta = file.imagej_metadata or {}
        scale = _TO_MM.get(str(meta.get("unit", "")).lower())
        if scale is None or not x or not y:
            return None
        return float(meta.get("spacing", 1.0)) * scale, scale / y, scale / x
    unit = file.pages.first.tags.get("ResolutionUnit")
    scale = {2: 25.4, 3: 10.0}.get(int(unit.value)) if unit is not None else None
    if scale is None or not x or not y or (x, y) in ((72, 72), (96, 96), (1, 1)):
        return None  # screen resolutions say nothing about the object
    return 1.0, scale / y, scale / x


def _notes(file: tifffile.TiffFile, axes: str) -> tuple[str, ...]:
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
        return float(value) * _TO_MM.get(unit, 1e-3) if value else 1.0

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


def _class_names(file: tifffile.TiffFile) -> tuple[str, ...]:
    names = _described(file).get("class_names", ())
    return tuple(str(name) for name in names)
