"""NRRD images (.nrrd, .nhdr, .seg.nrrd), as 3D Slicer writes and reads them.

Definition: https://teem.sourceforge.net/nrrd/format.html. The axis order of a header is fastest first, so that an
array of C order has its axes the other way round.
"""

from __future__ import annotations

import bz2
import re
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medattn.data.reading import (
    DEFLATE_LIMIT,
    check_claim,
    check_memory,
    file_size,
    plain_grid,
    reading,
    real_voxels,
)
from napari_medattn.data.volume import Volume
from napari_medattn.errors import ReadError
from napari_medattn.geometry import Grid

_HEADER_LIMIT = 1 << 20  # bytes; longer headers are damage
_TO_RAS = {
    "right-anterior-superior": (1, 1, 1),
    "left-anterior-superior": (-1, 1, 1),
    "left-posterior-superior": (-1, -1, 1),
}
_TO_RAS |= {"ras": (1, 1, 1), "las": (-1, 1, 1), "lps": (-1, -1, 1)}
_TO_MM = {"mm": 1.0, "um": 1e-3, "µm": 1e-3, "cm": 10.0, "m": 1e3, "nm": 1e-6}
_PACKED = {"gzip": 31, "gz": 31}
_SPATIAL = ("domain", "space", "", None)


def read(path: Path) -> Volume:
    """Read an NRRD image; see `formats.read_volume`."""
    import nrrd

    with reading(path, "an NRRD image"):
        with path.open("rb") as file:
            if not file.read(4).startswith(b"NRRD"):
                raise ReadError(f"{path.name} is no NRRD image: it does not begin with NRRD.", "Check its suffix.")
            file.seek(0)
            header = dict(nrrd.read_header(_lines(file.read(_HEADER_LIMIT))))
        sizes = [int(size) for size in header["sizes"]]
        if len(sizes) != int(header["dimension"]):
            raise ReadError(f"{path.name}: its sizes do not fit its dimension.", "Export it anew.")
        values = _voxels(path, header, sizes)
        array, space = _to_array(path, header, values)
        grid, notes = _grid(header, space, array.shape[1:])
        return Volume(
            array,
            grid,
            spatial_dims=len(space),
            path=path,
            header=header,
            class_names=_class_names(header),
            notes=notes,
        )


def _lines(content: bytes) -> list[str]:
    """Header lines up to the empty one that ends it."""
    end = re.search(rb"\r?\n\r?\n", content)
    return [line.decode("utf-8", "replace") for line in content[: end.end() if end else len(content)].splitlines()]


def _voxels(path: Path, header: Mapping[str, Any], sizes: list[int]) -> NDArray[Any]:
    """The voxels with the header's axes the other way round; plain ones are mapped."""
    from nrrd.reader import _determine_datatype

    dtype = np.dtype(_determine_datatype(header))
    encoding = str(header["encoding"]).lower()
    data, start = _data_file(path, header)
    packed = encoding not in ("raw",)
    check_claim(path, sizes, dtype.itemsize, file_size(data) - start, DEFLATE_LIMIT if packed else 1)
    shape, count = sizes[::-1], int(np.prod(sizes)) * dtype.itemsize
    skip = int(header.get("byte skip", header.get("byteskip", 0)))
    if int(header.get("line skip", header.get("lineskip", 0))):
        raise ReadError(f"{path.name} skips lines before its voxels.", "Save it again with 3D Slicer.")
    if encoding == "raw":
        start = file_size(data) - count if skip == -1 else start + skip
        check_claim(path, sizes, dtype.itemsize, file_size(data) - start)
        return real_voxels(path, np.memmap(data, dtype, "c", start, tuple(shape)))
    check_memory(path, count)
    with data.open("rb") as file:
        file.seek(start)
        if encoding in _PACKED:
            content = zlib.decompressobj(_PACKED[encoding]).decompress(file.read(), max(skip, 0) + count)
        elif encoding in ("bzip2", "bz2"):
            content = bz2.BZ2Decompressor().decompress(file.read(), max(skip, 0) + count)
        elif encoding in ("ascii", "text", "txt"):
            content = np.array(file.read().split(), dtype).tobytes()
        else:
            raise ReadError(f"The voxels of {path.name} are stored as {encoding}.", "Save it as raw or gzip.")
    content = content[max(skip, 0) :]
    if len(content) < count:
        raise ReadError(
            f"{path.name} was cut off: it has {len(content)} of {count} bytes of voxels.",
            "Copy it again from its source.",
        )
    return real_voxels(path, np.frombuffer(bytearray(content[:count]), dtype).reshape(shape))


def _data_file(path: Path, header: Mapping[str, Any]) -> tuple[Path, int]:
    """Where the voxels are stored, and the byte at which they begin."""
    named = header.get("data file", header.get("datafile"))
    if named is None:
        with path.open("rb") as file:
            end = re.search(rb"\r?\n\r?\n", file.read(_HEADER_LIMIT))
        if end is None:
            raise ReadError(f"The header of {path.name} has no end.", "Copy it again from its source.")
        return path, end.end()
    if str(named).upper().startswith("LIST") or "%" in str(named):
        raise ReadError(f"{path.name} spreads its voxels over several files.", "Save it as one .nrrd file.")
    data = path.parent / str(named)
    if not data.is_file():
        raise ReadError(f"The voxels of {path.name} are missing.", f"Put {data.name} beside it.")
    return data, 0


def _to_array(path: Path, header: Mapping[str, Any], values: NDArray[Any]) -> tuple[NDArray[Any], list[int]]:
    """(C, Z, Y, X), and the header's axes that lie in space, fastest first."""
    count = values.ndim
    space = [axis for axis in range(count) if _in_space(header, axis)]
    if len(space) > 3:
        space = space[:3]
    rest = [axis for axis in range(count) if axis not in space]
    if len(space) < 2 or len([axis for axis in rest if values.shape[count - 1 - axis] > 1]) > 1:
        raise ReadError(
            f"{path.name} has {len(space)} axes in space and {len(rest)} others, of sizes {values.shape[::-1]}.",
            "Open an image with 2 or 3 axes in space and at most one of contrasts or times.",
        )
    order = [*rest, *space[::-1]]
    turned = values.transpose([count - 1 - axis for axis in order])
    lying = turned.shape[len(rest) :]
    return turned.reshape(-1, *((1,) if len(space) == 2 else ()), *lying), space


def _in_space(header: Mapping[str, Any], axis: int) -> bool:
    directions, kinds = header.get("space directions"), header.get("kinds")
    if kinds is not None and kinds[axis] not in _SPATIAL and kinds[axis] != "???":
        return False
    if directions is None:
        return axis < 3 or kinds is not None
    direction = directions[axis]
    return direction is not None and bool(np.isfinite(np.asarray(direction, float)).all())


def _grid(header: Mapping[str, Any], space: list[int], shape: tuple[int, ...]) -> tuple[Grid, tuple[str, ...]]:
    directions = header.get("space directions")
    z, y, x = (int(size) for size in shape)
    if directions is None:
        spacings = header.get("spacings")
        if spacings is None:
            return plain_grid(shape, None), ("It gives no voxel size.",)
        steps = [abs(float(spacings[axis])) for axis in space]
        return plain_grid(shape, [*([1.0] if len(steps) == 2 else []), *steps[::-1]]), (
            "It gives voxel sizes but no directions.",
        )
    notes = []
    name = str(header.get("space", "")).lower().removesuffix("-time").removesuffix("t")
    if name not in _TO_RAS:
        notes.append("It does not say where left is: its axes are taken to run left, posterior, superior.")
    signs = np.array(_TO_RAS.get(name, (-1, -1, 1)), float)
    scale = _scale(header)
    affine = np.eye(4)
    for column, axis in enumerate(space):
        direction = np.zeros(3)
        given = np.asarray(directions[axis], float)[:3]
        direction[: len(given)] = given
        affine[:3, column] = signs * direction * scale
    if len(space) == 2:
        across = np.cross(affine[:3, 0], affine[:3, 1])
        affine[:3, 2] = across / (np.linalg.norm(across) or 1.0)
    origin = np.zeros(3)
    if header.get("space origin") is not None:
        given = np.asarray(header["space origin"], float)[:3]
        origin[: len(given)] = given
    affine[:3, 3] = signs * origin * scale
    return Grid((z, y, x), affine), tuple(notes)


def _scale(header: Mapping[str, Any]) -> float:
    units = [str(unit).strip('"').lower() for unit in header.get("space units") or ()]
    return _TO_MM.get(units[0], 1.0) if units else 1.0


def _class_names(header: Mapping[str, Any]) -> tuple[str, ...]:
    """Names by label value from 3D Slicer's segment fields; () if there are none."""
    names = {}
    for key, name in header.items():
        number = re.fullmatch(r"Segment(\d+)_Name", str(key))
        if number is not None:
            value = header.get(f"Segment{number[1]}_LabelValue", int(number[1]) + 1)
            if str(value).isdigit() and int(value) < 1 << 16:
                names[int(value)] = re.sub(r"\\(.)", lambda found: "\n" if found[1] == "n" else found[1], str(name))
    return tuple(names.get(n, "background" if n == 0 else f"class {n}") for n in range(max(names) + 1)) if names else ()
