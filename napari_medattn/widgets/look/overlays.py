"""`Overlays`: layers of one's own that a tool puts on a scan, in the place of its earlier ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.layers import Image
from numpy.typing import NDArray

from napari_medattn.layerdata import KEY, geometry_of, layer_place, lying_on
from napari_medattn.palette import map_colours
from napari_medattn.widgets.case import Case

if TYPE_CHECKING:
    from napari_medattn.store import Card


class Overlays:
    """Layers by case and what they show."""

    def __init__(self) -> None:
        self._layers: dict[tuple[Case, str], Image] = {}

    def put(
        self,
        case: Case,
        key: str,
        title: str,
        on_image: NDArray[np.float32],
        limits: tuple[float, float],
        meta: dict[str, Any],
    ) -> Image:
        """Show values on a scan, in the layer with this key if it is still there.

        Args:
            case: The scan.
            key: What it shows; a second map of the same replaces the first.
            title: What it shows, for people; the scan's name goes before it.
            on_image: (Z, Y, X) on the image's grid, nan where not known.
            limits: Values at the ends of the colours; from blue to red around nothing if the first is negative.
            meta: What made it, with a ``record``, for ``layer.metadata["medattn"]``.
        """
        viewer, meta = case.viewer, {**geometry_of(case.image), **meta}
        data = on_image if layer_place(case.image).spatial_dims == 3 else on_image[0]
        layer = self._layers.get((case, key))
        if layer is not None and layer in viewer.layers and layer.data.shape == data.shape:
            layer.data, layer.name, layer.contrast_limits = data, f"{case.image.name} {title}", limits
            layer.metadata[KEY] = meta
            layer.visible = True
            return layer
        signed = limits[0] < 0
        active = viewer.layers.selection.active
        layer = viewer.add_image(
            data,
            name=f"{case.image.name} {title}",
            colormap={"name": f"attention{' +-' if signed else ''}", "colors": map_colours(signed=signed)},
            contrast_limits=limits,
            opacity=0.8,
            blending="translucent_no_depth",
            projection_mode="none",
            metadata={KEY: meta},
            **lying_on(case.image, data.ndim),
        )
        if case.mask is not None and case.mask in viewer.layers:  # it stays on top, to be seen and painted
            viewer.layers.move(viewer.layers.index(case.mask), len(viewer.layers))
        viewer.layers.selection.active = active
        self._layers[case, key] = layer
        return layer


def made_from(case: Case, *cards: Card) -> dict[str, Any]:
    """A record of the scan and the checkpoints that made a layer."""
    return {
        "image": case.image.name,
        "checkpoint": ", ".join(card.name for card in cards),
        "weights_sha256": ", ".join(card.weights_sha256 for card in cards),
        "network": cards[0].network,
    }
