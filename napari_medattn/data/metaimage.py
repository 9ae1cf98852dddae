"""MetaImage files (.mha, and .mhd with its voxels beside it), through SimpleITK."""

from __future__ import annotations

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
        _check_header(path)
        reader = sitk.ImageFileReader()
        reader.SetImageIO("MetaImageIO")
        reader.SetFileName(str(path))
        reader.ReadImageInformation()
        size, channels = reader.GetSize(), reader.GetNumberOfComponents()
        place = ItkGeometry(reader.GetSpacing(), reader.GetOrigin(), reader.GetDirection())
        if len(size) not in (2, 3, 4) or (len(size) == 4 and channels > 1):
            raise ReadError(f"{path.name} has {len(size)} axes and {channels} values a voxel.", "Use 2 to 4 axes.")
        values = real_voxels(path, sitk.GetArrayFromImage(reader.Execute()))
        array = np.moveaxis(values, -1, 0) if channels > 1 else values if len(size) == 4 else values[None]
        dims = min(3, len(size))
        if dims == 2:
            array = array[:, None]
        grid = Grid((array.shape[1], array.shape[2], array.shape[3]), _affine(place, len(size)))
        return Volume(array, grid, spatial_dims=dims, path=path, header=place)


def write_labels(path: Path, labels: NDArray[np.generic], like: Volume, class_names: Sequence[str] = ()) -> None:
    """Write (Z, Y, X) labels; see `formats.write_labels`. The format has no place for class names."""
    import SimpleITK as sitk

    dims = like.spatial_dims
    values = labels[0] if dims == 2 else labels
    image = sitk.GetImageFromArray(values)
    spacing, origin, direction = _placed(like, dims)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection(direction)
    try:
        sitk.WriteImage(image, str(path), useCompression=True)
    except RuntimeError as error:
        raise OSError(str(error).strip().splitlines()[-1]) from error


def _check_header(path: Path) -> None:
    """Refuse what the header claims and the files beside it cannot hold, before ITK takes memory for it."""
    with path.open("rb") as file:
        head = file.read(_HEADER_LIMIT)
    fields = dict(re.findall(r"^\s*(\w+)\s*=\s*(.*?)\s*$", head.decode("latin-1"), re.MULTILINE))
    if "DimSize" not in fields or "ElementDataFile" not in fields:
        raise ReadError(f"{path.name} is no MetaImage: it lacks DimSize or ElementDataFile.", "Check its suffix.")
    sizes = [int(size) for size in fields["DimSize"].split()]
    wide = int(fields.get("ElementNumberOfChannels", 1)) * _item_size(path, fields.get("ElementType", ""))
    named = fields["ElementDataFile"]
    if named.upper().startswith("LIST") or "%" in named:
        raise ReadError(f"{path.name} spreads its voxels over several files.", "Save it as one .mha file.")
    data = path if named.upper() == "LOCAL" else path.parent / named
    if not data.is_file():
        raise ReadError(f"The voxels of {path.name} are missing.", f"Put {data.name} beside it.")
    packed = fields.get("CompressedData", "False").lower() in ("true", "1")
    check_claim(path, sizes, wide, file_size(data), DEFLATE_LIMIT if packed else 1)
    check_memory(path, 2 * wide * float(np.prod([float(size) for size in sizes])))


def _item_size(path: Path, name: str) -> int:
    sizes = {"CHAR": 1, "SHORT": 2, "INT": 4, "LONG": 8, "LONG_LONG": 8, "FLOAT": 4, "DOUBLE": 8}
    kind = re.sub(r"_ARRAY$", "", name.removeprefix("MET_").replace("UCHAR", "CHAR").replace("ULONG", "LONG"))
    kind = kind.replace("USHORT", "SHORT").replace("UINT", "INT")
    if kind not in sizes:
        raise ReadError(f"The voxels of {path.name} are of the type {name!r}.", "Save it with real numbers.")
    return sizes[kind]


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
