"""`VersionTree`: the versions of the chosen network, each below the one it was fine-tuned from."""

from __future__ import annotations

from collections.abc import Sequence

from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtWidgets import QHeaderView, QTreeWidget, QTreeWidgetItem

from napari_medattn.store.lineage import Version
from napari_medattn.widgets.learn.version_words import columns, in_full
from napari_medattn.widgets.parts import fit_rows

_VERSION = Qt.ItemDataRole.UserRole
_HEADERS = (
    ("version", "Its name; below it what was fine-tuned from it. The one in use is bold."),
    ("made", "When it was made."),
    ("method", "What of the network learned."),
    ("ex.", "Stored examples that it learned from."),
    ("Dice", "Mean Dice of the classes on held-out voxels."),
)


class VersionTree(QTreeWidget):
    """Shows versions; Enter or a double click on one activates it."""

    version_activated = Signal(object)
    chosen = Signal(object)  # a version, or None

    def __init__(self) -> None:
        super().__init__()
        self.setColumnCount(len(_HEADERS))
        self.setHeaderLabels([title for title, _ in _HEADERS])
        for place, (_, tip) in enumerate(_HEADERS):
            self.headerItem().setToolTip(place, tip)
        self.setAccessibleName("versions")
        self.setIndentation(10)
        self.setRootIsDecorated(False)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.header().setStretchLastSection(False)
        self.header().setMinimumSectionSize(20)
        self.header().setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        self.header().setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        self.itemActivated.connect(lambda item, _column: self.version_activated.emit(item.data(0, _VERSION)))
        self.currentItemChanged.connect(lambda *_: self.chosen.emit(self.current))

    @property
    def current(self) -> Version | None:
        """The version that is selected."""
        item = self.currentItem()
        return item.data(0, _VERSION) if item is not None else None

    @property
    def versions(self) -> list[Version]:
        """All that are shown, from the top."""
        return [item.data(0, _VERSION) for item in self._items()]

    def fill(self, versions: Sequence[Version]) -> None:
        """Show a line of versions, depth first; the one in use is selected, unless another one was."""
        kept = self.current is not None and not self.current.current
        wanted = self.current.checkpoint.card.weights_sha256 if self.current is not None and kept else None
        with QSignalBlocker(self):
            self.clear()
            above: list[QTreeWidgetItem] = []
            for version in versions:
                item = QTreeWidgetItem(columns(version))
                item.setData(0, _VERSION, version)
                for place in range(len(_HEADERS)):
                    item.setToolTip(place, in_full(version))
                    font = item.font(place)
                    font.setBold(version.current)
                    item.setFont(place, font)
                    if place > 2:
                        item.setTextAlignment(place, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter)
                del above[version.depth :]
                if above:
                    above[-1].addChild(item)
                else:
                    self.addTopLevelItem(item)
                above.append(item)
            self.expandAll()
        height = self.sizeHintForRow(0) if versions else 20
        fit_rows(self, self.header(), height, len(versions))
        if not self.select(wanted):
            self.select(next((one.checkpoint.card.weights_sha256 for one in versions if one.current), None))
        self.chosen.emit(self.current)

    def select(self, sha: str | None) -> bool:
        """Select the version with these weights; says whether there is one."""
        for item in self._items():
            if item.data(0, _VERSION).checkpoint.card.weights_sha256 == sha:
                self.setCurrentItem(item)
                return True
        return False

    def _items(self) -> list[QTreeWidgetItem]:
        found, waiting = [], [self.topLevelItem(n) for n in reversed(range(self.topLevelItemCount()))]
        while waiting:
            item = waiting.pop()
            found.append(item)
            waiting += [item.child(n) for n in reversed(range(item.childCount()))]
        return found
