"""The tree of a network's blocks, with a tick for every attention site."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING

from qtpy.QtCore import QSignalBlocker, Qt, Signal
from qtpy.QtWidgets import QHeaderView, QTreeWidget, QTreeWidgetItem

from napari_medattn.widgets.parts import fit_rows

if TYPE_CHECKING:
    from napari_medattn.models import AttentionSite

_KEY = int(Qt.ItemDataRole.UserRole)
_ROWS = 9


class SiteTree(QTreeWidget):
    """Stages, blocks and sites; beside each site its heads, what its numbers mean, and its grid."""

    ticked = Signal(str, bool)
    chosen = Signal(str)  # the current site; empty if a stage or block is

    def __init__(self) -> None:
        super().__init__()
        self.setHeaderLabels(["block", "kind", "heads", "1 per"])
        self.setAccessibleName("attention sites")
        self.setToolTip("Tick a site to see its attention on the image; a block's tick is for all in it.")
        header = self.header()
        header.setStretchLastSection(False)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        for narrow in (1, 2, 3):
            header.setSectionResizeMode(narrow, QHeaderView.ResizeMode.ResizeToContents)
        self.setIndentation(12)
        self.setMinimumWidth(100)
        self.setUniformRowHeights(True)
        self._sites: list[QTreeWidgetItem] = []
        self.itemChanged.connect(self._changed)
        self.currentItemChanged.connect(lambda item, _: self.chosen.emit(item.data(0, _KEY) or "" if item else ""))
        self.list_sites((), ())

    def list_sites(self, sites: Iterable[AttentionSite], ticked: Collection[str]) -> None:
        """Show these sites, with ticks where they are in view."""
        with QSignalBlocker(self):
            self.clear()
            self._sites = []
            branches: dict[tuple[str, ...], QTreeWidgetItem] = {}
            for site in sites:
                parent = self.invisibleRootItem()
                for depth in range(1, len(site.path)):
                    way = site.path[:depth]
                    if way not in branches:
                        branches[way] = QTreeWidgetItem(parent, [way[-1]])
                        branches[way].setExpanded(True)
                    parent = branches[way]
                self._sites.append(_site_item(parent, site))
            for branch in branches.values():
                _make_tickable(branch)
            _expand_little(self)
        self.follow(ticked)
        fit_rows(self, self.header(), self.sizeHintForRow(0) if self._sites else 18, _ROWS if self._sites else 1, _ROWS)

    def follow(self, ticked: Collection[str]) -> None:
        """Set the ticks."""
        with QSignalBlocker(self):
            for item in self._sites:
                shown = item.data(0, _KEY) in ticked
                item.setCheckState(0, Qt.CheckState.Checked if shown else Qt.CheckState.Unchecked)
            self._walk(self.invisibleRootItem(), _tick_by_children)

    def item(self, key: str) -> QTreeWidgetItem:
        """The row of a site."""
        return next(item for item in self._sites if item.data(0, _KEY) == key)

    def select(self, key: str) -> None:
        """Make a site the current one, and bring it into view."""
        self.setCurrentItem(self.item(key))

    @property
    def current(self) -> str:
        """Key of the current site; empty if there is none."""
        item = self.currentItem()
        return (item.data(0, _KEY) or "") if item is not None else ""

    def _changed(self, item: QTreeWidgetItem, _column: int) -> None:
        """One tick of a person; that of a block stands for all sites in it that have a place on the image."""
        on = item.checkState(0) == Qt.CheckState.Checked
        for key in _keys_below(item):
            self.ticked.emit(key, on)

    def _walk(self, item: QTreeWidgetItem, visit: Callable[[QTreeWidgetItem], None]) -> None:
        """Visit all items below this one, children before parents."""
        for index in range(item.childCount()):
            self._walk(item.child(index), visit)
            visit(item.child(index))


def _site_item(parent: QTreeWidgetItem, site: AttentionSite) -> QTreeWidgetItem:
    steps = {str(step) for step in site.stride}
    grid = ("x".join(map(str, site.stride)) if len(steps) > 1 else steps.pop()) + " px" if site.spatial else ""
    meaning = site.kind if site.normalisation == "softmax" else f"{site.normalisation} {site.kind}"
    item = QTreeWidgetItem(parent, [site.path[-1], meaning, str(site.heads), grid])
    item.setData(0, _KEY, site.key)
    told = f"{site.title}: {site.legend}."
    if not site.spatial:
        told += " It has no place on the image: see its matrix under Channels."
    elif not site.comparable_across_tiles:
        told += " Values of two tiles do not compare."
    for column in range(4):
        item.setToolTip(column, told)
    if site.spatial:
        item.setFlags(item.flags() | Qt.ItemFlag.ItemIsUserCheckable)
    return item


def _make_tickable(branch: QTreeWidgetItem) -> None:
    if _keys_below(branch):
        branch.setFlags(branch.flags() | Qt.ItemFlag.ItemIsUserCheckable)
        branch.setCheckState(0, Qt.CheckState.Unchecked)


def _keys_below(item: QTreeWidgetItem) -> list[str]:
    """Keys of the sites in a branch that have a place on the image; for a site itself, its own."""
    key = item.data(0, _KEY)
    if key:
        return [key] if item.flags() & Qt.ItemFlag.ItemIsUserCheckable else []
    return [found for index in range(item.childCount()) for found in _keys_below(item.child(index))]


def _tick_by_children(item: QTreeWidgetItem) -> None:
    """A branch is ticked if all in it are, and half ticked if some are."""
    if item.data(0, _KEY) or not _keys_below(item):
        return
    states = [item.child(index).checkState(0) for index in range(item.childCount()) if _keys_below(item.child(index))]
    on, half = Qt.CheckState.Checked, Qt.CheckState.PartiallyChecked
    if all(state == on for state in states):
        item.setCheckState(0, on)
    else:
        item.setCheckState(0, half if any(state in (on, half) for state in states) else Qt.CheckState.Unchecked)


def _expand_little(tree: QTreeWidget) -> None:
    """Fold long trees at their stages, so that the whole network is seen at a glance."""
    tree.expandAll()
    rows = sum(1 for _ in _items(tree.invisibleRootItem()))
    if rows > 2 * _ROWS:
        tree.collapseAll()


def _items(item: QTreeWidgetItem) -> Iterable[QTreeWidgetItem]:
    for index in range(item.childCount()):
        yield item.child(index)
        yield from _items(item.child(index))
