"""NIfTI files: read with their true geometry, write masks with every geometry field kept."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from nibabel.nifti1 import Nifti1Extension
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError
from numpy.typing import NDArray

from napari_medattn.data.volume import Volume
from napari_medattn.errors import GeometryError, ReadError
from napari_medattn.geometry import Grid

PutSlab = Callable[[NDArray[np.float32]], None]
_COMMENT = 6  # NIfTI extension code for plain text
_DEFLATE_LIMIT = 1032  # no gzip stream expands by more
_DAMAGE = (ImageFileError, HeaderDataError, WrapStructError, OSError, EOFError, ValueError, OverflowError, zlib.error)


def read(path: Path) -> Volume:
    """Read a NIfTI-1 or NIfTI-2 image; see `formats.read_volume`."""
    try:
        image = nib.load(path)
        _check_size(path, image)
        data = _voxels(image)
    except MemoryError as error:
        raise ReadError(f"{path.name} does not fit into memory.", "Crop it, or use a machine with more.") from error
    except _DAMAGE as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ReadError(
            f"{path.name} is damaged or not a NIfTI image ({reason}).",
            "Copy it again from its source, or export it anew.",
        ) from error
    spatial_dims = min(3, data.ndim - 1)
    array = _to_array(path, data)
    affine, notes = _affine(image)
    try:
        grid = Grid(array.shape[1:], affine)
    except GeometryError as error:
        raise ReadError(f"{path.name}: {error.problem}", error.remedy) from error
    return Volume(
        array,
        grid,
        spatial_dims=spatial_dims,
        path=path,
        header=image.header,
        class_names=_class_names(image.header),
        notes=notes,
    )


def write_labels(path: Path, labels: NDArray[np.generic], like: Volume, class_names: Sequence[str] = ()) -> None:
    """Write (Z, Y, X) labels; see `formats.write_labels`."""
    image = _image_like(labels.T, like)  # (Z, Y, X) -> (X, Y, Z): the same memory, in Fortran order as NIfTI stores it
    image.set_data_dtype(labels.dtype)
    image.header["descrip"] = b"mask"
    if class_names:
        _add_text(image.header, {"class_names": list(class_names)})
    nib.save(image, path)


@contextmanager
def open_values(path: Path, like: Volume, count: int | None, about: Mapping[str, Any]) -> Iterator[PutSlab]:
    """Write real values slab by slab; see `formats.open_values`."""
    z, y, x = like.grid.shape
    shape = (x, y, z) if count is None else (x, y, z, count)
    header = _image_like(np.broadcast_to(np.float32(0), shape), like).header
    header.set_data_dtype(np.float32)
    header.set_intent("none")
    header["descrip"] = b"values"
    if count is not None:
        header["pixdim"][3:5] = header["pixdim"][3] or 1, 1
    _add_text(header, about)
    dtype = header.get_data_dtype()
    with ExitStack() as stack:
        file = stack.enter_context(path.open("wb"))
        packed = path.name.lower().endswith(".gz")
        out = stack.enter_context(gzip.GzipFile("", "wb", 1, file, mtime=0)) if packed else file
        header.write_to(out)
        out.write(bytes(int(header["vox_offset"]) - out.tell()))
        yield lambda slab: _write(out, slab.astype(dtype, copy=False).tobytes())


def _write(out: Any, content: bytes) -> None:
    out.write(content)


def _image_like(data: NDArray[np.generic], like: Volume) -> Any:
    """An image of (X, Y, Z[, N]) voxels with the exact geometry of a volume, stored without scaling."""
    if isinstance(like.header, nib.Nifti1Header):
        header = like.header.copy()
        header.extensions.clear()
        if data.ndim == 3 and (header.get_data_shape()[2:] == () or like.spatial_dims == 2):
            data = data[:, :, 0]
        image = type_of(header)(data, None, header)
        # Shape and zooms follow the data; all else that says where voxels lie stays as in the source.
        for field in ("pixdim", "qform_code", "sform_code", "xyzt_units"):
            image.header[field] = like.header[field]
        for field in ("quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y", "qoffset_z"):
            image.header[field] = like.header[field]
        for field in ("srow_x", "srow_y", "srow_z"):
            image.header[field] = like.header[field]
    else:
        too_long = max(data.shape) > np.iinfo(np.int16).max  # NIfTI-1 counts voxels along a side in 16 bits
        form: type[nib.Nifti1Image] = nib.Nifti2Image if too_long else nib.Nifti1Image
        image = form(data, like.grid.affine)
        image.header.set_xyzt_units("mm" if like.grid.units == "mm" else "unknown")
    image.header["cal_min"], image.header["cal_max"] = 0, 0
    image.header.set_slope_inter(1, 0)
    return image


def _add_text(header: Any, content: Mapping[str, Any]) -> None:
    """Put plain data into the file as a JSON comment."""
    header.extensions.append(Nifti1Extension(_COMMENT, json.dumps(content).encode()))


def type_of(header: nib.Nifti1Header) -> type[nib.Nifti1Image]:
    """The image class that belongs to a header."""
    return nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image


def _check_size(path: Path, image: Any) -> None:
    claimed = float(np.prod([float(n) for n in image.shape])) * image.get_data_dtype().itemsize
    stored = path.stat().st_size * (_DEFLATE_LIMIT if path.name.lower().endswith(".gz") else 1)
    if claimed > stored:
        raise ValueError(f"its header claims {claimed:.3g} bytes, the file cannot hold more than {stored:.3g}")


def _voxels(image: Any) -> NDArray[Any]:
    """(x, y[, z], c) in native byte order."""
    stored = image.get_data_dtype()
    if stored.fields:  # RGB24 and RGBA32 are structured: one named field per channel
        raw = np.asanyarray(image.dataobj)
        data = np.stack([raw[name] for name in stored.names], axis=-1)
        return data
    data = np.asanyarray(image.dataobj)
    if np.iscomplexobj(data):
        raise ValueError("its voxels are complex numbers")
    if data.dtype.kind == "f":
        data = data.astype(np.float32, copy=False)
    data = data.astype(data.dtype.newbyteorder("="), copy=False)
    if data.ndim == 5 and data.shape[3] == 1:
        data = data[:, :, :, 0]
    return data if data.ndim >= 4 else data[..., None]


def _to_array(path: Path, data: NDArray[Any]) -> NDArray[Any]:
    """(x, y[, z], c) -> (C, Z, Y, X), a view."""
    if data.ndim not in (3, 4):
        raise ReadError(
            f"{path.name} has {data.ndim - 1} axes, of shape {data.shape[:-1]}.",
            "Open an image with 2 to 4 axes.",
        )
    if 0 in data.shape:
        raise ReadError(f"{path.name} is empty: its shape is {data.shape}.", "Export it anew.")
    array = data.T
    return array[:, None] if data.ndim == 3 else array


def _affine(image: Any) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """The file's affine; unit columns with other voxel sizes in pixdim are scaled to them, and told."""
    affine = np.array(image.affine, dtype=np.float64)
    unit = image.header.get_xyzt_units()[0] if hasattr(image.header, "get_xyzt_units") else "mm"
    affine[:3] *= {"micron": 1e-3, "meter": 1e3}.get(unit, 1.0)
    if unit in ("micron", "meter"):
        return affine, (f"The file counts in {unit}s; lengths are shown in mm.",)
    zooms = np.array([*image.header.get_zooms()[:3], 1.0, 1.0][:3], dtype=np.float64)
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    lost = np.allclose(lengths, 1.0) and not np.allclose(zooms, 1.0) and (zooms > 0).all()
    if not lost or int(image.header["qform_code"]) > 0:
        return affine, _form_conflict(image.header)
    affine[:3, :3] *= zooms
    sizes = " x ".join(f"{zoom:.4g}" for zoom in zooms)
    return affine, (f"The affine has 1 mm voxels, pixdim {sizes} mm: pixdim is taken as the truth.",)


def _form_conflict(header: Any) -> tuple[str, ...]:
    """A note where both forms are set and place the scan differently; the sform is the one that counts."""
    if not hasattr(header, "get_sform") or not (int(header["sform_code"]) and int(header["qform_code"])):
        return ()
    if np.allclose(header.get_sform(), header.get_qform(), atol=0.05):
        return ()
    return ("Its sform and qform place the scan differently: the sform is taken as the truth.",)


def _class_names(header: Any) -> tuple[str, ...]:
    for extension in getattr(header, "extensions", ()):
        if extension.get_code() == _COMMENT:
            try:
                found = json.loads(bytes(extension.get_content()).rstrip(b"\0"))
            except (ValueError, TypeError):
                continue
            names = found.get("class_names") if isinstance(found, dict) else None
            if isinstance(names, list):
                return tuple(str(name) for name in names)
    return ()
