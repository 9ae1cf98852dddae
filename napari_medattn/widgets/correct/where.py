"""Where a tool works or what is confirmed: the slice in view, a selection, or all of the mask."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.layers import Labels, Shapes

from napari_medattn.correct.proposal import Box
from napari_medattn.layerdata import KEY, lying_on
from napari_medattn.widgets.case import Case

SLICE, SELECTION, VOLUME = "slice", "selection", "3-D"
_NAME = "selection"


def chosen_box(case: Case, where: str) -> Box:
    """The box of the mask that is meant.

    Args:
        case: A case with a mask.
        where: `SLICE`, `SELECTION` (the rectangles drawn, else what the window shows of the slice) or `VOLUME`.
    """
    assert case.mask is not None
    everything = tuple(slice(0, size) for size in case.mask.data.shape)
    if where == VOLUME:
        return everything
    here = case.slice_in_view()
    here = tuple(slice(*side.indices(size)[:2]) for side, size in zip(here, case.mask.data.shape, strict=True))
    if where == SLICE:
        return here
    drawn = drawn_box(case)
    return drawn if drawn is not None else _window(case.mask, here)


def drawn_box(case: Case) -> Box | None:
    """The smallest box around the rectangles that were drawn, through all slices between them; None without any."""
    assert case.mask is not None
    layer = selection_layer(case)
    if layer is None or not len(layer.data):
        return None
    corners = np.concatenate([_in_mask(layer, case.mask, shape) for shape in layer.data])
    sizes = np.array(case.mask.data.shape)
    low = np.clip(np.round(corners.min(0)), 0, sizes - 1).astype(int)
    high = np.clip(np.round(corners.max(0)), 0, sizes - 1).astype(int)
    return tuple(slice(int(a), int(b) + 1) for a, b in zip(low, high, strict=True))


def selection_layer(case: Case) -> Shapes | None:
    """The layer that rectangles are drawn in, if there is one."""
    assert case.mask is not None
    for layer in case.viewer.layers:
        meta = layer.metadata.get(KEY, {})
        if isinstance(layer, Shapes) and meta.get("kind") == _NAME and meta.get("image") == case.image.unique_id:
            return layer
    return None


def draw_selection(case: Case) -> Shapes:
    """Let the person draw a rectangle, in a layer that is made for it if there is none."""
    assert case.mask is not None
    layer = selection_layer(case)
    if layer is None:
        place: dict[str, Any] = lying_on(case.image, case.mask.ndim)
        meta = {KEY: {"kind": _NAME, "image": case.image.unique_id}}  # a name may change
        layer = case.viewer.add_shapes(
            ndim=case.mask.ndim,
            name=f"{case.image.name} {_NAME}",
            face_color="transparent",
            edge_color="white",
            edge_width=0.5,
            metadata=meta,
            **place,
        )
    case.viewer.layers.selection.active = layer
    layer.mode = "add_rectangle"
    return layer


def _in_mask(layer: Shapes, mask: Labels, corners: Any) -> np.ndarray:
    return np.array([mask.world_to_data(layer.data_to_world(corner)) for corner in corners])


def _window(mask: Labels, here: Box) -> Box:
    """What the window shows of a slice."""
    low, high = (np.asarray(corner).astype(int) for corner in mask.corner_pixels)
    sides = []
    for axis, side in enumerate(here):
        start, stop = max(side.start, int(low[axis])), min(side.stop, int(high[axis]) + 1)
        sides.append(slice(start, stop) if side.stop - side.start > 1 and start < stop else side)
    return tuple(sides)
