"""A light frame around the place that the review queue is at."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from napari.layers import Shapes
from qtpy.QtCore import QTimer

from napari_medattn.correct.queue import Place
from napari_medattn.layerdata import KEY, lying_on
from napari_medattn.widgets.case import Case
from napari_medattn.widgets.look.layers import remove_present
from napari_medattn.widgets.session import Session

_COLOUR = "#f0e442"
_WIDTH = 0.004  # of the slice's longer side


class PlaceMark:
    """One layer with one rectangle; it is nobody's to edit, and gone when there is nothing to frame.

    Args:
        session: The dock's session.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.layer: Shapes | None = None
        self._case: Case | None = None
        session.viewer.layers.events.removed.connect(self._removed)

    def show(self, case: Case, place: Place) -> None:
        """Frame a place of a case's mask."""
        corners = _corners(place)
        if self.layer is not None and self._case is case:
            self.layer.data = [corners]
            return
        self.hide()
        assert case.mask is not None
        viewer, active = case.viewer, case.viewer.layers.selection.active
        sides = [size for axis, size in enumerate(case.mask.data.shape) if axis != place.axis]
        self._case, self.layer = (
            case,
            viewer.add_shapes(
                [corners],
                shape_type="rectangle",
                name=f"{case.image.name} doubtful place",
                face_color="transparent",
                edge_color=_COLOUR,
                edge_width=max(sides) * _WIDTH,
                opacity=0.6,
                metadata={KEY: {"kind": "place"}},
                **lying_on(case.image, case.mask.ndim),
            ),
        )
        self.layer.editable = False
        viewer.layers.selection.active = active

    def hide(self, *, later: bool = False) -> None:
        """Take the frame away.

        Args:
            later: Once napari is done with what it is at, as it must be while layers are removed.
        """
        layer, self.layer, self._case = self.layer, None, None
        layers = self.session.viewer.layers
        if layer is None:
            return
        if later:
            QTimer.singleShot(0, partial(remove_present, layers, [layer]))
        else:
            remove_present(layers, [layer])

    def close(self) -> None:
        """Let go of the viewer."""
        self.session.viewer.layers.events.removed.disconnect(self._removed)
        self.hide()

    def _removed(self, event: Any) -> None:
        if self.layer is not None and event.value == self.layer:
            self.layer = self._case = None


def _corners(place: Place) -> np.ndarray:
    """The frame runs along the outer faces of the place's voxels."""
    low = np.array([side.start - 0.5 for side in place.box])
    high = np.array([side.stop - 0.5 for side in place.box])
    low[place.axis] = high[place.axis] = place.index
    first, second = (axis for axis in range(len(low)) if axis != place.axis)
    corners = np.tile(low, (4, 1))
    corners[1:3, first] = high[first]
    corners[2:4, second] = high[second]
    return corners
