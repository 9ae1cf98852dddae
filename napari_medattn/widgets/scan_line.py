"""What the scan is: size, orientation, spacing, and what its reader had to decide; its channels and its window."""

from __future__ import annotations

from napari.layers import Image
from qtpy.QtWidgets import QGridLayout, QLabel, QToolButton, QWidget

from napari_medattn.data.seen import axes_in_words, seen_as_usual, sides_on_screen
from napari_medattn.errors import MedAttnError
from napari_medattn.layerdata import Place, describe_place, layer_place
from napari_medattn.widgets.scan_channels import ChannelChoice
from napari_medattn.widgets.scan_window import WindowChoice
from napari_medattn.widgets.session import Session


class ScanLine(QWidget):
    """Says where the current scan lies and how it is drawn, and lets its channels and its window be chosen.

    Args:
        session: The dock's session.
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self._told: set[Image] = set()
        self.place, self.notes = QLabel(), QLabel()
        for label in (self.place, self.notes):
            label.setWordWrap(True)
        self.again = QToolButton()
        self.again.setCheckable(True)
        self.again.setAccessibleName("notes on this scan")
        self.again.toggled.connect(self.notes.setVisible)
        self.channels, self.ct_window = ChannelChoice(session), WindowChoice(session)
        layout = QGridLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(3)
        layout.setColumnStretch(0, 1)
        layout.addWidget(self.place, 0, 0)
        layout.addWidget(self.again, 0, 1)
        for number, widget in enumerate((self.notes, self.channels, self.ct_window), 1):
            layout.addWidget(widget, number, 0, 1, 2)
        session.image_changed.connect(self.refresh)
        session.images_changed.connect(self._forget)
        self.refresh()

    def refresh(self) -> None:
        """Describe the current scan; its notes stand open the first time it is shown, later a click away."""
        image = self.session.image
        notes: tuple[str, ...] = ()
        tip = ""
        if image is None:
            text = "Open a scan: File > Open, or File > Open Sample."
        else:
            try:
                place = layer_place(image)
                text, tip = in_words(place)
                notes = tuple(place.meta.get("notes", ()))
            except MedAttnError as error:
                text = str(error)
        self.place.setText(text)
        self.place.setToolTip(tip)
        self.notes.setText("\n".join(notes))
        self.again.setText(f"{len(notes)} note{'' if len(notes) == 1 else 's'}")
        self.again.setToolTip("\n".join(notes))
        self.again.setVisible(bool(notes))
        new = image is not None and bool(notes) and image not in self._told
        if image is not None and notes:
            self._told.add(image)
        self.again.setChecked(new)
        self.notes.setVisible(new)

    def _forget(self) -> None:
        self._told &= set(self.session.images)


def in_words(place: Place) -> tuple[str, str]:
    """One line on a scan, and more of it for whoever asks."""
    text, grid = describe_place(place), place.grid
    if place.spatial_dims == 2 or grid.units != "mm":
        return text, "Voxels are drawn as they are stored."
    if not grid.oriented:
        return text, "Voxels are drawn as they are stored; nothing says where the patient's right and left are."
    sides = sides_on_screen(grid)
    tip = f"{axes_in_words(grid)} Voxels are drawn as they are stored: in slices along z, {sides}."
    if grid.is_oblique:
        tip += " The scan is oblique: it is drawn along its own axes, and saved with its true ones."
    return (text if seen_as_usual(grid) else f"{text}; drawn as stored: {sides}"), tip
