"""An overlay of what a person edited, what was confirmed, and what nobody has touched; it keeps no copy of anything."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.layers import Image
from numpy.typing import NDArray

from napari_medattn.layerdata import KEY, layer_place, lying_on
from napari_medattn.widgets.case import Case
from napari_medattn.widgets.look.lazy import LazyMap

NOTHING, UNTOUCHED, EDITED, CONFIRMED = range(4)
_COLOURS = ((0.0, 0.0, 0.0, 0.0), (0.6, 0.6, 0.6, 0.4), (0.9, 0.62, 0.0, 0.8), (0.0, 0.62, 0.45, 0.5))


def standing(case: Case, box: tuple[slice, ...]) -> NDArray[np.float32] | None:
    """What a person vouches for in a box of the mask; None without a mask.

    Returns:
        `NOTHING` in untouched background, `UNTOUCHED` in other labels, `EDITED` or `CONFIRMED`.
    """
    if case.mask is None or case.watch is None or case.watch.log.shape != case.mask.data.shape:
        return None
    labels, log = case.watch.labels, case.watch.log
    found = (labels[box] != 0).astype(np.float32) * UNTOUCHED
    found[log.edited[box]] = EDITED
    found[log.confirmed(labels, box)] = CONFIRMED
    return found


def add_overlay(case: Case) -> Image:
    """Add the overlay to the viewer; refreshed, it shows how things stand."""
    place = layer_place(case.image)
    dims = place.spatial_dims

    def draw(box: tuple[slice, slice, slice]) -> NDArray[np.float32] | None:
        found = standing(case, box[-dims:])
        # In the middle of its colour's share of the range, so that rounding cannot make it another.
        return None if found is None else (found + np.float32(0.5)).reshape([s.stop - s.start for s in box])

    active = case.viewer.layers.selection.active
    z, y, x = place.grid.shape
    kwargs: dict[str, Any] = lying_on(case.image, dims)
    layer = case.viewer.add_image(
        LazyMap((z, y, x), dims, draw),
        name=f"{case.image.name} edited and confirmed",
        colormap={
            "name": "edited and confirmed",
            "colors": _COLOURS,
            "controls": [0.0, 0.25, 0.5, 0.75, 1.0],
            "interpolation": "zero",
        },
        contrast_limits=(0, len(_COLOURS)),
        opacity=0.7,
        blending="translucent_no_depth",
        interpolation2d="nearest",
        interpolation3d="nearest",
        projection_mode="none",
        cache=False,
        metadata={KEY: {"kind": "standing", "record": {}}},
        **kwargs,
    )
    layers = case.viewer.layers
    if case.mask is not None and case.mask in layers:  # what is painted stays in view
        layers.move(layers.index(layer), layers.index(case.mask))
    layers.selection.active = active
    return layer
