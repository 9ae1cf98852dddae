"""Voxels that are read from disk when they are asked for: dask arrays with one chunk per slice."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from napari_medattn.data.volume import Array


def by_slices(source: Any, shape: Sequence[int], dtype: np.dtype[Any]) -> Any:
    """A lazy (x, y, z, ...) array over an array-like of files, one chunk per slice and further index.

    Args:
        source: Anything that can be sliced and has the shape.
        shape: Its shape.
        dtype: Type of the values that slicing gives.
    """

    def one(block_info: Any = None) -> Array:
        place = block_info[None]["array-location"]
        return np.asarray(source[tuple(slice(a, b) for a, b in place)], dtype)

    from dask import array as da

    chunks = (*((size,) for size in shape[:2]), *((1,) * size for size in shape[2:]))
    return da.map_blocks(one, chunks=chunks, dtype=dtype, meta=np.empty((0,) * len(shape), dtype))


def by_pages(read: Callable[[int], Array], count: int, plane: Sequence[int], dtype: np.dtype[Any]) -> Any:
    """A lazy (count, *plane) array whose pages are read one at a time.

    Args:
        read: Gives the page of a number, of shape ``plane``.
        count: Number of pages.
        plane: Shape of each.
        dtype: Type of the values.
    """

    def one(block_info: Any = None) -> Array:
        first = block_info[None]["array-location"][0][0]
        return np.asarray(read(int(first)), dtype).reshape(1, *plane)

    from dask import array as da

    chunks = ((1,) * count, *((size,) for size in plane))
    return da.map_blocks(one, chunks=chunks, dtype=dtype, meta=np.empty((0,) * (len(plane) + 1), dtype))


def is_lazy(array: Any) -> bool:
    """Whether the values are read or computed when they are asked for."""
    return not isinstance(array, np.ndarray) or _base(array) is not None


def _base(array: Any) -> np.memmap[Any, Any] | None:
    while isinstance(array, np.ndarray):
        if isinstance(array, np.memmap):
            return array
        array = array.base
    return None
