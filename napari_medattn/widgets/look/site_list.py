"""`SiteList`: sites to tick."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtWidgets import QListWidget, QListWidgetItem

if TYPE_CHECKING:
    from napari_medattn.models import AttentionSite

_KEY = int(Qt.ItemDataRole.UserRole)


class SiteList(QListWidget):
    """The sites of a network, each with a box to tick."""

    ticks_changed = Signal()

    def __init__(self) -> None:
        super().__init__()
        self.itemChanged.connect(lambda _: self.ticks_changed.emit())

    def list_sites(self, sites: Iterable[AttentionSite]) -> None:
        """Show these sites, none ticked."""
        with QSignalBlocker(self):
            self.clear()
            for site in sites:
                item = QListWidgetItem(site.title)
                item.setData(_KEY, site.key)
                item.setToolTip(site.legend)
                item.setFlags(item.flags() | Qt.ItemFlag.ItemIsUserCheckable)
                item.setCheckState(Qt.CheckState.Unchecked)
                self.addItem(item)
        self.ticks_changed.emit()

    def tick(self, keys: Sequence[str]) -> None:
        """Tick these sites and no others, and bring the first into view."""
        ticked = [item for item in self._items() if item.data(_KEY) in keys]
        with QSignalBlocker(self):
            for item in self._items():
                item.setCheckState(Qt.CheckState.Checked if item in ticked else Qt.CheckState.Unchecked)
        if ticked:
            self.setCurrentItem(ticked[0])
            self.scrollToItem(ticked[0])
        self.ticks_changed.emit()

    @property
    def keys(self) -> list[str]:
        """The sites that are ticked."""
        return [item.data(_KEY) for item in self._items() if item.checkState() == Qt.CheckState.Checked]

    def _items(self) -> list[QListWidgetItem]:
        return [self.item(index) for index in range(self.count())]
