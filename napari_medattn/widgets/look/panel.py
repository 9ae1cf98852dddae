"""Look: the network's blocks, their maps on the image, and the questions to ask about them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from qtpy.QtCore import Qt
from qtpy.QtWidgets import QCheckBox, QComboBox, QDockWidget, QGridLayout, QLabel, QMainWindow, QWidget

from napari_medattn.widgets.case import Case
from napari_medattn.widgets.jobs import Jobs
from napari_medattn.widgets.look.asking import Asking
from napari_medattn.widgets.look.borders import PatchBorders
from napari_medattn.widgets.look.live import Live
from napari_medattn.widgets.look.tree import SiteTree
from napari_medattn.widgets.parts import MessageLine, button, column, row
from napari_medattn.widgets.session import Session

# What can be asked about the maps: button, tooltip, module and class of its window.
TOOLS = (
    ("Wall of heads", "See all heads of the chosen site side by side.", "wall", "WallTool"),
    ("Channels, gates", "Channel attention as a matrix, and MedT's position gates.", "channels", "ChannelsTool"),
    ("Does it matter?", "Erase what is attended, switch heads off, and see the mask change.", "matter", "MatterTool"),
    ("All heads", "How far and how sharply each head looks, as a table; attention rollout.", "heads", "HeadsTool"),
    ("Compare", "What training changed: the maps of two checkpoints of this network.", "compare", "CompareTool"),
    ("Save ...", "Save maps, a contact sheet, or a figure of this slice.", "save", "SaveTool"),
)

_HINT = "Tick a block to see where it looks."


class LookPanel(QWidget):
    """The tree of sites, which head and which voxel, and the tools.

    Args:
        session: The dock's session.
        jobs: The dock's jobs.
    """

    def __init__(self, session: Session, jobs: Jobs) -> None:
        super().__init__()
        self.session, self.jobs = session, jobs
        self.live = Live(session, jobs)
        self.asking = Asking(self.live, jobs)
        self.borders = PatchBorders(self.live)
        self._tools: dict[str, QWidget] = {}
        self._said = ""  # by the question mode, under what is being made just now
        self.tree = SiteTree()
        self.head = QComboBox()
        self.head.setAccessibleName("head")
        self.head.setToolTip("Which head the maps show: one, or the mean of all.")
        self.query = QCheckBox("ask the voxel")
        self.query.setAccessibleName("ask the voxel under the cursor")
        self.query.setToolTip("Show what the voxel under the cursor attends to; click to hold it (Alt+Q).")
        self.direction = QComboBox()
        self.direction.setAccessibleName("question")
        self.direction.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.direction.setMinimumContentsLength(8)
        self.direction.setToolTip(
            "What is asked: what the voxel attends to, who attends to it, or both halves at once."
        )
        for value, words in (("to", "attends to"), ("from", "attended by"), ("through", "rows x columns (approx.)")):
            self.direction.addItem(words, value)
        self.legend = QLabel()
        self.legend.setWordWrap(True)
        self.message = MessageLine()
        self.buttons = {name: button(name, tip) for name, tip, _, _ in TOOLS}
        self.honest = QLabel("Where the block looks, not why.  Keys: Alt+Q ask, Alt+H next head, Alt+M maps on or off.")
        self.honest.setWordWrap(True)
        column(
            self,
            self.tree,
            row(QLabel("head"), self.head, self.query),
            self.direction,
            self.message,
            self.legend,
            _grid(list(self.buttons.values())),
            self.honest,
        )
        self.direction.setVisible(False)
        self._connect()
        self.refresh()

    def _connect(self) -> None:
        live, asking, session = self.live, self.asking, self.session
        self.tree.ticked.connect(self._ticked)
        self.tree.chosen.connect(self._chosen)
        self.head.currentIndexChanged.connect(lambda index: live.choose_head(index - 1 if index > 0 else None))
        self.query.toggled.connect(asking.turn)
        self.direction.currentIndexChanged.connect(lambda _: asking.choose(self.direction.currentData()))
        for name, _, module, kind in TOOLS:
            self.buttons[name].clicked.connect(lambda _=False, m=module, k=kind, n=name: self.open_tool(n, m, k))
        live.ticks_changed.connect(self._follow)
        live.working.connect(self._work)
        live.failed.connect(self.message.fail)
        asking.said.connect(self._say)
        asking.turned.connect(self.query.setChecked)
        asking.turned.connect(self.direction.setVisible)
        session.image_changed.connect(self.refresh)
        session.predictor_changed.connect(self.refresh)
        session.checkpoint_changed.connect(self.refresh)

    def refresh(self) -> None:
        """List the sites of the mask's network, or of the chosen one before there is a mask."""
        sites = self.live.sites if self.session.case is not None else {}
        self.tree.list_sites(sites.values(), self.live.ticked())
        heads = max((site.heads for site in sites.values() if site.spatial), default=1)
        if self.head.count() != heads + 1:
            self.head.clear()
            self.head.addItems(["mean", *(str(number) for number in range(1, heads + 1))])
        self.head.setEnabled(heads > 1)
        for made in self.buttons.values():
            made.setEnabled(bool(sites))
        self._chosen(self.tree.current)
        if self.session.case is None:
            self.message.say("Needs a scan.")
        elif not sites:
            self.message.say("Needs a network that is loaded, and has attention.")
        else:
            self.message.say("" if self.live.ticked() else _HINT)
        self.live.refresh()

    def refresh_maps(self, case: Case) -> None:
        """After a new prediction: bring the maps that are shown up to date."""
        self.live.outdate(case)
        self.refresh()

    def show_site(self, key: str, head: object = None) -> None:
        """Tick a site, make it the current one, and show one of its heads if one is named."""
        self.live.show(key)
        self.tree.select(key)
        if isinstance(head, int) and head + 1 < self.head.count():
            self.head.setCurrentIndex(head + 1)

    def next_head(self) -> None:
        """Show the next head; after the last one the mean."""
        if self.head.isEnabled():
            self.head.setCurrentIndex((self.head.currentIndex() + 1) % self.head.count())

    def toggle_maps(self) -> None:
        """Hide all maps, or show them again."""
        case = self.session.case
        layers = [case.maps[key] for key in case.maps] if case is not None else []
        lit = any(layer.opacity > 0 for layer in layers)
        for layer in layers:
            layer.opacity = 0.0 if lit else 0.8

    def open_tool(self, name: str, module: str, kind: str) -> QWidget:
        """Open the window of a tool, or bring it to the front; the chosen site is chosen there too."""
        viewer = self.session.viewer
        tool = self._tools.get(name)
        if tool is None or name not in viewer.window.dock_widgets:
            made: Any = getattr(import_module(f"napari_medattn.widgets.look.{module}"), kind)
            tool = made(self.live) if getattr(made, "wants_live", False) else made(self.session, self.jobs)
            if hasattr(tool, "wants_site"):
                tool.wants_site.connect(self.show_site)
            self._tools[name] = tool
            viewer.window.add_dock_widget(tool, name=name, area="right", tabify=False)
        tool.parentWidget().show()
        _give_room(tool)
        if hasattr(tool, "offer"):
            tool.offer(self.live.ticked())
        if hasattr(tool, "choose") and (self.tree.current or self.live.ticked()):
            tool.choose(self.tree.current or self.live.ticked()[-1], self.live.head)
        return tool

    def _ticked(self, key: str, on: bool) -> None:
        if on:
            self.live.show(key)
        else:
            self.live.hide(key)

    def _follow(self) -> None:
        self.tree.follow(self.live.ticked())
        if self.live.ticked() and self.message.text == _HINT:
            self.message.say("")
        if self.asking.on:
            self._say(self.asking.why_not())

    def _chosen(self, key: str) -> None:
        site = self.live.sites.get(key)
        self.legend.setText(f"{site.title}: {site.legend}." if site is not None else "")
        self.legend.setVisible(site is not None)

    def _say(self, text: str) -> None:
        self._said = text
        self.message.say(text)

    def _work(self, doing: str) -> None:
        """Say what is being made; afterwards what was said before."""
        self.message.say(doing or (self._said if self.asking.on else ""))


def _give_room(tool: QWidget) -> None:
    """Let a tool that was squeezed below the panel have half of the window's height."""
    frame = tool.parentWidget()
    window = frame.parentWidget()
    if isinstance(frame, QDockWidget) and isinstance(window, QMainWindow) and not frame.isFloating():
        window.resizeDocks([frame], [window.height() // 2], Qt.Orientation.Vertical)


def _grid(buttons: list[Any], columns: int = 2) -> QWidget:
    holder = QWidget()
    layout = QGridLayout(holder)
    layout.setContentsMargins(0, 0, 0, 0)
    layout.setSpacing(4)
    for index, made in enumerate(buttons):
        layout.addWidget(made, index // columns, index % columns)
    return holder
