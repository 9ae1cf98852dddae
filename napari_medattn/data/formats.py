"""File formats by suffix: one door for reading volumes and one for writing masks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medattn.data.dicom.files import is_dicom, numbered_series
from napari_medattn.data.placing import on_grid_of
from napari_medattn.data.volume import Volume
from napari_medattn.errors import GeometryError, ReadError, SaveError
from napari_medattn.files import atomic_write

LabelWriter = Callable[[Path, NDArray[np.generic], Volume, Sequence[str]], None]
PutSlab = Callable[[NDArray[np.float32]], None]
ValuesWriter = Callable[[Path, Volume, int | None, Mapping[str, Any]], AbstractContextManager[PutSlab]]


@dataclass(frozen=True)
class Format:
    """A file format.

    Attributes:
        name: For people.
        suffixes: How its files' names end.
        read: Reads a volume.
        write_labels: Writes a mask, if the format can hold one.
        open_values: Writes real values, if the format can hold them.
        read_indices: Reads a volume as a mask, where that is not the same.
        mask_suffix: Of a mask of such an image; the image's own if None.
    """

    name: str
    suffixes: tuple[str, ...]
    read: Callable[..., Volume]
    write_labels: LabelWriter | None = None
    open_values: ValuesWriter | None = None
    read_indices: Callable[[Path], Volume] | None = None
    mask_suffix: str | None = None


def _late(module: str, name: str) -> Any:
    """A function of a format's module, which is imported when it is first called: some libraries load slowly."""

    def call(*arguments: Any) -> Any:
        return getattr(import_module(f"napari_medattn.data.{module}"), name)(*arguments)

    return call


def _format(name: str, suffixes: str, module: str, writer: str = "", *, values: bool = False, indices: bool = False,
            mask_suffix: str | None = None) -> Format:  # fmt: skip
    """A format by the module that reads it and the one that writes it, if one does."""
    return Format(
        name,
        tuple(suffixes.split()),
        _late(module, "read"),
        _late(writer, "write_labels") if writer else None,
        _late(writer, "open_values") if values else None,
        _late(module, "read_indices") if indices else None,
        mask_suffix,
    )


DICOM = _format("DICOM", ".dcm .dicom .ima", "dicom", "dicom", mask_suffix=".dcm")
FORMATS = (
    _format("NIfTI", ".nii.gz .nii", "nifti", "nifti_write", values=True),
    _format("NIfTI or Analyze pair", ".hdr .img .img.gz", "nifti", mask_suffix=".nii.gz"),
    _format("NRRD", ".seg.nrrd .nrrd", "nrrd", "nrrd_write", values=True),
    _format("detached NRRD", ".nhdr", "nrrd", mask_suffix=".nrrd"),
    _format("MetaImage", ".mha", "metaimage", "metaimage"),
    _format("detached MetaImage", ".mhd", "metaimage", mask_suffix=".mha"),
    _format("FreeSurfer", ".mgz .mgh", "mgh", "mgh"),
    _format(
        "TIFF", ".ome.tif .ome.tiff .tif .tiff", "tiff", "tiff_write", values=True, indices=True, mask_suffix=".tif"
    ),
    _format("PNG", ".png", "picture", "picture", indices=True),
    _format("JPEG or BMP", ".jpg .jpeg .bmp", "picture", mask_suffix=".png"),
    DICOM,
)
SUFFIXES = tuple(suffix for known in FORMATS for suffix in known.suffixes)
LABEL_SUFFIXES = tuple(suffix for known in FORMATS if known.write_labels for suffix in known.suffixes)
VALUE_SUFFIXES = tuple(suffix for known in FORMATS if known.open_values for suffix in known.suffixes)


def find_format(path: Path | str) -> Format | None:
    """The format of a path by its suffix, or None.

    Folders that hold DICOM files, and DICOM files of any other name, are found by their content.
    """
    path, _ = numbered_series(Path(path))
    known = None if path.is_dir() else _format_of_name(path)
    return DICOM if known is None and is_dicom(path) else known


def stem(path: Path | str) -> str:
    """The file's name without a known suffix: ``a/b.nii.gz`` -> ``b``, ``a/study#2`` -> ``study_series2``."""
    study, series = numbered_series(Path(path))
    if series is not None:
        return f"{stem(study)}_series{series}"
    name = Path(path).name
    known = find_format(path)
    endings = known.suffixes if known else (Path(path).suffix,)
    ending = next((suffix for suffix in endings if suffix and name.lower().endswith(suffix)), "")
    return name[: len(name) - len(ending)] or name


def mask_suffix(path: Path | str) -> str:
    """How the name of a mask of an image ends: as the image's, where its format can hold masks."""
    known = find_format(path)
    if known is None:
        return ".nii.gz"
    return known.mask_suffix or Path(path).name[len(stem(path)) :]


def read_volume(path: Path | str, series: int | None = None) -> Volume:
    """Read an image.

    Args:
        path: A file of one of `SUFFIXES`, a DICOM file of any name, or a folder with a DICOM series; ``study#2`` is
            the second series of the folder ``study``.
        series: Which one, from 1, where a folder holds several DICOM series; see `data.dicom.list_series`.

    Returns:
        The volume: ``.array`` (C, Z, Y, X), ``.grid`` with the affine and spacing of the file.

    Raises:
        ReadError: If the file is missing, of an unknown format or damaged, or a folder holds several series; the
            message says which. Also if a series is chosen of what is no DICOM.
    """
    path, named = numbered_series(Path(path))
    series = named if series is None else series
    known = _format_to_read(path)
    if known is DICOM:
        volume = DICOM.read(path, series)
        return volume if volume.name != "segmentation" else volume.renamed(stem(path))
    if series is not None:
        raise ReadError(f"{path.name} is no DICOM and has no series to choose from.", "Leave the series out.")
    return known.read(path).renamed(stem(path))


def _format_to_read(path: Path) -> Format:
    if not path.exists():
        raise ReadError(f"{path} does not exist.", "Check the path.")
    if not path.is_dir() and not path.is_file():
        raise ReadError(f"{path.name} is neither a file nor a folder.", "Choose a file.")
    known = find_format(path)
    if known is None:
        what = "holds no DICOM files" if path.is_dir() else "is in no format that is read here"
        raise ReadError(f"{path.name} {what}.", f"Use one of {', '.join(SUFFIXES)}, or a folder of DICOM files.")
    return known


def read_labels(path: Path | str, like: Volume | None = None, *, resample: bool = False) -> NDArray[np.int32]:
    """Read a label map (Z, Y, X).

    Args:
        path: The file.
        like: The image that it belongs to; shape and affine must agree, up to a tenth of a voxel. A DICOM
            segmentation may hold a part of the image's slices.
        resample: Bring labels of another shape or place onto the image's grid, each voxel from its nearest one.

    Raises:
        ReadError: If the file cannot be read.
        GeometryError: If it holds no labels, or does not lie on ``like``.
    """
    volume = read_mask(path)
    labels = volume.labels()
    return labels if like is None else on_grid_of(labels, volume, like, resample=resample)


def read_mask(path: Path | str) -> Volume:
    """Read a file that is known to be a mask: numbers of a palette are labels, not colours.

    Raises:
        ReadError: If the file cannot be read.
    """
    path = Path(path)
    known = _format_to_read(path)
    volume = known.read_indices(path) if known.read_indices else known.read(path)
    return volume if known is DICOM and path.is_dir() else volume.renamed(stem(path))


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
    known = _format_of_name(path)
    if known is None or known.write_labels is None:
        raise SaveError(
            f"{path.name} has no suffix that masks can be written to.", f"Use one of {', '.join(LABEL_SUFFIXES)}."
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


def _format_of_name(path: Path) -> Format | None:
    """The format that the name of a path stands for."""
    name = path.name.lower()
    return next((known for known in FORMATS if name.endswith(known.suffixes)), None)


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
    known = _format_of_name(path)
    if known is None or known.open_values is None:
        raise SaveError(
            f"{path.name} has no suffix that values can be written to.", f"Use one of {', '.join(VALUE_SUFFIXES)}."
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
