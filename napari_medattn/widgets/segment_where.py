"""Which part of a scan is segmented: all of it, the slice in view, or a region."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.layers import Image, Shapes

from napari_medattn.layerdata import KEY, layer_place
from napari_medattn.widgets.case import Case

VOLUME, SLICE, REGION = "volume", "slice", "region"
Box = tuple[slice, slice, slice]


def segment_box(case: Case, where: str) -> Box | None:
    """The box (Z, Y, X) of the scan that is meant, or None for all of it.

    Args:
        case: The case.
        where: `VOLUME`, `SLICE` (the one in view; all of a 2-D image), or `REGION`: around the rectangles drawn as the
            scan's selection, through all slices between them, else what the window shows of the slice.

    Raises:
        InputError: If the layer is no scan.
    """
    if where == VOLUME:
        return None
    place = layer_place(case.image)
    shape = place.grid.shape[3 - place.spatial_dims :]
    axes = [axis for axis in range(len(case.image.data.shape)) if axis != place.channel_axis]
    if case.image.rgb:
        axes = list(range(place.spatial_dims))
    drawn = _drawn(case, axes) if where == REGION else None
    if drawn is not None:
        low, high = drawn
        sides = [slice(int(a), int(b) + 1) for a, b in zip(_inside(low, shape), _inside(high, shape), strict=True)]
    else:
        sides = _slice_in_view(case, axes, shape)
        if where == REGION:
            sides = _on_screen(case.image, axes, sides)
    z, y, x = [slice(0, 1)] * (3 - len(sides)) + sides
    return z, y, x


def _slice_in_view(case: Case, axes: list[int], shape: tuple[int, ...]) -> list[slice]:
    """The slice across the axis that the viewer does not show; of a 2-D image all."""
    sides = [slice(0, size) for size in shape]
    if len(shape) == 2:
        return sides
    dims, image = case.viewer.dims, case.image
    shown = {axis - (dims.ndim - image.ndim) for axis in dims.order[-2:]}
    hidden = next(number for number, axis in enumerate(axes) if axis not in shown)
    at = image.world_to_data(dims.point[-image.ndim :])[axes[hidden]]
    index = min(max(round(float(at)), 0), shape[hidden] - 1)
    sides[hidden] = slice(index, index + 1)
    return sides


def _on_screen(image: Image, axes: list[int], sides: list[slice]) -> list[slice]:
    """What the window shows of a slice; all of it where nothing of it is on screen."""
    low, high = (np.asarray(corner).astype(int) for corner in image.corner_pixels)
    found = []
    for axis, side in zip(axes, sides, strict=True):
        start, stop = max(side.start, int(low[axis])), min(side.stop, int(high[axis]) + 1)
        found.append(slice(start, stop) if side.stop - side.start > 1 and start < stop else side)
    return found


def _drawn(case: Case, axes: list[int]) -> tuple[Any, Any] | None:
    """The lowest and the highest corner of the scan's selection in voxels, or None without one."""
    corners = [
        case.image.world_to_data(_padded(layer.data_to_world(corner), case.image.ndim))
        for layer in case.viewer.layers
        if isinstance(layer, Shapes)
        and layer.metadata.get(KEY, {}).get("kind") == "selection"
        and layer.metadata[KEY].get("image") == case.image.unique_id
        for shape in layer.data
        for corner in shape
    ]
    if not corners:
        return None
    found = np.array(corners)[:, axes]
    return found.min(axis=0), found.max(axis=0)


def _padded(point: Any, count: int) -> Any:
    """A world position with as many coordinates as a layer has; channels come first and do not matter."""
    return np.concatenate([np.zeros(max(0, count - len(point))), np.asarray(point, float)])[-count:]


def _inside(values: Any, shape: tuple[int, ...]) -> Any:
    return np.clip(np.round(values), 0, np.array(shape) - 1).astype(int)
