"""The wall of heads: all heads of one site side by side, on the slice in view."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from napari.utils.theme import get_theme
from numpy.typing import NDArray
from qtpy.QtCore import QSignalBlocker, Signal
from qtpy.QtWidgets import QLabel, QWidget

from napari_medattn.widgets.case import Case
from napari_medattn.widgets.look.cut import Cut, cut_in_view, grey_of, outline_of, to_bytes
from napari_medattn.widgets.look.heads_grid import HeadsGrid
from napari_medattn.widgets.look.live import Live
from napari_medattn.widgets.look.watch import Watch
from napari_medattn.widgets.parts import button, choice, column, row

if TYPE_CHECKING:
    from napari_medattn.models import AttentionSite

Float = NDArray[np.float32]


class WallTool(QWidget):
    """Shows every head over the grey slice, all with the same fixed limits, and follows as slices scroll.

    While a voxel is asked, each head shows what that voxel attends to.

    Args:
        live: The maps.
    """

    wants_live = True
    wants_site = Signal(str, object)  # key and head

    def __init__(self, live: Live) -> None:
        super().__init__()
        self.live, self.viewer = live, live.session.viewer
        self._built: tuple[Any, ...] | None = None
        self._limits: tuple[float, float] | None = None
        self._answer_limits: tuple[float, float] | None = None
        self.site = choice("attention site", "Whose heads are shown.")
        self.fit = button("Fit colours", "Let the colours reach up to the highest value of this slice.")
        self.grid = HeadsGrid()
        self.legend, self.said = QLabel(), QLabel()
        for label in (self.legend, self.said):
            label.setWordWrap(True)
        layout = column(self, row(self.site, self.fit, stretch=0), self.said, self.grid, self.legend)
        layout.setStretchFactor(self.grid, 1)
        self.setMinimumWidth(320)
        self.watch = Watch(live, self, self.draw)
        self.site.currentIndexChanged.connect(lambda _: self._take_site())
        self.fit.clicked.connect(self._fit)
        self.grid.clicked.connect(self._clicked)
        self.viewer.events.theme.connect(self._dress)
        self._dress()
        self.list_sites()

    @property
    def chosen(self) -> AttentionSite | None:
        """The site that is chosen."""
        return self.live.sites.get(self.site.currentData())

    def choose(self, site_key: str, head: int | None) -> None:
        """Show the heads of a site, with the one marked that the viewer shows."""
        self.list_sites()
        index = self.site.findData(site_key)
        if index >= 0:
            self.site.setCurrentIndex(index)
        self.grid.choose(head)

    def list_sites(self) -> None:
        """Offer the sites of the network that have a place on the image."""
        sites = [site for site in self.live.sites.values() if site.spatial] if self.live.session.case else []
        key = self.site.currentData()
        if [site.key for site in sites] != [self.site.itemData(index) for index in range(self.site.count())]:
            with QSignalBlocker(self.site):
                self.site.clear()
                for site in sites:
                    self.site.addItem(site.title, site.key)
                self.site.setCurrentIndex(max(0, self.site.findData(key)))
        self._take_site()

    def draw(self) -> None:
        """Draw the slice in view; what is not known yet stays clear."""
        self.list_sites()
        case, atlas, site = self.live.session.case, self.live.atlas, self.chosen
        cut = cut_in_view(self.viewer, case.image) if case is not None else None
        self.grid.setVisible(cut is not None and site is not None)
        self.fit.setEnabled(self.grid.isVisibleTo(self))
        if case is None or site is None:
            self._say("Needs a scan." if case is None else "This network has no attention with a place on the image.")
            return
        if cut is None:
            self._say("The wall shows slices: turn the viewer to 2-D.")
            return
        values = self._values(site, cut) if atlas is not None and site.key in atlas.scene.predictor.sites else []
        asked = site.key in self.live.answers
        unknown = "The voxel that is asked lies on another slice." if asked else "Looking at this slice ..."
        self._say("" if any(np.isfinite(one).any() for one in values) else unknown)
        self._draw(case, cut, site, values)

    def _values(self, site: AttentionSite, cut: Cut) -> list[Float]:
        """Each head's map, or what the voxel that is asked attends to, (rows, columns); nan where unknown."""
        atlas, answer = self.live.atlas, self.live.answers.get(site.key)
        assert atlas is not None
        if answer is not None:
            return [cut.lay(atlas.draw_answer(answer, head, cut.box)) for head in range(site.heads)]
        return [cut.lay(atlas.draw(site.key, head, cut.box)) for head in range(site.heads)]

    def _draw(self, case: Case, cut: Cut, site: AttentionSite, values: list[Float]) -> None:
        limits = self._choose_limits(site, values)
        grey = grey_of(self.viewer, case.image, cut)
        outline = outline_of(case.mask, cut) if case.mask is not None else None
        unknown = np.full(grey.shape, np.nan, np.float32)
        maps = [to_bytes(one, limits) for one in values or [unknown] * site.heads]
        self.grid.place(cut.size, (cut.steps[0] < 0, cut.steps[1] < 0))
        self.grid.draw(grey, maps, outline)
        self.grid.choose(self.live.head)
        self.grid.limit(limits)

    def _choose_limits(self, site: AttentionSite, values: list[Float]) -> tuple[float, float]:
        """The same for all heads, and fixed from the first slice on; those of answers from the first voxel on."""
        from napari_medattn.inference.prediction import display_limits

        asked = site.key in self.live.answers
        known = self._answer_limits if asked else self._limits
        if known is not None:
            return known
        seen = [one for one in values if np.isfinite(one).any()]
        if not seen:
            return display_limits(site, np.zeros(1, np.float32))
        limits = display_limits(site, np.stack(seen))
        if asked:
            self._answer_limits = limits
        else:
            self._limits = limits
        return limits

    def _take_site(self) -> None:
        """Make room for the heads of the chosen site, if it is another one."""
        site = self.chosen
        built = (site, self.live.session.case)
        if built == self._built:
            return
        self._built = built
        self._limits = self._answer_limits = None
        self.watch.feed(site.key if site is not None else None)
        self.legend.setText(f"{site.legend}. The same colours for all heads." if site is not None else "")
        if site is not None:
            self.grid.show_heads(site.heads, site.normalisation == "l2")
            self.grid.choose(self.live.head)
        self.watch.again()

    def _fit(self) -> None:
        self._limits = self._answer_limits = None
        self.draw()

    def _clicked(self, head: int) -> None:
        self.grid.choose(head)
        if self.chosen is not None:
            self.wants_site.emit(self.chosen.key, head)

    def _say(self, text: str) -> None:
        self.said.setText(text)
        self.said.setVisible(bool(text))

    def _dress(self, event: Any = None) -> None:
        theme = get_theme(self.viewer.theme)
        self.grid.dress(theme.background.as_hex(), theme.text.as_hex())
