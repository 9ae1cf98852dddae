"""Writing NIfTI files: every geometry field of the source's header is kept."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.nifti1 import Nifti1Extension
from numpy.typing import NDArray

from napari_medattn.data.nifti import COMMENT
from napari_medattn.data.volume import Volume

PutSlab = Callable[[NDArray[np.float32]], None]


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
    header.extensions.append(Nifti1Extension(COMMENT, json.dumps(content).encode()))


def type_of(header: nib.Nifti1Header) -> type[nib.Nifti1Image]:
    """The image class that belongs to a header."""
    return nib.Nifti2Image if isinstance(header, nib.Nifti2Header) else nib.Nifti1Image
