"""Drawing only where the scan is as bright as it should be."""

from __future__ import annotations

import math
from collections.abc import Generator
from functools import partial
from typing import Any

import numpy as np
from napari.layers import Labels
from numpy.typing import NDArray
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QCheckBox, QDoubleSpinBox, QLabel, QWidget

from napari_medattn.correct.boxes import grown
from napari_medattn.correct.brush import between
from napari_medattn.errors import InputError
from napari_medattn.layerdata import layer_place
from napari_medattn.store.edit import Edit
from napari_medattn.widgets.case import Case
from napari_medattn.widgets.correct.recipes import intensities
from napari_medattn.widgets.correct.where import SLICE, chosen_box
from napari_medattn.widgets.parts import MessageLine, button, column, row
from napari_medattn.widgets.session import Session

_FAR = 1e9  # limits of the limits
_INNER = (5, 95)  # percentiles of a class that make up its range


class RangeBrush(QWidget):
    """While it is on, what a person draws changes only voxels whose intensity lies in a range.

    Args:
        session: The dock's session.
        message: Where to say what happened.
    """

    def __init__(self, session: Session, message: MessageLine) -> None:
        super().__init__()
        self.session, self.message = session, message
        self._case: Case | None = None
        self.on = QCheckBox("intensity")
        self.on.setAccessibleName("draw only in a range of intensities")
        self.on.setToolTip(
            "Brush, eraser, fill and polygon change only voxels whose intensity lies between these two. "
            "The status bar tells a voxel's intensity."
        )
        self.low, self.high = _limit("lowest intensity"), _limit("highest intensity")
        self.fit = button(
            "Fit", "Take the range of the class that you paint with in this slice, 5th to 95th percentile."
        )
        column(self, row(self.on, self.low, QLabel("to"), self.high, self.fit)).setContentsMargins(0, 0, 0, 0)
        self.on.toggled.connect(self._apply)
        self.fit.clicked.connect(self.fit_class)
        session.image_changed.connect(self.refresh)
        session.mask_changed.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Another scan has other intensities: its limits are those of its contrast, and the option is off."""
        case = self.session.case
        ready = case is not None and case.mask is not None
        for widget in (self.on, self.low, self.high, self.fit):
            widget.setEnabled(ready)
        if case is not self._case:
            self.on.setChecked(False)
            self._let_go()
            self._case = case
            if case is not None:
                self._offer(*case.image.contrast_limits, whole=np.dtype(case.image.dtype).kind in "iu")
        self._apply()

    def fit_class(self) -> None:
        """Take the range of the class that is painted with, as the slice in view has it."""
        case = self.session.case
        if case is None or case.mask is None or case.watch is None:
            return
        box, label = chosen_box(case, SLICE), int(case.mask.selected_label)
        values = _values(case, box)
        found = values[(case.watch.labels[box] == label) & np.isfinite(values)] if values is not None else np.empty(0)
        if not found.size:
            self.message.say("The class that you paint with has no voxel in this slice to take the range from.")
            return
        low, high = np.percentile(found, _INNER)
        self.low.setValue(math.floor(low) if self.low.decimals() == 0 else low)
        self.high.setValue(math.ceil(high) if self.high.decimals() == 0 else high)

    def close(self) -> bool:
        """Let people draw as they like again."""
        self._let_go()
        return True

    def _offer(self, low: float, high: float, *, whole: bool) -> None:
        decimals = 0 if whole else min(9, max(0, 2 - math.floor(math.log10(max(high - low, 1e-6)))))
        for box, value in ((self.low, low), (self.high, high)):
            box.setDecimals(decimals)
            box.setSingleStep(max((high - low) / 50, 10.0**-decimals))
            box.setValue(value)

    def _apply(self, event: Any = None) -> None:
        case = self._case
        if case is not None:
            permits = partial(self._permitted, case) if self.on.isChecked() else None
            for mask, watch in case.masks.values():
                watch.permits = permits
                self._listen(mask, on=permits is not None)

    def _let_go(self) -> None:
        for mask, watch in self._case.masks.values() if self._case is not None else ():
            watch.permits = None
            self._listen(mask, on=False)

    def _listen(self, mask: Labels, *, on: bool) -> None:
        """Hear of the mouse before napari draws."""
        callbacks = mask.mouse_drag_callbacks
        if self._pressed in callbacks:
            callbacks.remove(self._pressed)
        if on:
            callbacks.insert(0, self._pressed)

    def _pressed(self, mask: Labels, event: Any) -> Generator[None, None, None]:
        """A stroke of the brush or the eraser: what lies outside of the range comes back while it is drawn."""
        case = self._case
        if case is None or case.watch is None or case.mask != mask or event.button != 1:
            return
        if str(mask.mode) not in ("paint", "erase") or (len(event.dims_displayed) == 3 and mask.ndim == 3):
            return
        box = chosen_box(case, SLICE)
        if mask.n_edit_dimensions > 2:
            thick = [int(mask.brush_size) if axis == case.axis_in_view() else 0 for axis in range(mask.ndim)]
            box = grown(box, mask.data.shape, thick)
        case.watch.follow_stroke(box)
        yield
        while event.type == "mouse_move":
            yield
        QTimer.singleShot(0, case.watch.end_stroke)  # napari reports the stroke after this

    def _permitted(self, case: Case, edit: Edit) -> NDArray[np.bool_]:
        """Which places of a step may change; all if the image has another shape than the mask, which is said."""
        values = _values(case, edit.box)
        if values is None:
            self.message.say("The image has another shape than the mask: intensities were not looked at.")
            return np.ones(edit.count, bool)
        voxels = np.unravel_index(edit.places, edit.shape)
        here = values[tuple(axis - side.start for axis, side in zip(voxels, edit.box, strict=True))]
        low, high = self.low.value(), self.high.value()
        inside = between(here, low, high)
        if not inside.any():
            self.message.say(f"Nothing changed: no intensity under the {edit.tool} tool is from {low:g} to {high:g}.")
        return inside


def _values(case: Case, box: tuple[slice, ...]) -> Any:
    """The image in a box of the mask; None if it does not lie on the mask."""
    try:
        place = layer_place(case.image)
    except InputError:
        return None
    if case.mask is None or place.grid.shape[-case.mask.ndim :] != case.mask.data.shape:
        return None
    return intensities(case.image.data, place.channel_axis, box)


def _limit(name: str) -> QDoubleSpinBox:
    made = QDoubleSpinBox()
    made.setAccessibleName(name)
    made.setToolTip(f"The {name} that may change.")
    made.setRange(-_FAR, _FAR)
    made.setButtonSymbols(QDoubleSpinBox.ButtonSymbols.NoButtons)  # there is no room beside the number
    made.setStyleSheet("QDoubleSpinBox { min-width: 58px; max-width: 58px; }")
    return made
