"""FreeSurfer images (.mgh, .mgz)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from nibabel.fileholders import FileHolder
from nibabel.freesurfer.mghformat import MGHHeader
from nibabel.openers import ImageOpener
from numpy.typing import NDArray

from napari_medattn.data.nifti import load_voxels
from napari_medattn.data.reading import reading
from napari_medattn.data.volume import Volume
from napari_medattn.errors import SaveError
from napari_medattn.geometry import Grid


def read(path: Path) -> Volume:
    """Read a FreeSurfer image; see `formats.read_volume`."""
    # Opened here, as nibabel leaves an uncompressed file open.
    with reading(path, "a FreeSurfer image"), ImageOpener(str(path), "rb") as file:
        holder = FileHolder(str(path), file)  # type: ignore[arg-type]
        image = nib.MGHImage.from_file_map({"image": holder})
        array, _ = load_voxels(path, image)
        grid = Grid((array.shape[1], array.shape[2], array.shape[3]), image.affine)
        notes = (
            () if int(image.header["goodRASFlag"]) == 1 else ("It gives no directions: FreeSurfer's usual ones count.",)
        )
        return Volume(array, grid, path=path, header=image.header, notes=notes)


def write_labels(path: Path, labels: NDArray[np.generic], like: Volume, class_names: Sequence[str] = ()) -> None:
    """Write (Z, Y, X) labels; see `formats.write_labels`. The format has no place for class names."""
    largest = int(labels.max())
    dtype = next((kind for kind in (np.uint8, np.int16, np.int32) if largest <= np.iinfo(kind).max), None)
    if dtype is None:
        raise SaveError(f"A FreeSurfer image cannot hold the label {largest}.", "Save the mask as .nii.gz.")
    header = like.header.copy() if isinstance(like.header, MGHHeader) else None
    image = nib.MGHImage(labels.T.astype(dtype), None if header is not None else like.grid.affine, header)
    image.set_data_dtype(dtype)
    nib.save(image, path)
