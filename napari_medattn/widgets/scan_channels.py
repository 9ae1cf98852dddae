"""Which channels of a scan, or which of its times, the network sees."""

from __future__ import annotations

import re

from napari.layers import Image
from qtpy.QtCore import QSignalBlocker
from qtpy.QtWidgets import QHBoxLayout, QLabel, QSizePolicy, QVBoxLayout, QWidget

from napari_medattn.errors import InputError, MedAttnError
from napari_medattn.layerdata import channel_count, channels_in_words, choose_channels, chosen_channels, layer_place
from napari_medattn.widgets.parts import choice
from napari_medattn.widgets.session import Session

_TIP = (
    "Which channels or times of the scan the network sees, counted from 0 as the viewer's slider does. "
    "Choose, or type numbers in the network's order, such as 2, 0, 1."
)
_COLOURS = ("red", "green", "blue", "opacity")


class ChannelChoice(QWidget):
    """A choice of channels, shown where the scan has several.

    Args:
        session: The dock's session.
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.box = choice("channels that the network sees", _TIP)
        self.box.setEditable(True)
        self.box.setInsertPolicy(self.box.InsertPolicy.NoInsert)
        self.box.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.message = QLabel()
        self.message.setWordWrap(True)
        line = QHBoxLayout()
        line.addWidget(QLabel("network sees"))
        line.addWidget(self.box, 1)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(2)
        layout.addLayout(line)
        layout.addWidget(self.message)
        self.box.activated.connect(self._picked)
        editor = self.box.lineEdit()
        assert editor is not None
        editor.editingFinished.connect(self._typed)
        session.image_changed.connect(self.refresh)
        session.checkpoint_changed.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Offer what the scan has and the network takes."""
        image, count = self.session.image, self._count()
        self.setVisible(count > 1)
        if image is None or count <= 1:
            return
        wanted, chosen = self._wanted(count), chosen_channels(image)
        with QSignalBlocker(self.box):
            self.box.clear()
            self.box.addItem(f"all {count}", None)
            for first in range(0, count - wanted + 1, wanted) if wanted < count else ():
                some = tuple(range(first, first + wanted))
                self.box.addItem(_named(some, image), some)
            self.box.setCurrentIndex(0)
            if chosen is not None:
                self.box.setCurrentText(_named(chosen, image))
        self.message.setText(self._mismatch(count if chosen is None else len(chosen), wanted, count))
        self.message.setVisible(bool(self.message.text()))

    def choose(self, channels: tuple[int, ...] | None) -> None:
        """Let the network see these channels; None for all.

        Raises:
            InputError: If the scan has no such channels, or the network takes another number of them.
        """
        image, count = self.session.image, self._count()
        if image is None or channels == chosen_channels(image):
            return
        if channels is not None and (said := self._mismatch(len(channels), self._wanted(count), count)):
            raise InputError(said, "Choose others.")
        choose_channels(image, channels)
        case, dims = self.session.case, self.session.viewer.dims
        if case is not None:  # to the network it is another image now, of which it has said nothing yet
            case.scene = case.prediction = None
            case.maps_changed.emit()
        if channels is not None and len(channels) == 1 and not image.rgb and image.ndim == dims.ndim:
            dims.set_current_step(0, channels[0])
        self.refresh()

    def _count(self) -> int:
        if self.session.image is None:
            return 0
        try:
            return channel_count(layer_place(self.session.image), self.session.image)
        except MedAttnError:
            return 0

    def _wanted(self, count: int) -> int:
        """Channels that the network takes; all where there is no network."""
        checkpoint = self.session.checkpoint
        return count if checkpoint is None else checkpoint.card.in_channels // checkpoint.card.preparation.slices

    def _mismatch(self, given: int, wanted: int, count: int) -> str:
        """Why so many channels do not fit, in a sentence; empty if they do."""
        checkpoint = self.session.checkpoint
        if checkpoint is None or given == wanted:
            return ""
        takes = f"{checkpoint.name} takes {wanted} channel{'' if wanted == 1 else 's'}"
        if wanted > count:
            return f"{takes}, the scan has {count}: choose another network."
        return f"{takes}, not {given}: choose which of the scan's {count}."

    def _picked(self, index: int) -> None:
        self._try(self.box.itemData(index))

    def _typed(self) -> None:
        text = self.box.currentText()
        known = self.box.findText(text)
        if known >= 0:
            self._try(self.box.itemData(known))
            return
        try:
            self._try(parse_channels(text))
        except InputError as error:
            self._refuse(error)

    def _try(self, channels: tuple[int, ...] | None) -> None:
        try:
            self.choose(channels)
        except InputError as error:
            self._refuse(error)

    def _refuse(self, error: InputError) -> None:
        """Say why, and show what counts: the choice as it was."""
        self.refresh()
        self.message.setText(str(error))
        self.message.setVisible(True)


def parse_channels(text: str) -> tuple[int, ...]:
    """``2, 0, 1`` or ``0-2`` as numbers.

    Raises:
        InputError: If it is neither.
    """
    if found := re.fullmatch(r"\s*(\d{1,6})\s*-\s*(\d{1,6})\s*", text):
        first, last = int(found[1]), int(found[2])
        if first <= last:
            return tuple(range(first, last + 1))
    elif re.fullmatch(r"\s*\d{1,6}(\s*[, ]\s*\d{1,6})*\s*", text):
        return tuple(int(number) for number in re.findall(r"\d+", text))
    raise InputError(f"{text!r} names no channels.", "Write them as 2, 0, 1 or 0-2.")


def _named(channels: tuple[int, ...], image: Image) -> str:
    if image.rgb and len(channels) == 1:
        return f"{channels[0]} ({_COLOURS[channels[0]]})"
    return channels_in_words(channels)
