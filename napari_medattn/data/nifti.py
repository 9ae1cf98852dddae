"""Reading NIfTI-1, NIfTI-2 and Analyze images, in one file (.nii, .nii.gz) or two (.hdr and .img).

Where a header contradicts itself, this is what counts, and a note says so:

1. the sform, if its code is set; a qform that places the scan elsewhere is left aside;
2. else the qform, if its code is set;
3. else pixdim alone, with the middle of the volume at the origin and x running to the left, as in Analyze;
4. an sform of 1 mm voxels without a qform, where pixdim has other sizes, has lost them: its directions count, and
   the sizes of pixdim.

An sform or qform that cannot place voxels (not finite, or without a volume) is an error rather than passed over.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from napari_medattn.data.lazy import by_slices
from napari_medattn.data.reading import (
    DEFLATE_LIMIT,
    LAZY_BYTES,
    check_claim,
    check_memory,
    file_size,
    reading,
    real_voxels,
)
from napari_medattn.data.volume import Array, Volume
from napari_medattn.errors import ReadError
from napari_medattn.geometry import Grid

COMMENT = 6  # NIfTI extension code for plain text
_PACKED = (".gz", ".mgz", ".bz2")


def read(path: Path) -> Volume:
    """Read a NIfTI or Analyze image; see `formats.read_volume`."""
    with reading(path, "a NIfTI image"):
        image = nib.load(path)
        if not isinstance(image, nib.AnalyzeImage):
            raise ReadError(f"{path.name} is a {type(image).__name__}, no NIfTI image.", "Give it its own suffix.")
        array, axes = load_voxels(path, image)
        affine, notes = _affine(image)
        return Volume(
            array,
            Grid((array.shape[1], array.shape[2], array.shape[3]), affine),
            spatial_dims=axes,
            path=path,
            header=image.header,
            class_names=_class_names(image.header),
            notes=notes,
        )


def load_voxels(path: Path, image: Any) -> tuple[Array, int]:
    """The voxels of an image that nibabel opened, (C, Z, Y, X), and the number of spatial axes.

    What is stored plainly is mapped, not read; what would have to be scaled is read slice by slice where it is large.
    """
    stored, shape = image.get_data_dtype(), tuple(int(size) for size in image.shape)
    _check_size(path, image, shape, stored)
    if stored.kind == "c":
        raise ReadError(f"The voxels of {path.name} are complex numbers.", "Export their magnitude.")
    if stored.fields:  # RGB24 and RGBA32 are structured: one named field per channel
        raw = np.asanyarray(image.dataobj)
        array = np.stack([raw[name] for name in stored.names], axis=-1)
        axes = raw.ndim
    elif _is_lazy(image, shape):
        array, axes = by_slices(image.dataobj, shape, _result_type(image)), len(shape)
        return _to_array(path, array, axes)
    else:
        array = np.asanyarray(image.dataobj)
        if array.dtype.kind == "f" and array.dtype.itemsize != 4 and array.nbytes < LAZY_BYTES:
            array = array.astype(np.float32)
        axes = array.ndim
    return _to_array(path, real_voxels(path, array), axes)


def _check_size(path: Path, image: Any, shape: tuple[int, ...], stored: np.dtype[Any]) -> None:
    voxels = image.file_map["image"].filename
    if voxels is None or not Path(voxels).exists():
        raise ReadError(f"The voxels of {path.name} are missing.", f"Put {Path(voxels or path).name} beside it.")
    packed = str(voxels).lower().endswith(_PACKED)
    start = 0 if packed else int(getattr(image.dataobj, "offset", 0))
    check_claim(path, shape, stored.itemsize, file_size(voxels) - start, DEFLATE_LIMIT if packed else 1)
    if packed:
        check_memory(path, float(np.prod([float(size) for size in shape])) * max(stored.itemsize, 4))


def _is_lazy(image: Any, shape: tuple[int, ...]) -> bool:
    """Whether it is large, uncompressed, and cannot be mapped because its values are scaled."""
    voxels = str(image.file_map["image"].filename).lower()
    scaled = (image.dataobj.slope, image.dataobj.inter) != (1.0, 0.0)
    large = float(np.prod([float(size) for size in shape])) * 4 > LAZY_BYTES
    return large and scaled and len(shape) > 2 and not voxels.endswith(_PACKED)


def _result_type(image: Any) -> np.dtype[Any]:
    """The type that scaled voxels get."""
    dtype: np.dtype[Any] = np.asanyarray(image.dataobj[tuple(slice(0, 1) for _ in image.shape)]).dtype
    return np.dtype(np.float32) if dtype.kind == "f" else dtype


def _to_array(path: Path, data: Any, axes: int) -> tuple[Array, int]:
    """(x, y[, z], ...) -> (C, Z, Y, X), a view; further axes of one voxel go, others become channels."""
    shape = data.shape
    if axes < 2:
        raise ReadError(f"{path.name} has {axes} axes, of shape {shape}.", "Open an image with 2 or more axes.")
    spatial = min(3, axes)
    rest = [size for size in shape[spatial:] if size > 1]
    if len(rest) > 1:
        raise ReadError(
            f"{path.name} has {len(rest)} axes beside those in space, of shape {shape}.",
            "Store times or contrasts along one axis.",
        )
    array = (
        data.reshape(*shape[:spatial], rest[0] if rest else 1, order="F")
        if isinstance(data, np.ndarray)
        else (data.reshape(*shape[:spatial], rest[0] if rest else 1))
    )
    turned = array.T
    return (turned[:, None] if spatial == 2 else turned), spatial


def _affine(image: Any) -> tuple[NDArray[np.float64], tuple[str, ...]]:
    """The file's affine in mm, and what had to be decided about it."""
    header = image.header
    affine = np.array(image.affine, dtype=np.float64)
    if not isinstance(header, nib.Nifti1Header):
        return affine, ("An Analyze header does not say where left is: x is taken to run to the left.",)
    notes = []
    unit = header.get_xyzt_units()[0]
    scale = {"micron": 1e-3, "meter": 1e3}.get(unit, 1.0)
    affine[:3] *= scale
    if scale != 1:
        notes.append(f"The file counts in {unit}s; lengths are shown in mm.")
    zooms = np.array([*header.get_zooms()[:3], 1.0, 1.0][:3], dtype=np.float64) * scale
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    sform, qform = int(header["sform_code"]), int(header["qform_code"])
    sizes = " x ".join(f"{zoom:.4g}" for zoom in zooms)
    if not (sform or qform):
        notes.append(f"It has neither sform nor qform: only pixdim, {sizes} mm, places it.")
    elif np.allclose(lengths, scale) and not np.allclose(zooms, scale) and (zooms > 0).all() and not qform:
        affine[:3, :3] *= zooms / scale
        notes.append(f"The affine has {scale:g} mm voxels, pixdim {sizes} mm: pixdim is taken as the truth.")
    elif sform and qform and not np.allclose(header.get_sform(), header.get_qform(), atol=0.05):
        notes.append("Its sform and qform place the scan differently: the sform is taken as the truth.")
    elif sform and not np.allclose(lengths, zooms, rtol=0.01):
        kept = " x ".join(f"{length:.4g}" for length in lengths)
        notes.append(f"Its sform has voxels of {kept} mm, pixdim {sizes} mm: the sform is taken as the truth.")
    return affine, tuple(notes)


def _class_names(header: Any) -> tuple[str, ...]:
    for extension in getattr(header, "extensions", ()):
        if extension.get_code() == COMMENT:
            try:
                found = json.loads(bytes(extension.get_content()).rstrip(b"\0"))
            except (ValueError, TypeError):
                continue
            names = found.get("class_names") if isinstance(found, dict) else None
            if isinstance(names, list):
                return tuple(str(name) for name in names)
    return ()
