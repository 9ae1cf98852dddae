"""A map as napari sees it: an array whose values are drawn when they are looked at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Box = tuple[slice, slice, slice]
Draw = Callable[[Box], "NDArray[np.float32] | None"]


class LazyMap:
    """As much of an array as napari asks of one; nothing is kept, or computed beyond the box that is looked at.

    It draws where it is asked, in the window's own thread: a detour over a pool of threads, as dask takes it, costs
    more than the drawing.

    Args:
        shape: (Z, Y, X) of the image.
        ndim: 3, or 2 for an image without Z.
        draw: Gives (Z, Y, X) values of a box, or None where nothing is known yet.
    """

    dtype = np.dtype(np.float32)

    def __init__(self, shape: tuple[int, int, int], ndim: int, draw: Draw) -> None:
        self.ndim, self.shape = ndim, shape[-ndim:]
        self._draw = draw

    @property
    def size(self) -> int:
        """How many values there are."""
        return int(np.prod(self.shape))

    def __len__(self) -> int:
        return self.shape[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.asarray(self[()], dtype=dtype)

    def __getitem__(self, index: Any) -> NDArray[np.float32]:
        """Basic indexing: whole numbers, slices and an ellipsis."""
        box, then = [slice(0, 1)] * (3 - self.ndim), [0] * (3 - self.ndim)
        for part, size in zip(self._spelt_out(index), self.shape, strict=True):
            if isinstance(part, slice):
                first, last, step = part.indices(size)
                reached = range(first, last, step)
                low, high = (min(reached), max(reached) + 1) if reached else (0, 0)
                box.append(slice(low, high))
                then.append(slice(None, None, step))  # type: ignore[arg-type]
            else:
                if not -size <= part < size:
                    raise IndexError(f"index {part} is out of bounds for an axis of size {size}")
                at = int(part) % size
                box.append(slice(at, at + 1))
                then.append(0)
        z, y, x = box
        drawn = self._draw((z, y, x)) if all(span.stop > span.start for span in box) else None
        if drawn is None:
            drawn = np.full([span.stop - span.start for span in box], np.nan, np.float32)
        return drawn[tuple(then)]

    def _spelt_out(self, index: Any) -> tuple[Any, ...]:
        """An index with one entry for each axis."""
        asked = index if isinstance(index, tuple) else (index,)
        gap = next((at for at, part in enumerate(asked) if part is Ellipsis), len(asked))
        ahead, behind = asked[:gap], asked[gap + 1 :]
        return (*ahead, *[slice(None)] * (self.ndim - len(ahead) - len(behind)), *behind)
