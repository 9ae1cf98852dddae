"""Save: maps as files with the scan's geometry, a contact sheet, or a figure of the slice in view."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent
from qtpy.QtWidgets import QCheckBox, QComboBox, QFileDialog, QFormLayout, QLabel, QLineEdit, QWidget

from napari_medattn.errors import InputError, MedAttnError
from napari_medattn.layerdata import KEY
from napari_medattn.widgets.case import Case
from napari_medattn.widgets.jobs import Jobs
from napari_medattn.widgets.look.clicks import Clicks
from napari_medattn.widgets.look.saving import Order, figure_steps, maps_steps, mask_now, sheet_steps, slice_in_view
from napari_medattn.widgets.look.site_list import SiteList
from napari_medattn.widgets.look.view import Voxel, voxel_in_view
from napari_medattn.widgets.look.work import Work
from napari_medattn.widgets.parts import button, column, row
from napari_medattn.widgets.session import Session

if TYPE_CHECKING:
    from napari_medattn.models import AttentionSite

_FORMATS = {"NIfTI (.nii.gz)": "nii.gz", "TIFF, 32-bit float": "tiff"}
_GRIDS = {"the scan's voxels": "image", "the network's own, smaller": "network"}
_WIDTHS = {"a page, 183 mm": 183.0, "a column, 89 mm": 89.0}
_SHOWS = {
    "overview": "",
    "what a voxel attends to": "to",
    "who attends to a voxel": "from",
    "rows x columns of a voxel (approx.)": "through",
}
_PICTURES = "PDF (*.pdf);;PNG (*.png);;SVG (*.svg)"


class SaveTool(QWidget):
    """Saves the maps of chosen sites of the current scan.

    Args:
        session: The dock's session.
        jobs: The dock's jobs.
    """

    def __init__(self, session: Session, jobs: Jobs) -> None:
        super().__init__()
        self.session, self.work = session, Work(session, jobs)
        self._about: tuple[Any, Any] = (None, None)  # the scan and the network that the list is about
        self.sites = SiteList()
        self.sites.setAccessibleName("sites to save")
        self.sites.setToolTip("The sites whose maps are saved and drawn; those that are ticked in Look to begin with.")
        self.sites.setMinimumHeight(90)
        self.sites.setMaximumHeight(190)
        self.show_what = _combo(_SHOWS, "what the maps show", "The site as a whole, or one voxel's own attention.")
        self.voxel = QLineEdit()
        self.voxel.setPlaceholderText("Z, Y, X")
        self.voxel.setAccessibleName("voxel that is asked")
        self.voxel.setToolTip("Index Z, Y, X of the voxel, counted from 0.")
        self.pick = button("Click a voxel", "While this is down, a click in the image chooses the voxel.")
        self.pick.setCheckable(True)
        self.heads = QComboBox()
        self.heads.setAccessibleName("heads")
        self.heads.setToolTip("The mean of the heads, one of them, or all: an axis of their own in the file.")
        self.form = _combo(_FORMATS, "file format", "NIfTI keeps the scan's whole geometry, TIFF its voxel size.")
        self.grid = _combo(_GRIDS, "grid of the files", "Each value on a voxel of the scan, or as coarse as it is.")
        self.folder = QLineEdit()
        self.folder.setAccessibleName("folder")
        self.folder.setToolTip("Where the maps go, each with a JSON card that says what its numbers mean.")
        self.browse = button("...", "Choose the folder.")
        self.browse.setAccessibleName("choose the folder")
        self.browse.setFixedWidth(32)
        self.replace = QCheckBox("replace files that are there")
        self.replace.setToolTip("Otherwise nothing is saved if a file of the same name exists.")
        self.printed_width = _combo(_WIDTHS, "width of the figure", "The width at which the figure is printed.")
        self.run = button("Save maps", "Run the network over the whole scan and save the ticked maps.")
        self.sheet = button("Contact sheet ...", "Draw the ticked maps on a few slices, as PDF, PNG or SVG.")
        self.figure = button("Figure of this slice ...", "Draw image, mask and ticked maps of the slice in view.")
        self.stop = button("Cancel", "Stop; what is half saved is removed.")
        self.clicks = Clicks(session, self._clicked)
        self._lay_out()
        self._connect()
        self.refresh()

    def _lay_out(self) -> None:
        form = QWidget()
        lines = QFormLayout(form)
        lines.setContentsMargins(0, 0, 0, 0)
        lines.setVerticalSpacing(4)
        lines.addRow("show", self.show_what)
        self._asking = row(self.voxel, self.pick, stretch=0)
        lines.addRow("voxel", self._asking)
        lines.addRow("heads", self.heads)
        lines.addRow("format", self.form)
        lines.addRow("grid", self.grid)
        lines.addRow("folder", row(self.folder, self.browse, stretch=0))
        lines.addRow("", self.replace)
        lines.addRow("figure", self.printed_width)
        self._lines = lines
        honest = QLabel("Where the block looks, not why. The card of each map says so too.")
        honest.setWordWrap(True)
        column(
            self,
            self.sites,
            form,
            row(self.run, self.stop, stretch=0),
            row(self.sheet, self.figure),
            self.work.progress,
            self.work.message,
            honest,
        ).addStretch(1)
        self.setMinimumWidth(340)

    def _connect(self) -> None:
        self.run.clicked.connect(self.save)
        self.stop.clicked.connect(self.work.cancel)
        self.sheet.clicked.connect(self._ask_sheet)
        self.figure.clicked.connect(self._ask_figure)
        self.browse.clicked.connect(self._browse)
        self.pick.toggled.connect(self.clicks.turn)
        self.show_what.currentIndexChanged.connect(lambda _: self._question_changed())
        self.sites.ticks_changed.connect(self._enable)
        self.work.changed.connect(self._enable)
        session = self.session
        for changed in (session.image_changed, session.predictor_changed, session.checkpoint_changed):
            changed.connect(self.refresh)
        session.mask_changed.connect(self.refresh)

    def event(self, event: QEvent) -> bool:
        """Stop as soon as the window is closed."""
        if event.type() == QEvent.Type.ParentChange and self.parent() is None and hasattr(self, "clicks"):
            self.pick.setChecked(False)
            self.work.leave()
        return bool(super().event(event))

    # What is chosen

    def refresh(self) -> None:
        """Another scan or network has other sites and another folder."""
        case, predictor = self.session.case, self.work.predictor
        if (case, predictor) != self._about:
            self._about = case, predictor
            self.work.cancel()
            self._list(list(predictor.sites.values()) if predictor is not None and case is not None else [])
            self.voxel.clear()
            if case is not None:
                source = case.image.metadata.get(KEY, {}).get("path")
                self.folder.setText(str((Path(source).parent if source else Path.home()) / "attention"))
        self._question_changed()

    def _list(self, sites: Iterable[AttentionSite]) -> None:
        self.sites.list_sites(sites)
        most = max((site.heads for site in sites), default=1)
        self.heads.clear()
        for title, value in (("mean of the heads", "mean"), ("all heads", "all")):
            self.heads.addItem(title, value)
        for number in range(most if most > 1 else 0):
            self.heads.addItem(f"head {number + 1}", number)

    def offer(self, keys: Sequence[str]) -> None:
        """Tick these sites and no others."""
        self.sites.tick(keys)

    def choose(self, site_key: str, head: int | None) -> None:
        """Tick a site if none is, and take over which head is shown."""
        if not self.keys:
            self.sites.tick([site_key])
        at = self.heads.findData("mean" if head is None else head)
        self.heads.setCurrentIndex(max(at, 0))

    @property
    def keys(self) -> list[str]:
        """The sites that are ticked."""
        return self.sites.keys

    # What is done

    def save(self) -> None:
        """Save the ticked maps into the folder."""
        order = self._order()
        if order is not None:
            folder = Path(self.folder.text()).expanduser()
            how = self.form.currentData(), self.grid.currentData(), self.replace.isChecked()
            title = f"saving maps of {order.case.image.name}"
            self.work.start(title, lambda scene: maps_steps(order, scene, folder, *how), self._saved)

    def save_sheet(self, path: Path | str) -> None:
        """Draw the ticked maps on a few slices."""
        order = self._order()
        if order is not None:
            title = f"a contact sheet of {order.case.image.name}"
            self.work.start(title, lambda scene: sheet_steps(order, scene, Path(path)), self._saved)

    def save_figure(self, path: Path | str) -> None:
        """Draw image, mask and ticked maps of the slice in view; only that slice is run."""
        order, width = self._order(), self.printed_width.currentData()
        if order is not None:
            title = f"a figure of {order.case.image.name}"
            self.work.start(title, lambda scene: figure_steps(order, scene, Path(path), width), self._saved)

    def _order(self) -> Order | None:
        """What is asked for now; None, with a word to the person, where it makes no sense."""
        case, keys, direction = self.session.case, self.keys, self.show_what.currentData()
        try:
            if case is None or not keys:
                raise InputError("No site is ticked.", "Tick those whose maps are to be saved.")
            voxel = self._asked() if direction else None
            box, mask = slice_in_view(case), mask_now(case)
        except MedAttnError as error:
            self.work.message.fail(error)
            return None
        return Order(case, keys, self.heads.currentData(), voxel, direction or "to", box, mask)

    def _asked(self) -> Voxel:
        """The voxel in the line.

        Raises:
            InputError: If there is none.
        """
        try:
            z, y, x = (float(part) for part in self.voxel.text().replace(",", " ").split())
        except ValueError as error:
            raise InputError(f"{self.voxel.text()!r} is no voxel.", "Write Z, Y, X or click one.") from error
        return z, y, x

    def _saved(self, _case: Case, paths: list[Path]) -> None:
        if len(paths) == 1:
            self.work.message.say(f"Saved {paths[0]}.")
        else:
            self.work.message.say(f"Saved {len(paths)} files in {paths[0].parent}.")

    def _clicked(self, voxel: Voxel) -> None:
        self.voxel.setText(", ".join(str(round(at)) for at in voxel))
        self.pick.setChecked(False)

    def _browse(self) -> None:
        chosen = QFileDialog.getExistingDirectory(self, "Folder for maps", self.folder.text())
        if chosen:
            self.folder.setText(chosen)

    def _ask_sheet(self) -> None:
        path = self._ask_path("contact sheet")
        if path is not None:
            self.save_sheet(path)

    def _ask_figure(self) -> None:
        path = self._ask_path("figure")
        if path is not None:
            self.save_figure(path)

    def _ask_path(self, what: str) -> Path | None:
        case = self.session.case
        if case is None or self._maps() is None:
            return None
        start = Path(self.folder.text()).parent / f"{case.image.name}_{what.replace(' ', '-')}.pdf"
        chosen, kind = QFileDialog.getSaveFileName(self, f"Save {what}", str(start), _PICTURES)
        if not chosen:
            return None
        path = Path(chosen)
        return path if path.suffix else path.with_suffix(f".{kind[:3].lower()}")

    def _question_changed(self) -> None:
        asks = bool(self.show_what.currentData())
        self._lines.setRowVisible(self._asking, asks)
        case = self.session.case
        if asks and not self.voxel.text() and case is not None:
            self.voxel.setText(", ".join(str(round(at)) for at in voxel_in_view(self.session.viewer, case.image)))
        if not asks:
            self.pick.setChecked(False)
        self._enable()

    def _enable(self) -> None:
        ready = self.session.case is not None and self.work.predictor is not None
        running = self.work.running
        for made in (self.run, self.sheet, self.figure):
            made.setEnabled(ready and not running and bool(self.keys))
        self.stop.setEnabled(running)
        self.pick.setEnabled(ready)
        if ready and not self.keys and not running:
            self.work.message.say("Tick the sites whose maps are to be saved.")
        elif self.work.message.text.startswith("Tick the sites"):
            self.work.message.say("")


def _combo(choices: dict[str, Any], name: str, tip: str) -> QComboBox:
    made = QComboBox()
    for title, value in choices.items():
        made.addItem(title, value)
    made.setAccessibleName(name)
    made.setToolTip(tip)
    return made
