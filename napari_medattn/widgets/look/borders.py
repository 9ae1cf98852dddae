"""`PatchBorders`: where the patches end that a local branch looks at one by one, as lines on the image."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from napari.layers import Vectors
from qtpy.QtCore import QObject, QTimer

from napari_medattn.layerdata import KEY, layer_place, lying_on
from napari_medattn.widgets.case import Case
from napari_medattn.widgets.look.layers import remove_present
from napari_medattn.widgets.look.live import Live
from napari_medattn.widgets.look.view import box_in_view

PATCH_COLOUR, TILE_COLOUR = "#ffffff", "#e69f00"
_WIDTH = 1 / 400  # of the image's longest side


class PatchBorders(QObject):
    """Keeps one layer of lines for all ticked sites that look at patches; there is none while none is ticked.

    Lines are made for the slice in view only, whichever way it is cut.

    Args:
        live: The maps.
    """

    def __init__(self, live: Live) -> None:
        super().__init__(live)
        self.live, self.viewer = live, live.session.viewer
        self._layers: dict[Case, Vectors] = {}
        self._drawn: Any = None
        live.ticks_changed.connect(self.refresh)
        live.glanced.connect(lambda _case: self.refresh())
        live.session.image_changed.connect(self.refresh)
        dims = self.viewer.dims.events
        for event in (dims.point, dims.order, dims.ndisplay):
            event.connect(self._view_changed)

    def close(self) -> None:
        """Let go of the viewer."""
        dims = self.viewer.dims.events
        for event in (dims.point, dims.order, dims.ndisplay):
            event.disconnect(self._view_changed)

    @property
    def layer(self) -> Vectors | None:
        """The current image's layer of borders."""
        case = self.live.session.case
        return self._layers.get(case) if case is not None else None

    def refresh(self) -> None:
        """Draw the borders of the slice in view, if any ticked site has some."""
        case, atlas = self.live.session.case, self.live.atlas
        for other in [other for other in self._layers if other.image not in self.viewer.layers]:
            self._remove(other)
        if case is None or atlas is None:
            return
        sites = atlas.scene.predictor.sites
        patches = {sites[key].patches for key in self.live.ticked() if key in sites and sites[key].patches > 1}
        if not patches:
            self._remove(case)
            return
        box = box_in_view(self.viewer, case.image)
        spans = [(span.start, span.stop) for span in box]
        wanted = (case, atlas.scene, patches, spans)
        if wanted != self._drawn:
            self._drawn = wanted
            self._draw(case, patches)

    def _draw(self, case: Case, patches: set[int]) -> None:
        from napari_medattn.look.borders import borders

        assert self.live.atlas is not None
        found = borders(self.live.atlas.scene, patches, box_in_view(self.viewer, case.image))
        ndim = layer_place(case.image).spatial_dims
        ends = found.lines[..., 3 - ndim :]
        vectors = np.stack([ends[:, 0], ends[:, 1] - ends[:, 0]], axis=1)
        if case not in self._layers:
            self._layers[case] = self._add(case, ndim)
        layer = self._layers[case]
        if layer in self.viewer.layers:
            layer.data = vectors
            if len(vectors):
                layer.edge_color = [TILE_COLOUR if tile else PATCH_COLOUR for tile in found.tiles]

    def _add(self, case: Case, ndim: int) -> Vectors:
        layers = self.viewer.layers
        active = layers.selection.active
        layer = self.viewer.add_vectors(
            np.zeros((0, 2, ndim)),
            name=f"{case.image.name} patch borders",
            vector_style="line",
            edge_width=max(layer_place(case.image).grid.shape) * _WIDTH,
            opacity=0.6,
            metadata={KEY: {"kind": "borders"}},
            **lying_on(case.image, ndim),
        )
        if case.mask is not None and case.mask in layers:
            layers.move(layers.index(layer), layers.index(case.mask))
        layers.selection.active = active
        return layer

    def _remove(self, case: Case) -> None:
        layer = self._layers.pop(case, None)
        self._drawn = None
        if layer is not None:  # later, because napari may be about to remove this layer with the scan or the map
            QTimer.singleShot(0, partial(remove_present, self.viewer.layers, [layer]))

    def _view_changed(self, event: Any = None) -> None:
        if self._layers:
            self.refresh()
