"""The window of Hounsfield units in which a CT is shown."""

from __future__ import annotations

from typing import Any

import numpy as np
from napari.layers import Image
from qtpy.QtCore import QSignalBlocker
from qtpy.QtWidgets import QHBoxLayout, QLabel, QSizePolicy, QWidget

from napari_medattn.data import CT_WINDOWS
from napari_medattn.errors import MedAttnError
from napari_medattn.layerdata import layer_place
from napari_medattn.widgets.parts import choice
from napari_medattn.widgets.session import Session

_TIP = (
    "Show the CT in this window of Hounsfield units (HU). What the network sees does not change: its window belongs to "
    "the checkpoint and was chosen in training."
)
_OWN = "as it is"


class WindowChoice(QWidget):
    """A choice of windows, shown where the scan may be a CT.

    Args:
        session: The dock's session.
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self._heard: Image | None = None
        self.box = choice("CT window", _TIP)
        self.box.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(QLabel("CT window"))
        layout.addWidget(self.box, 1)
        self.box.activated.connect(self._picked)
        session.image_changed.connect(self.refresh)
        session.checkpoint_changed.connect(self.refresh)
        self.refresh()

    def close(self) -> bool:
        """Let go of the layer."""
        self._hear(None)
        return True

    def refresh(self) -> None:
        """Offer the windows, the network's own among them, and show in which of them the scan is."""
        image = self.session.image if may_be_ct(self.session.image) else None
        self._hear(image)
        self.setVisible(image is not None)
        with QSignalBlocker(self.box):
            self.box.clear()
            self.box.addItem(_OWN, None)
            for name, limits in {**self._networks(), **CT_WINDOWS}.items():
                self.box.addItem(f"{name}, {limits[0]:g} to {limits[1]:g} HU", limits)
        self._show()

    def _networks(self) -> dict[str, tuple[float, float]]:
        checkpoint = self.session.checkpoint
        how = None if checkpoint is None else checkpoint.card.preparation
        if how is None or how.intensity != "window" or how.window is None:
            return {}
        return {"as the network sees it": (how.window[0], how.window[1])}

    def _hear(self, image: Image | None) -> None:
        """Follow the contrast of one layer."""
        if self._heard is not None:
            self._heard.events.contrast_limits.disconnect(self._show)
        self._heard = image
        if image is not None:
            image.events.contrast_limits.connect(self._show)

    def _show(self, event: Any = None) -> None:
        if self._heard is None:
            return
        limits = tuple(float(limit) for limit in self._heard.contrast_limits)
        found = [number for number in range(self.box.count()) if self.box.itemData(number) == limits]
        with QSignalBlocker(self.box):
            self.box.setCurrentIndex(found[0] if found else 0)

    def _picked(self, index: int) -> None:
        limits = self.box.itemData(index)
        if limits is not None and self._heard is not None:
            self._heard.contrast_limits = limits


def may_be_ct(image: Image | None) -> bool:
    """Whether a scan is a CT, or does not say what it is and could hold Hounsfield units."""
    if image is None or image.rgb:
        return False
    try:
        place = layer_place(image)
    except MedAttnError:
        return False
    modality = str(place.meta.get("modality", ""))
    signed = np.dtype(image.dtype).kind in "if"
    return modality == "CT" or (not modality and signed and place.spatial_dims == 3 and place.grid.units == "mm")
