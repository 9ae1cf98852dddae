"""The head of the dock: which scan, which network, which device; always in view."""

from __future__ import annotations

from qtpy.QtCore import QSignalBlocker, Qt
from qtpy.QtWidgets import QComboBox, QGridLayout, QLabel, QMessageBox, QSizePolicy, QToolButton, QWidget

from napari_medattn.store import Card
from napari_medattn.widgets.scan_line import ScanLine
from napari_medattn.widgets.session import Session


class Header(QWidget):
    """Chooses scan, checkpoint and device, and says what they are.

    Args:
        session: The dock's session.
    """

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session
        self.scan = _combo("scan", "The image that is segmented; follows the selected image layer.")
        self.network = _combo("network", "The checkpoint that segments.")
        self.device = _combo("device", "Where the network runs; auto takes a GPU if there is one.")
        self.device.addItems(["auto", "cpu"])
        self.device.setMinimumContentsLength(4)
        self.device.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Fixed)
        self.info = QToolButton()
        self.info.setText("about")
        self.info.setAccessibleName("about this checkpoint")
        self.info.setToolTip("What this checkpoint was trained on, and how well it does.")
        self.line = ScanLine(session)
        self.state = QLabel()
        self.state.setWordWrap(True)

        layout = QGridLayout(self)
        layout.setContentsMargins(6, 6, 6, 2)
        layout.setColumnStretch(1, 1)
        layout.addWidget(QLabel("scan"), 0, 0)
        layout.addWidget(self.scan, 0, 1, 1, 3)
        layout.addWidget(self.line, 1, 0, 1, 4)
        layout.addWidget(QLabel("network"), 2, 0)
        layout.addWidget(self.network, 2, 1, 1, 3)  # names of versions are long
        layout.addWidget(self.state, 3, 1)
        layout.addWidget(self.info, 3, 2)
        layout.addWidget(self.device, 3, 3)

        self.scan.currentIndexChanged.connect(self._scan_chosen)
        self.network.currentIndexChanged.connect(self._network_chosen)
        self.device.currentTextChanged.connect(self._device_chosen)
        self.info.clicked.connect(self._show_card)
        session.images_changed.connect(self._fill_scans)
        session.image_changed.connect(self._fill_scans)
        session.checkpoints_changed.connect(self._fill_networks)
        session.checkpoint_changed.connect(self._fill_networks)
        session.predictor_changed.connect(self._show_state)
        self._fill_scans()
        self._fill_networks()

    def offer_devices(self, names: list[str]) -> None:
        """Fill in the devices that are really there, once that is known."""
        chosen = self.device.currentText()
        with QSignalBlocker(self.device):
            self.device.clear()
            self.device.addItems(["auto", *names])
            self.device.setCurrentText(chosen)

    def _fill_scans(self) -> None:
        images = self.session.images
        with QSignalBlocker(self.scan):
            self.scan.clear()
            for image in images:
                self.scan.addItem(image.name, image)
            if self.session.image in images:
                self.scan.setCurrentIndex(images.index(self.session.image))

    def _fill_networks(self) -> None:
        with QSignalBlocker(self.network):
            self.network.clear()
            for found in self.session.checkpoints:
                self.network.addItem(found.name if found.card.trained else f"{found.name} (untrained)", found)
                self.network.setItemData(self.network.count() - 1, found.name, Qt.ItemDataRole.ToolTipRole)
            if self.session.checkpoint in self.session.checkpoints:
                self.network.setCurrentIndex(self.session.checkpoints.index(self.session.checkpoint))
        self._show_state()

    def _show_state(self) -> None:
        checkpoint, predictor = self.session.checkpoint, self.session.predictor
        if checkpoint is None:
            self.state.setText("There is no checkpoint; train one with `medattn train`.")
            return
        words = [checkpoint.card.title or checkpoint.card.network, f"{checkpoint.card.spatial_dims}-D"]
        if not checkpoint.card.trained:
            words.append("never trained: its masks mean nothing")
        if predictor is not None:
            words.append(f"on {predictor.device}")
        else:
            words.append("could not be loaded" if self.session.failed else "loading ...")
        if self.session.damaged:
            words.append(f"{len(self.session.damaged)} damaged checkpoint(s) left out")
            self.state.setToolTip("\n".join(str(error) for error in self.session.damaged))
        self.state.setText(", ".join(words))

    def _scan_chosen(self, index: int) -> None:
        self.session.image = self.scan.itemData(index)

    def _network_chosen(self, index: int) -> None:
        self.session.checkpoint = self.network.itemData(index)

    def _device_chosen(self, name: str) -> None:
        self.session.device = name
        self.session.checkpoint_changed.emit()

    def _show_card(self) -> None:
        if self.session.checkpoint is not None:
            card = self.session.checkpoint.card
            box = QMessageBox(QMessageBox.Icon.NoIcon, card.name, card_in_words(card), parent=self)
            box.setDetailedText(card.to_json())
            box.exec()


def card_in_words(card: Card) -> str:
    """The lines of a card that a person asks for first."""
    seen = card.preparation.slices
    channels = f"{card.in_channels // seen} channel(s)" + (f", sees {seen} slices at once" if seen > 1 else "")
    lines = [
        card.title or card.name,
        f"Network: {card.network}, {card.spatial_dims}-D, {channels}",
        f"Classes: {', '.join(card.class_names)}",
        f"Trained on: {card.trained_on or 'nothing: its masks mean nothing'}",
    ]
    dice = {name: value for name, value in card.metrics.get("dice", {}).items() if value is not None}
    if dice:
        scores = ", ".join(f"{name} {value:.3f}" for name, value in dice.items())
        lines.append(f"Dice on {card.metrics['data']}: {scores}")
    if card.parent_name:
        lines.append(f"Fine-tuned from: {card.parent_name}")
    if card.note:
        lines.append(f"Note: {card.note}")
    if card.limits:
        lines.append(card.limits)
    return "\n".join(lines)


def _combo(name: str, tip: str) -> QComboBox:
    combo = QComboBox()
    combo.setAccessibleName(name)
    combo.setToolTip(tip)
    combo.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    combo.setMinimumContentsLength(5)
    combo.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
    return combo
