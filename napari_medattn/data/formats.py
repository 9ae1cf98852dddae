"""File formats by suffix: one door for reading volumes and one for writing masks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medattn.data import nifti, tiff
from napari_medattn.data.volume import Volume
from napari_medattn.errors import GeometryError, ReadError, SaveError
from napari_medattn.files import atomic_write

LabelWriter = Callable[[Path, NDArray[np.generic], Volume, Sequence[str]], None]
PutSlab = Callable[[NDArray[np.float32]], None]
ValuesWriter = Callable[[Path, Volume, int | None, Mapping[str, Any]], AbstractContextManager[PutSlab]]


@dataclass(frozen=True)
class Format:
    """A file format: its suffixes, how to read a volume, and how to write a mask or real values."""

    name: str
    suffixes: tuple[str, ...]
    read: Callable[[Path], Volume]
    write_labels: LabelWriter
    open_values: ValuesWriter


FORMATS = (
    Format("NIfTI", (".nii.gz", ".nii"), nifti.read, nifti.write_labels, nifti.open_values),
    Format("TIFF", (".tif", ".tiff"), tiff.read, tiff.write_labels, tiff.open_values),
)
SUFFIXES = tuple(suffix for known in FORMATS for suffix in known.suffixes)


def find_format(path: Path | str) -> Format | None:
    """The format of a path by its suffix, or None."""
    name = Path(path).name.lower()
    return next((known for known in FORMATS if name.endswith(known.suffixes)), None)


def stem(path: Path | str) -> str:
    """The file's name without a known suffix: ``a/b.nii.gz`` -> ``b``."""
    name = Path(path).name
    known = find_format(path)
    endings = known.suffixes if known else (Path(path).suffix,)
    ending = next((suffix for suffix in endings if suffix and name.lower().endswith(suffix)), "")
    return name[: len(name) - len(ending)] or name


def read_volume(path: Path | str) -> Volume:
    """Read an image.

    Args:
        path: A NIfTI (.nii, .nii.gz) or TIFF (.tif, .tiff) file.

    Returns:
        The volume: ``.array`` (C, Z, Y, X), ``.grid`` with the affine and spacing of the file.

    Raises:
        ReadError: If the file is missing, of an unknown format or damaged; the message says which.
    """
    path = Path(path)
    known = find_format(path)
    if not path.exists():
        raise ReadError(f"{path} does not exist.", "Check the path.")
    if known is None:
        raise ReadError(f"{path.name} is in no format that is read here.", f"Use one of {', '.join(SUFFIXES)}.")
    return known.read(path).renamed(stem(path))


def read_labels(path: Path | str, like: Volume | None = None) -> NDArray[np.int32]:
    """Read a label map (Z, Y, X).

    Args:
        path: The file.
        like: The image that it belongs to; the shapes must agree.

    Raises:
        ReadError: If the file cannot be read.
        GeometryError: If it holds no labels, or another shape than ``like``.
    """
    volume = read_volume(path)
    if like is not None and volume.grid.shape != like.grid.shape:
        raise GeometryError(
            f"The labels {volume.name} have shape {volume.grid.shape}, the image {like.name} {like.grid.shape}.",
            "Choose the label file of this image.",
        )
    return volume.labels()


def write_labels(path: Path | str, labels: NDArray[np.generic], like: Volume, class_names: Sequence[str] = ()) -> None:
    """Write a mask with the exact geometry of its source, whole or not at all.

    Args:
        path: Where to; the suffix chooses the format.
        labels: (Z, Y, X) whole numbers >= 0, or (Y, X) for a 2-D image.
        like: The volume that the mask lies on. A NIfTI mask of a NIfTI volume keeps every geometry field
            of its header.
        class_names: Names of the values 0, 1, ...; stored in the file.

    Raises:
        GeometryError: If the shapes differ.
        SaveError: If the suffix is unknown or the file cannot be written.
    """
    path, labels = Path(path), np.asarray(labels)
    known = find_format(path)
    if known is None:
        raise SaveError(
            f"{path.name} has no suffix that masks can be written to.", f"Use one of {', '.join(SUFFIXES)}."
        )
    if labels.ndim == 2:
        labels = labels[None]
    if labels.shape != like.grid.shape:
        raise GeometryError(
            f"The mask has shape {labels.shape}, the image {like.name} {like.grid.shape}.",
            "Save it with the image that it was drawn on.",
        )
    labels = whole_numbers(labels, like.name)
    with atomic_write(path) as temporary:
        known.write_labels(temporary, labels, like, class_names)


@contextmanager
def open_values(
    path: Path | str, like: Volume, count: int | None = None, about: Mapping[str, Any] | None = None
) -> Iterator[PutSlab]:
    """Write float32 values with the exact geometry of an image, slab by slab, whole or not at all.

    Args:
        path: Where to; the suffix chooses the format.
        like: The volume that the values lie on; only its geometry is used. A NIfTI file of a NIfTI volume keeps every
            geometry field of its header.
        count: Number of values side by side, the file's last axis in NIfTI and its first (C) in TIFF; None for
            a file without such an axis.
        about: Plain data that is kept inside the file as JSON.

    Yields:
        A function that takes the next slices (z, Y, X); all slices of the first value come before those of
        the second.

    Raises:
        SaveError: If the suffix is unknown or the file cannot be written; an older file is then untouched.
        GeometryError: If there were fewer or more slices than the image has.
    """
    path = Path(path)
    known = find_format(path)
    if known is None:
        raise SaveError(
            f"{path.name} has no suffix that values can be written to.", f"Use one of {', '.join(SUFFIXES)}."
        )
    z, y, x = like.grid.shape
    planes, expected = 0, z * (count or 1)
    with atomic_write(path) as temporary:
        with known.open_values(temporary, like, count, about or {}) as write:

            def put(slab: NDArray[np.float32]) -> None:
                nonlocal planes
                planes += len(slab)
                if slab.shape[1:] != (y, x) or planes > expected:
                    raise GeometryError(
                        f"Slices {planes} of shape {slab.shape[1:]} do not fit {expected} of {(y, x)}.",
                        "Write the values on the grid of their image.",
                    )
                write(slab)

            yield put
        if planes != expected:
            raise GeometryError(f"{path.name} got {planes} of {expected} slices.", "Write all of them.")


def whole_numbers(labels: NDArray[Any], name: str) -> NDArray[Any]:
    """Labels in the smallest unsigned integer type that holds them all.

    Raises:
        GeometryError: If a value is negative, a fraction or not finite.
    """
    finite = labels.dtype.kind in "bui" or bool(np.isfinite(labels).all())
    if not finite or labels.min() < 0 or (labels.dtype.kind == "f" and (labels % 1).any()):
        raise GeometryError(
            f"The mask of {name} holds values that are no whole numbers from 0 up.", "Relabel it before saving."
        )
    return labels.astype(np.min_scalar_type(int(labels.max())), copy=False)
