"""Channels and gates: the attention that has no place on the image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QSignalBlocker, Qt
from qtpy.QtWidgets import QFrame, QLabel, QScrollArea, QWidget

from napari_medattn.widgets.look.channel_plots import ChannelPlots
from napari_medattn.widgets.look.gate_chart import GateChart
from napari_medattn.widgets.look.live import Live
from napari_medattn.widgets.look.watch import Watch
from napari_medattn.widgets.parts import choice, column, row

if TYPE_CHECKING:
    from napari_medattn.models import AttentionSite


class ChannelsTool(QWidget):
    """Channel attention of the slice in view as a matrix and bars, and MedT's position gates as a chart.

    Args:
        live: The maps.
    """

    wants_live = True

    def __init__(self, live: Live) -> None:
        super().__init__()
        self.live, self.viewer = live, live.session.viewer
        self._limits: dict[str, tuple[float, float]] = {}
        self._about: Any = None
        self.site = choice("channel attention site", "Whose channels are shown.")
        self.head = choice("head", "One head, or the mean of all.")
        self.plots, self.gates = ChannelPlots(), GateChart()
        self.said, self.legend = QLabel(), QLabel()
        for label in (self.said, self.legend):
            label.setWordWrap(True)
        self.chooser = row(self.site, QLabel("head"), self.head, stretch=0)
        content = QWidget()
        layout = column(content, self.said, self.chooser, self.plots, self.legend, self.gates)
        layout.addStretch(1)
        scroll = QScrollArea()
        scroll.setWidget(content)
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        column(self, scroll).setContentsMargins(0, 0, 0, 0)
        self.setMinimumWidth(340)
        self.watch = Watch(live, self, self.draw)
        self.site.currentIndexChanged.connect(lambda _: self._take_site())
        self.head.currentIndexChanged.connect(lambda _: self.draw())
        self.viewer.events.theme.connect(self._dress)
        self._dress()
        self.refresh()

    @property
    def chosen(self) -> AttentionSite | None:
        """The site that is chosen."""
        return self.live.sites.get(self.site.currentData())

    def choose(self, site_key: str, head: int | None) -> None:
        """Show a site's channels, if it has channel attention."""
        self.refresh()
        index = self.site.findData(site_key)
        if index >= 0:
            self.site.setCurrentIndex(index)
            self.head.setCurrentIndex(0 if head is None or head + 1 >= self.head.count() else head + 1)

    def refresh(self) -> None:
        """List the network's sites of channel attention, and read its gates."""
        case = self.live.session.case
        predictor = self.live.predictor(case) if case is not None else None
        if (case, predictor) == self._about:
            return
        self._about, key = (case, predictor), self.site.currentData()
        self._limits.clear()
        sites = list(predictor.sites.values()) if predictor is not None else []
        channels = [site for site in sites if site.kind == "channel"]
        with QSignalBlocker(self.site):
            self.site.clear()
            for site in channels:
                self.site.addItem(site.title, site.key)
            self.site.setCurrentIndex(max(0, self.site.findData(key)) if channels else -1)
        gates = self._read_gates(predictor)
        if gates:
            self.gates.draw(gates, sites)
        self.gates.setVisible(bool(gates))
        for widget in (self.chooser, self.plots, self.legend):
            widget.setVisible(bool(channels))
        self._nothing = ""
        if predictor is None:
            self._nothing = "Needs a scan and a network."
        elif not channels and not gates:
            self._nothing = f"{predictor.card.name} has neither channel attention nor position gates."
        self._take_site()

    def draw(self) -> None:
        """Draw the matrix of the slice in view."""
        self.refresh()
        site, atlas, frame = self.chosen, self.live.atlas, self.live.frame
        if site is None:
            self._say(self._nothing)
            return
        known = atlas is not None and frame is not None and site.key in atlas.scene.predictor.sites
        matrices = atlas.matrix(frame, site.key) if known and atlas is not None and frame is not None else None
        if matrices is None or atlas is None or frame is None:
            self._say("Looking at this slice ...")
            self.plots.clear()
            return
        what = "Slice" if atlas.scene.flat else "Tile"
        self._say(f"{what} {frame + 1} of {atlas.scene.frames} as the network sees it.")
        shares = in_shares(matrices)
        limits = self._limits.setdefault(site.key, _limits(shares))
        head = self.head.currentIndex() - 1
        self.plots.draw(shares.mean(axis=0) if head < 0 else shares[head], limits)

    def _take_site(self) -> None:
        site = self.chosen
        self.watch.feed(site.key if site is not None else None)
        if site is not None:
            with QSignalBlocker(self.head):
                if self.head.count() != site.heads + 1:
                    self.head.clear()
                    self.head.addItems(["mean", *(str(number) for number in range(1, site.heads + 1))])
            self.head.setEnabled(site.heads > 1)
            self.legend.setText(
                f"{site.legend}. In multiples of an even share, 1/{site.channels}; the mean of the slice's tiles."
            )
        self.draw()

    def _read_gates(self, predictor: Any) -> dict[str, dict[str, float]]:
        from napari_medattn.models import position_gates

        return position_gates(predictor.model) if predictor is not None else {}

    def _say(self, text: str) -> None:
        self.said.setText(text)
        self.said.setVisible(bool(text))

    def _dress(self, event: Any = None) -> None:
        self.plots.dress(self.viewer.theme)
        self.gates.dress(self.viewer.theme)


def in_shares(matrices: NDArray[np.float32]) -> NDArray[np.float32]:
    """Softmax over channels (heads, C, C) in multiples of an even share."""
    return matrices * np.float32(matrices.shape[-1])


def _limits(shares: NDArray[np.float32]) -> tuple[float, float]:
    """From nothing up to nearly the highest value of any head."""
    return 0.0, max(2.0, float(np.percentile(shares, 99.8)))
