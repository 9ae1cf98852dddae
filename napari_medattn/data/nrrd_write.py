"""Writing NRRD images: the source's own geometry fields, segment names as 3D Slicer has them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medattn.data.volume import Volume
from napari_medattn.palette import class_colour

PutSlab = Callable[[NDArray[np.float32]], None]
_TYPES = {"u1": "uint8", "u2": "uint16", "u4": "uint32", "u8": "uint64", "f4": "float"}
_KEPT = ("space", "space units", "space origin", "measurement frame")


def write_labels(path: Path, labels: NDArray[np.generic], like: Volume, class_names: Sequence[str] = ()) -> None:
    """Write (Z, Y, X) labels with a segment per class; see `formats.write_labels`."""
    flat = like.spatial_dims == 2
    values = labels[0] if flat else labels
    lines = [*_head(values.dtype, values.shape[::-1]), *_place(like)]
    present = np.bincount(labels.ravel(), minlength=len(class_names)) if class_names else ()
    for number, name in enumerate(class_names[1:]):
        lines += _segment(number, name, labels, bool(present[number + 1]))
    with path.open("wb") as file, gzip.GzipFile("", "wb", 1, _after(file, lines), mtime=0) as out:
        out.write(np.ascontiguousarray(values, values.dtype.newbyteorder("<")).data)


@contextmanager
def open_values(path: Path, like: Volume, count: int | None, about: Mapping[str, Any]) -> Iterator[PutSlab]:
    """Write real values slab by slab; see `formats.open_values`."""
    z, y, x = like.grid.shape
    sizes = (x, y) if like.spatial_dims == 2 else (x, y, z)
    lines = [*_head(np.dtype("f4"), (*sizes, *(() if count is None else (count,)))), *_place(like, count is not None)]
    if about:
        lines.append(f"medattn:={_escaped(json.dumps(about))}")
    with path.open("wb") as file, gzip.GzipFile("", "wb", 1, _after(file, lines), mtime=0) as out:
        yield lambda slab: _put(out, slab)


def _put(out: Any, slab: NDArray[np.float32]) -> None:
    out.write(np.ascontiguousarray(slab, "<f4").data)


def _after(file: Any, lines: Sequence[str]) -> Any:
    file.write(("\n".join(["NRRD0005", *lines]) + "\n\n").encode())
    return file


def _head(dtype: np.dtype[Any], sizes: Sequence[int]) -> list[str]:
    return [
        f"type: {_TYPES[dtype.str[1:]]}",
        f"dimension: {len(sizes)}",
        f"sizes: {' '.join(str(size) for size in sizes)}",
        "endian: little",
        "encoding: gzip",
    ]


def _place(like: Volume, several: bool = False) -> list[str]:
    """Fields that say where voxels lie: the source's own where it is an NRRD, else those of its grid."""
    dims = like.spatial_dims
    source = like.header if isinstance(like.header, dict) and "space directions" in like.header else None
    if source is not None:
        kept = [row for row in source["space directions"] if row is not None and np.isfinite(row).all()][:dims]
        fields = {key: source[key] for key in _KEPT if source.get(key) is not None}
        directions: list[Any] = list(kept)
    else:
        affine = np.diag([-1.0, -1.0, 1.0, 1.0]) @ like.grid.affine
        directions = list(affine[:3, :dims].T)
        fields = {"space": "left-posterior-superior", "space origin": affine[:3, 3]}
        if like.grid.units == "mm":
            fields["space units"] = ["mm"] * 3
    kinds = " ".join(["domain"] * dims + ["list"] * several)
    rows = " ".join([_vector(row) for row in directions] + ["none"] * several)
    return [
        *(f"{key}: {_field(key, value)}" for key, value in fields.items()),
        f"space directions: {rows}",
        f"kinds: {kinds}",
    ]


def _field(key: str, value: Any) -> str:
    if key == "space":
        return str(value)
    if key == "space units":
        return " ".join(f'"{str(unit).strip(chr(34))}"' for unit in value)
    if key == "measurement frame":
        return " ".join(_vector(row) for row in value)
    return _vector(value)


def _vector(values: Any) -> str:
    """Numbers in the shortest form that gives them back exactly."""
    return f"({','.join(repr(float(value)) for value in values)})"


def _segment(number: int, name: str, labels: NDArray[np.generic], present: bool) -> list[str]:
    """What 3D Slicer keeps of a segment: https://slicer.readthedocs.io, Segmentations, file format."""
    colour = class_colour(number + 1)
    red, green, blue = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    z, y, x = labels.shape
    extent = f"0 {x - 1} 0 {y - 1} 0 {z - 1}" if present else "0 -1 0 -1 0 -1"
    return [
        f"Segment{number}_ID:=Segment_{number + 1}",
        f"Segment{number}_Name:={_escaped(name)}",
        f"Segment{number}_LabelValue:={number + 1}",
        f"Segment{number}_Layer:=0",
        f"Segment{number}_Color:={red:.6f} {green:.6f} {blue:.6f}",
        f"Segment{number}_Extent:={extent}",
    ]


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")
