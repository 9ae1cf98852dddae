"""What all readers share: sizes are checked before memory is taken, and trouble becomes one sentence."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from napari_medattn.errors import GeometryError, MedAttnError, ReadError
from napari_medattn.geometry import Grid

DEFLATE_LIMIT = 1032  # no gzip or zlib stream expands by more
LAZY_BYTES = 1 << 30  # from here on voxels are read when they are asked for, where the format allows
_SHARE_OF_MEMORY = 0.8


@contextmanager
def reading(path: Path, kind: str, *, private: bool = False) -> Iterator[None]:
    """Whatever a library says about a damaged file, said in one sentence that names the file.

    Args:
        path: The file.
        kind: What it should be, with its article: ``"a NIfTI image"``.
        private: Leave out the library's own words, which may quote a header with a patient's name.

    Raises:
        ReadError: If the file is damaged or does not fit into memory.
    """
    try:
        yield
    except GeometryError as error:
        raise ReadError(f"{path.name}: {error.problem}", error.remedy) from error
    except MedAttnError:
        raise
    except MemoryError as error:
        raise ReadError(f"{path.name} does not fit into memory.", "Crop it, or use a machine with more.") from error
    except Exception as error:  # noqa: BLE001 - libraries raise whatever they like over wrong bytes
        reason = type(error).__name__ if private else one_line(error)
        raise ReadError(
            f"{path.name} is damaged or not {kind} ({reason}).",
            "Copy it again from its source, or export it anew.",
        ) from (None if private else error)


def one_line(error: Exception) -> str:
    """The first line of what an error says, short enough for a sentence."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[-1] if lines and lines[0].startswith("Exception thrown") else lines[0] if lines else ""
    return (text[:160].rstrip(". ") if text.isprintable() else "") or type(error).__name__


def check_claim(path: Path, shape: Sequence[int], itemsize: int, stored: float, expands: float = 1) -> None:
    """Refuse a header that claims more than its file can hold, before any memory is taken.

    Args:
        path: The file.
        shape: What the header claims.
        itemsize: Bytes of one voxel.
        stored: Bytes that hold the voxels.
        expands: By how much the stored bytes may expand, `DEFLATE_LIMIT` if they are compressed.

    Raises:
        ReadError: If the header claims nothing, or more than the file or memory can hold.
    """
    if any(size < 1 for size in shape):
        raise ReadError(f"{path.name} is empty: its header says {' x '.join(map(str, shape))}.", "Export it anew.")
    claimed = float(np.prod([float(size) for size in shape])) * itemsize
    if claimed > stored * expands:
        raise ReadError(
            f"The header of {path.name} claims {for_people(claimed)} of voxels ({' x '.join(map(str, shape))}), "
            f"the file cannot hold more than {for_people(stored * expands)}.",
            "It was cut off or is damaged: copy it again from its source.",
        )


def check_memory(path: Path, needed: float) -> None:
    """Refuse what would not fit into the memory that is free.

    Raises:
        ReadError: If it does not fit.
    """
    free = free_memory()
    if needed > free:
        raise ReadError(
            f"{path.name} needs {for_people(needed)} of memory, {for_people(free)} are free.",
            "Store it uncompressed (.nii, .nrrd or .tif), which is read piece by piece, or crop it.",
        )


def free_memory() -> float:
    """Bytes of memory that may be taken."""
    return float(psutil.virtual_memory().available) * _SHARE_OF_MEMORY


def for_people(count: float) -> str:
    """Bytes in words: ``1.5 GB``."""
    for unit in ("bytes", "kB", "MB", "GB", "TB"):
        if count < 1000 or unit == "TB":
            return f"{count:.3g} {unit}"
        count /= 1000
    raise AssertionError("unreachable")


def file_size(path: Path | str) -> int:
    """Bytes of a file."""
    return Path(path).stat().st_size


def real_voxels(path: Path, array: NDArray[Any]) -> NDArray[Any]:
    """Voxels of a real type in native byte order; yes-or-no voxels become 0 and 1.

    Raises:
        ReadError: If the voxels are complex or no numbers.
    """
    if array.dtype.kind not in "buif":
        raise ReadError(f"The voxels of {path.name} are {array.dtype} values.", "Export it with real numbers.")
    if array.dtype == bool:
        return array.astype(np.uint8)
    if array.dtype.kind == "f" and array.dtype.itemsize not in (4, 8):
        return array.astype(np.float32)
    return array if array.dtype.isnative or array.nbytes > LAZY_BYTES else array.astype(array.dtype.newbyteorder("="))


def without_alpha(array: NDArray[Any]) -> tuple[NDArray[Any], tuple[str, ...]]:
    """(C, Z, Y, X) colours without an opacity that is the same everywhere, and what to tell about it."""
    if len(array) not in (2, 4):
        return array, ()
    alpha = array[-1]
    if alpha.min() != alpha.max():
        return array, ("Its last channel is an opacity.",)
    return array[:-1], ("Its opacity is the same everywhere and was left out.",)


def plain_grid(shape: Sequence[int], spacing: Sequence[float] | None) -> Grid:
    """A grid of the given spacing (Z, Y, X) in mm, or of pixels where there is none that makes sense."""
    z, y, x = (int(size) for size in shape)
    if spacing is None or not all(np.isfinite(spacing)) or min(spacing) <= 0:
        return Grid.from_spacing((z, y, x), (1.0, 1.0, 1.0), units="pixel")
    return Grid.from_spacing((z, y, x), (float(spacing[0]), float(spacing[1]), float(spacing[2])))
