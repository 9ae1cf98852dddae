"""A map as napari sees it: an array whose values are drawn when they are looked at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dask.array as da
import numpy as np
from numpy.typing import NDArray

Box = tuple[slice, slice, slice]
Draw = Callable[[Box], "NDArray[np.float32] | None"]


def lazy_map(shape: tuple[int, int, int], ndim: int, draw: Draw) -> da.Array:
    """A dask array over ``draw``; nothing is computed or kept beyond the box that is looked at.

    Args:
        shape: (Z, Y, X) of the image.
        ndim: 3, or 2 for an image without Z.
        draw: Gives (Z, Y, X) values of a box, or None where nothing is known yet.
    """
    source = _Drawn(shape, ndim, draw)
    empty = np.empty((0,) * ndim, np.float32)
    # One chunk: dask hands a slice on to the source as it is, in whatever direction it runs.
    return da.from_array(source, chunks=-1, name=False, asarray=True, meta=empty)


class _Drawn:
    """The few things that dask asks of an array."""

    dtype = np.dtype(np.float32)

    def __init__(self, shape: tuple[int, int, int], ndim: int, draw: Draw) -> None:
        self.ndim, self.shape = ndim, shape[-ndim:]
        self._sizes, self._draw = shape, draw

    def __getitem__(self, index: Any) -> NDArray[np.float32]:
        """Basic indexing: whole numbers and slices."""
        asked = index if isinstance(index, tuple) else (index,)
        asked += (slice(None),) * (self.ndim - len(asked))
        box, then = [slice(0, 1)] * (3 - self.ndim), [0] * (3 - self.ndim)
        for part, size in zip(asked, self.shape, strict=True):
            if isinstance(part, slice):
                first, last, step = part.indices(size)
                reached = range(first, last, step)
                low, high = (min(reached), max(reached) + 1) if reached else (0, 0)
                box.append(slice(low, high))
                then.append(slice(None, None, step))  # type: ignore[arg-type]
            else:
                box.append(slice(int(part), int(part) + 1))
                then.append(0)
        z, y, x = box
        drawn = self._draw((z, y, x)) if all(span.stop > span.start for span in box) else None
        if drawn is None:
            drawn = np.full([span.stop - span.start for span in box], np.nan, np.float32)
        return drawn[tuple(then)]
