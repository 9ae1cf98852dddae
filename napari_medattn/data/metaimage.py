"""MetaImage files (.mha, and .mhd with its voxels beside it), through SimpleITK."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from napari_medattn.data.reading import DEFLATE_LIMIT, check_claim, check_memory, file_size, reading, real_voxels
from napari_medattn.data.volume import Volume
from napari_medattn.errors import ReadError
from napari_medattn.geometry import Grid

_HEADER_LIMIT = 1 << 16  # bytes
_NAMES = "ClassNames"
_TYPES = {
    "MET_CHAR": "i1",
    "MET_UCHAR": "u1",
    "MET_SHORT": "i2",
    "MET_USHORT": "u2",
    "MET_INT": "i4",
    "MET_UINT": "u4",
    "MET_LONG_LONG": "i8",
    "MET_ULONG_LONG": "u8",
    "MET_FLOAT": "f4",
    "MET_DOUBLE": "f8",
}
_FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])  # ITK's world is LPS+


class ItkGeometry(NamedTuple):
    """Where ITK places an image; kept so that a mask is placed by the very same numbers."""

    spacing: tuple[float, ...]
    origin: tuple[float, ...]
    direction: tuple[float, ...]


def read(path: Path) -> Volume:
    """Read a MetaImage; see `formats.read_volume`."""
    import SimpleITK as sitk

    with reading(path, "a MetaImage"):
        found = _header(path)
        reader = sitk.ImageFileReader()
        reader.SetImageIO("MetaImageIO")
        reader.SetFileName(str(path))
        reader.ReadImageInformation()
        size, channels = reader.GetSize(), reader.GetNumberOfComponents()
        if (tuple(size), channels) != (found.sizes, found.channels):
            raise ReadError(f"{path.name}: its DimSize cannot be made sense of.", "Export it anew.")
        place = ItkGeometry(reader.GetSpacing(), reader.GetOrigin(), reader.GetDirection())
        if len(size) not in (2, 3, 4) or (len(size) == 4 and channels > 1):
            raise ReadError(f"{path.name} has {len(size)} axes and {channels} values a voxel.", "Use 2 to 4 axes.")
        values = real_voxels(path, _voxels(path, found, reader))
        array = np.moveaxis(values, -1, 0) if channels > 1 else values if len(size) == 4 else values[None]
        dims = min(3, len(size))
        if dims == 2:
            array = array[:, None]
        grid = Grid((array.shape[1], array.shape[2], array.shape[3]), _affine(place, len(size)))
        names = _names(reader.GetMetaData(_NAMES) if reader.HasMetaDataKey(_NAMES) else "")
        return Volume(array, grid, spatial_dims=dims, path=path, header=place, class_names=names)


def write_labels(path: Path, labels: NDArray[np.generic], like: Volume, class_names: Sequence[str] = ()) -> None:
    """Write (Z, Y, X) labels; see `formats.write_labels`. Class names are a field of their own."""
    import SimpleITK as sitk

    dims = like.spatial_dims
    values = labels[0] if dims == 2 else labels
    image = sitk.GetImageFromArray(values)
    spacing, origin, direction = _placed(like, dims)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection(direction)
    if class_names:
        image.SetMetaData(_NAMES, json.dumps(list(class_names)))
    try:
        sitk.WriteImage(image, str(path), useCompression=True)
    except RuntimeError as error:
        raise OSError(str(error).strip().splitlines()[-1]) from error


class _Header(NamedTuple):
    """What a header says about where and how the voxels are stored."""

    sizes: tuple[int, ...]
    channels: int
    dtype: np.dtype[Any]
    data: Path
    packed: bool
    start: int


def _header(path: Path) -> _Header:
    """Read a header, to refuse what its file cannot hold before ITK takes memory for it, and to map voxels."""
    with path.open("rb") as file:
        head = file.read(_HEADER_LIMIT)
    end = re.search(rb"ElementDataFile[^\n]*\n?", head)
    text = head[: end.end() if end else 0].decode("latin-1")
    fields: dict[str, str] = dict(re.findall(r"^[ \t]*(\w+)[ \t]*=[ \t]*(.*?)\s*$", text, re.MULTILINE))
    if end is None or "DimSize" not in fields:
        raise ReadError(f"{path.name} is no MetaImage: it lacks DimSize or ElementDataFile.", "Check its suffix.")
    named = fields["ElementDataFile"]
    if named.upper().startswith("LIST") or "%" in named:
        raise ReadError(f"{path.name} spreads its voxels over several files.", "Save it as one .mha file.")
    data = path if named.upper() == "LOCAL" else path.parent / named
    if not data.is_file():
        raise ReadError(f"The voxels of {path.name} are missing.", f"Put {data.name} beside it.")
    swapped = fields.get("BinaryDataByteOrderMSB", fields.get("ElementByteOrderMSB", "False")).lower() == "true"
    name = fields.get("ElementType", "").removesuffix("_ARRAY")
    if name not in _TYPES:
        raise ReadError(f"The voxels of {path.name} are of the type {name!r}.", "Save it with real numbers.")
    found = _Header(
        sizes=tuple(int(size) for size in fields["DimSize"].split()),
        channels=int(fields.get("ElementNumberOfChannels", 1)),
        dtype=np.dtype(_TYPES[name]).newbyteorder(">" if swapped else "<"),
        data=data,
        packed=fields.get("CompressedData", "False").lower() in ("true", "1") or fields.get("BinaryData") == "False",
        start=end.end() if data == path else max(0, int(fields.get("HeaderSize", 0))),
    )
    wide, stored = found.channels * found.dtype.itemsize, file_size(data) - found.start
    check_claim(path, found.sizes, wide, stored, DEFLATE_LIMIT if found.packed else 1)
    if found.packed:
        check_memory(path, 2 * wide * float(np.prod([float(size) for size in found.sizes])))
    return found


def _voxels(path: Path, found: _Header, reader: Any) -> NDArray[Any]:
    """([T,] [Z,] Y, X[, C]) voxels, mapped where they are stored plainly."""
    import SimpleITK as sitk

    if found.packed:
        values: NDArray[Any] = sitk.GetArrayFromImage(reader.Execute())
        return values
    shape = (*found.sizes[::-1], *((found.channels,) if found.channels > 1 else ()))
    return np.memmap(found.data, found.dtype, "c", found.start, shape)


def _names(text: str) -> tuple[str, ...]:
    try:
        found = json.loads(text or "[]")
    except ValueError:
        return ()
    return tuple(str(name) for name in found) if isinstance(found, list) else ()


def _affine(place: ItkGeometry, dims: int) -> NDArray[np.float64]:
    """LPS+ directions, spacing and origin of 2 to 4 axes -> voxel (x, y, z) to RAS+ mm."""
    affine = np.eye(4)
    kept = min(3, dims)
    turn = np.array(place.direction).reshape(dims, dims)[:kept, :kept]
    affine[:kept, :kept] = turn * np.array(place.spacing[:kept])
    affine[:kept, 3] = place.origin[:kept]
    return _FLIP @ affine


def _placed(like: Volume, dims: int) -> ItkGeometry:
    """The source's own numbers where it is a MetaImage, else those of its grid."""
    if isinstance(like.header, ItkGeometry):
        count = len(like.header.spacing)
        turn = np.array(like.header.direction).reshape(count, count)[:dims, :dims]
        return ItkGeometry(like.header.spacing[:dims], like.header.origin[:dims], tuple(turn.ravel().tolist()))
    affine = _FLIP @ like.grid.affine
    spacing: Any = like.grid.spacing[::-1][:dims]
    turn = affine[:dims, :dims] / np.array(spacing)
    return ItkGeometry(tuple(spacing), tuple(affine[:dims, 3].tolist()), tuple(turn.ravel().tolist()))
