"""Confirming a slice, a selection or the case, and showing what is edited, confirmed and untouched."""

from __future__ import annotations

from typing import Any

from napari.layers import Image
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QCheckBox, QMenu, QWidget

from napari_medattn.widgets.case import Case
from napari_medattn.widgets.correct.menu_button import menu_button
from napari_medattn.widgets.correct.standing import add_overlay
from napari_medattn.widgets.correct.where import SELECTION, VOLUME, chosen_box
from napari_medattn.widgets.look.layers import remove_present
from napari_medattn.widgets.parts import MessageLine, button, column, row
from napari_medattn.widgets.session import Session

_TIP = "The slice in view is right as it is: it counts as truth for Learn (Alt+C)."
_BACK = "The slice in view is confirmed; take that back (Alt+C)."
_NO_SLICE = "The 3-D view shows no slice: switch the viewer to 2-D."
_PLACES = (("the selection", SELECTION, "Alt+B"), ("the case", VOLUME, "Alt+Shift+C"))


class Confirming(QWidget):
    """What is confirmed is truth for Learn, and stays as it is.

    Args:
        session: The dock's session.
        message: Where to say what happened.
    """

    def __init__(self, session: Session, message: MessageLine) -> None:
        super().__init__()
        self.session, self.message = session, message
        self.overlay: Image | None = None
        self._overlay_of: Case | None = None
        self.slice = button("Confirm slice", _TIP)
        self.more = menu_button(
            "more",
            "confirm more",
            "Confirm the selection (Alt+B) or the whole case (Alt+Shift+C), or take that back.",
        )
        self.more.menu().aboutToShow.connect(lambda: self.fill_menu(self.more.menu()))
        self.show_standing = QCheckBox("show edits")
        self.show_standing.setAccessibleName("show edited and confirmed voxels")
        self.show_standing.setToolTip(
            "Show what is edited (orange) and untouched (grey), and what is confirmed (green), edited or not."
        )
        column(self, row(self.slice, self.more, self.show_standing, stretch=0)).setContentsMargins(0, 0, 0, 0)
        self._soon = QTimer(self)
        self._soon.setSingleShot(True)
        self._soon.setInterval(0)
        self._soon.timeout.connect(self._renew)
        self.slice.clicked.connect(self.confirm_slice)
        self.show_standing.toggled.connect(self._turn)
        session.viewer.dims.events.current_step.connect(self._name)
        session.viewer.dims.events.ndisplay.connect(self._name)
        session.viewer.dims.events.order.connect(self._name)
        session.viewer.layers.events.removed.connect(self._removed)

    def close(self) -> bool:
        """Let go of the viewer, and take the overlay out of it; the widget itself may be gone already."""
        viewer = self.session.viewer
        for event in (viewer.dims.events.current_step, viewer.dims.events.ndisplay, viewer.dims.events.order):
            event.disconnect(self._name)
        viewer.layers.events.removed.disconnect(self._removed)
        self._take_away()
        return True

    def refresh(self) -> None:
        """Bring the buttons and the overlay up to date."""
        self._name()
        case = self.session.case
        ready = case is not None and case.mask is not None
        self.more.setEnabled(ready)
        self.show_standing.setEnabled(ready)
        if self.overlay is not None and self._overlay_of is case and ready:
            self.overlay.refresh(thumbnail=False, extent=False)
        elif self.show_standing.isChecked():
            self._soon.start()  # napari may be removing layers just now, and must not find others gone or new

    def confirm_slice(self) -> None:
        """Confirm the slice in view, or take it back."""
        if self.slice.isEnabled() and self.session.case is not None:
            self.session.case.confirm_slice()
            self._name()

    def confirm(self, where: str) -> None:
        """Confirm the selection or the whole mask, or take it back, see `where`; says which."""
        case = self.session.case
        if case is None or case.mask is None:
            return
        if where == SELECTION and self._shows_no_slice():
            self.message.say(_NO_SLICE)
            return
        now = case.confirm(chosen_box(case, where))
        name = next(name for name, one, _ in _PLACES if one == where)
        self.message.say(f"Confirmed {name}." if now else f"Took back the confirmation of {name}.")

    def fill_menu(self, menu: QMenu) -> None:
        """Offer what can be confirmed or taken back."""
        menu.clear()
        case = self.session.case
        if case is None or case.mask is None:
            return
        for name, where, keys in _PLACES:
            if where == SELECTION and self._shows_no_slice():
                continue
            done = case.is_confirmed(chosen_box(case, where))
            words = f"Take back the confirmation of {name}" if done else f"Confirm {name}"
            menu.addAction(f"{words} ({keys})", lambda where=where: self.confirm(where))

    def _shows_no_slice(self) -> bool:
        mask = self.session.case.mask if self.session.case is not None else None
        return self.session.viewer.dims.ndisplay == 3 and mask is not None and mask.ndim == 3

    def _name(self, event: Any = None) -> None:
        """The button says what it will do to the slice in view; in 3-D there is none."""
        case = self.session.case
        ready = case is not None and case.mask is not None and not self._shows_no_slice()
        self.slice.setEnabled(ready)
        done = ready and case is not None and case.slice_is_confirmed()
        self.slice.setToolTip(_NO_SLICE if self._shows_no_slice() else _BACK if done else _TIP)
        self.slice.setText("Take back" if done else "Confirm slice")

    def _turn(self, on: bool) -> None:
        case = self.session.case
        if on and self.overlay is None and case is not None and case.mask is not None:
            self._overlay_of, self.overlay = case, add_overlay(case)
        elif not on:
            self._take_away()

    def _renew(self) -> None:
        """Show how things stand with the case at hand, if that is asked for, in the place of another."""
        if self.show_standing.isChecked() and (self.overlay is None or self._overlay_of is not self.session.case):
            self._take_away()
            self._turn(True)
        elif self.session.case is None or self.session.case.mask is None:
            self._take_away()

    def _take_away(self) -> None:
        layer, self.overlay, self._overlay_of = self.overlay, None, None
        if layer is not None:
            remove_present(self.session.viewer.layers, [layer])

    def _removed(self, event: Any) -> None:
        if self.overlay is not None and event.value == self.overlay:
            self.overlay = self._overlay_of = None
            self.show_standing.setChecked(False)
