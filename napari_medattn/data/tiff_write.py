"""Writing TIFF files: the affine, spacing and class names as JSON in the description of the first page."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from napari_medattn.data.volume import Volume

PutSlab = Callable[[NDArray[np.float32]], None]
_CLASSIC_LIMIT = 1 << 31  # bytes of voxels; offsets in a classic TIFF have 32 bits


def write_labels(path: Path, labels: NDArray[np.generic], like: Volume, class_names: Sequence[str] = ()) -> None:
    """Write (Z, Y, X) labels as an ImageJ-free TIFF with its spacing in the description."""
    described = {**_place(like), "class_names": list(class_names)}
    flat = like.spatial_dims == 2
    tifffile.imwrite(
        path,
        labels[0] if flat else labels,
        photometric="minisblack",  # else three or four slices of bytes would be taken for colours
        metadata={"axes": "YX" if flat else "ZYX", **described},
        compression="zlib",
    )


@contextmanager
def open_values(path: Path, like: Volume, count: int | None, about: Mapping[str, Any]) -> Iterator[PutSlab]:
    """Write real values slab by slab, one page per slice; see `formats.open_values`."""
    z, y, x = like.grid.shape
    planes = ("YX", [y, x]) if like.spatial_dims == 2 else ("ZYX", [z, y, x])
    axes, shape = planes if count is None else (f"C{planes[0]}", [count, *planes[1]])
    described = {
        "shape": shape,  # comes first: by it, tifffile knows its own way of describing a stack
        "axes": axes,
        **_place(like),
        **about,
    }
    big = 4 * z * y * x * (count or 1) > _CLASSIC_LIMIT
    with tifffile.TiffWriter(path, bigtiff=big) as file:
        unsaid = iter([json.dumps(described)])

        def put(slab: NDArray[np.float32]) -> None:
            for plane in slab:
                file.write(
                    np.ascontiguousarray(plane, np.float32),
                    photometric="minisblack",
                    compression="zlib",
                    description=next(unsaid, None),
                    metadata=None,
                )

        yield put


def _place(like: Volume) -> dict[str, Any]:
    """Where voxels lie: (x, y, z) to RAS+, and the spacing (Z, Y, X) for programs that look for no more."""
    grid = like.grid
    spacing = list(grid.spacing)
    return {"affine": grid.affine.tolist(), "oriented": grid.oriented, "spacing": spacing, "unit": grid.units}
