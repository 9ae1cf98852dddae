"""Large arrays in memory or, where that does not suffice, in a file that is gone with the array."""

from __future__ import annotations

import errno
import math
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from napari_medattn.device import as_size, available_memory
from napari_medattn.errors import SaveError

_SHARE = 0.5  # of the free memory that one array may take


def zeros(shape: Sequence[int], dtype: DTypeLike) -> NDArray[Any]:
    """An array of zeros, in memory if it takes less than half of what is free, else on disk.

    Raises:
        SaveError: If there is no room on the disk either.
    """
    free = available_memory()
    if free is not None and _bytes(shape, dtype) > _SHARE * free:
        return on_disk(shape, dtype)
    return np.zeros(tuple(shape), dtype)


def on_disk(shape: Sequence[int], dtype: DTypeLike) -> NDArray[Any]:
    """An array of zeros in a temporary file, which no one else sees and which ends with the array.

    The room is taken at once: a disk that fills up while a mapped file is written would end the process.

    Raises:
        SaveError: If there is not enough room.
    """
    size = max(1, _bytes(shape, dtype))
    folder = Path(tempfile.gettempdir())
    try:
        with tempfile.NamedTemporaryFile(prefix="medattn-", suffix=".tmp", dir=folder) as file:
            _reserve(file.fileno(), size)
            return np.memmap(file, dtype, "r+", shape=tuple(shape))
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise SaveError(
            f"{as_size(size)} are needed for a while in {folder}, and "
            f"{'there is not so much room' if full else (error.strerror or str(error)).lower()}.",
            "Free some space, or set the environment variable TMPDIR to a folder on a larger disk.",
        ) from error


def _bytes(shape: Sequence[int], dtype: DTypeLike) -> int:
    return math.prod(shape) * np.dtype(dtype).itemsize


def _reserve(file: int, size: int) -> None:
    """Make a file that long, with all of its room taken."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size)
        return
    blank = bytes(1 << 20)
    for first in range(0, size, len(blank)):
        os.write(file, blank[: size - first])
