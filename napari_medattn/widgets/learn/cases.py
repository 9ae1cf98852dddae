"""`Cases`: what there is to learn from, in one line; a button that keeps the open case; a list to leave some out."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QSignalBlocker, Qt, QTimer, Signal
from qtpy.QtWidgets import QLabel, QTreeWidget, QTreeWidgetItem, QWidget

from napari_medattn.layerdata import layer_place
from napari_medattn.store.examples import ExampleStore
from napari_medattn.store.scan_id import scan_id
from napari_medattn.widgets.case import Case
from napari_medattn.widgets.jobs import Jobs, Steps
from napari_medattn.widgets.learn.teaching import Taught, Vouched, leave_out, taught_cases, touched_slices
from napari_medattn.widgets.parts import MessageLine, Section, button, column, fit_rows, row
from napari_medattn.widgets.session import Session

_REST_MS = 250  # figures follow painting after this pause, so that strokes stay smooth
_TAUGHT = Qt.ItemDataRole.UserRole


class Cases(QWidget):
    """Shows the stored cases of the network's classes and the open one together.

    Args:
        session: The dock's session.
        jobs: The dock's jobs.
        message: Where to say what happened.
    """

    changed = Signal()

    def __init__(self, session: Session, jobs: Jobs, message: MessageLine) -> None:
        super().__init__()
        self.session, self.jobs, self.message = session, jobs, message
        self.store = ExampleStore()
        self.taught: list[Taught] = []
        self.blocked = ""  # why nothing can be learned; empty if something can
        self._scans: dict[Case, tuple[Any, str]] = {}  # the image's array, as the layer may show another one later
        self._reading = self._again = False
        self.summary = QLabel()
        self.summary.setWordWrap(True)
        self.add = button("+ this", "")
        self.add.setAccessibleName("add this case")
        self.list = QTreeWidget()
        self.list.setColumnCount(2)
        self.list.setHeaderLabels(["learn from", "what was corrected"])
        self.list.setRootIsDecorated(False)
        self.list.setAccessibleName("stored cases")
        self.list.setToolTip("Untick a case to leave it out; it stays in the store.")
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.section = Section("stored cases", self.list, open_=False)
        column(self, row(self.summary, self.add, stretch=0), self.section).setContentsMargins(0, 0, 0, 0)
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.setInterval(_REST_MS)
        self._rest.timeout.connect(self.refresh)
        self.add.clicked.connect(self.add_this)
        self.list.itemChanged.connect(self._ticked)
        session.image_changed.connect(self.read)
        session.mask_changed.connect(self.refresh)
        session.edits_changed.connect(self._edited)
        session.checkpoint_changed.connect(self.read)
        self.read()

    @property
    def reading(self) -> bool:
        """Whether the store is being read."""
        return self._reading

    @property
    def present(self) -> Vouched | None:
        """The open case's corrections as they are now; None if it has none of the network's classes.

        Raises:
            GeometryError: If the mask is no longer what its edits were made on.
        """
        case = self.session.case
        return Vouched.of(case) if case is not None and self._fits(case) and _corrected(case) else None

    def scan_of(self, case: Case | None) -> str:
        """Which scan a case is of, as far as known by now."""
        data, scan = self._scans.get(case, (None, "")) if case is not None else (None, "")
        return scan if case is not None and case.image.data is data else ""

    def read(self) -> None:
        """Read the store again, in the background, and tell which scan is open."""
        self.refresh()
        checkpoint, case = self.session.checkpoint, self.session.case
        if self._reading:
            self._again = True
            return
        if checkpoint is None:
            return
        names, image = checkpoint.card.class_names, case.image if case is not None else None
        known = self.scan_of(case)
        self._scans = {one: found for one, found in self._scans.items() if one.image in self.session.images}
        data = image.data if image is not None else None

        def steps() -> Steps:
            yield
            scan = known if known or image is None else scan_id(data, layer_place(image).grid)
            return scan, taught_cases(self.store, names)

        def done(found: tuple[str, list[Taught]]) -> None:
            scan, taught = found
            if case is not None and scan:
                self._scans[case] = data, scan
            self._ended(taught)

        def failed(error: BaseException) -> None:
            self._ended(self.taught)
            self.message.fail(error)

        self._reading = True
        self.jobs.start("reading the stored cases", steps, on_done=done, on_error=failed, quiet=True)

    def refresh(self) -> None:
        """Say what there is to learn from, or why nothing can be learned."""
        case = self.session.case
        self.blocked = self._why_not(case)
        fits = case is not None and self._fits(case) and _corrected(case)
        self.add.setEnabled(fits)
        self.add.setToolTip(
            "Keep this case's corrections for every training to come; they take the place of its earlier ones."
            if fits
            else "Keeps a case with corrections for every training to come; this one has none of the network's classes."
        )
        self.summary.setText(self.blocked or self._in_words(case if fits else None))
        self.changed.emit()

    def add_this(self) -> None:
        """Keep the open case's corrections in the store."""
        case = self.session.case
        if case is None or not self.add.isEnabled():
            return
        vouched = self.present
        if vouched is None:
            return

        def steps() -> Steps:
            return self.store.add_steps(vouched.example())

        def done(entry: Any) -> None:
            self.message.say(f"{case.image.name} is kept: {entry.slices} slices, {entry.counted:,} voxels.")
            self.read()

        self.add.setEnabled(False)
        self.message.say(f"Keeping {case.image.name} ...")
        self.jobs.start(f"keeping {case.image.name}", steps, on_done=done, on_error=self._not_kept)

    def _edited(self) -> None:
        """Figures may wait for the end of a stroke, but not whether there is something to learn from."""
        if self._why_not(self.session.case) == self.blocked:
            self._rest.start()
        else:
            self.refresh()

    def _not_kept(self, error: BaseException) -> None:
        self.message.fail(error)
        self.refresh()

    def _ended(self, taught: list[Taught]) -> None:
        self._reading, self.taught = False, taught
        self._fill()
        self.refresh()
        if self._again:
            self._again = False
            self.read()

    def _why_not(self, case: Case | None) -> str:
        """Why nothing can be learned, in words; empty if something can."""
        checkpoint = self.session.checkpoint
        if checkpoint is None:
            return "Needs a network."
        if case is not None and case.mask is not None and not self._fits(case):
            return f"The mask has other classes than {checkpoint.name}: choose a network of its classes."
        if case is not None and self._fits(case) and _corrected(case):
            return ""
        if any(one.used and not one.scored for one in self.taught):
            return ""
        if case is None or case.mask is None:
            return "Needs a mask that you corrected or confirmed, or stored cases of the network's classes."
        return "Nothing to learn from yet: correct the mask or confirm slices."

    def _fits(self, case: Case) -> bool:
        """Whether a case's mask has the network's classes and no others."""
        checkpoint = self.session.checkpoint
        same = checkpoint is not None and case.scheme == checkpoint.card.class_names
        return same and len(case.class_names) == len(case.scheme)

    def _in_words(self, case: Case | None) -> str:
        scan = self.scan_of(case)
        stored = [one for one in self.taught if one.used and not (scan and one.entry.scan == scan)]
        counts = [(one.entry.slices, one.edited) for one in stored]
        counts += [(touched_slices(case), case.edited)] if case is not None else []
        slices, voxels = (sum(column) for column in zip(*counts, strict=True)) if counts else (0, 0)
        words = [_plural(len(counts), "case"), _plural(slices, "slice"), f"{voxels:,} edited voxels"]
        left_out = sum(not one.used for one in self.taught)
        scored = sum(one.scored for one in stored)
        notes = [f"{left_out} left out"] if left_out else []
        notes += [f"{scored} kept for scoring"] if scored else []
        return ", ".join(words) + (f" ({', '.join(notes)})" if notes else "")

    def _fill(self) -> None:
        open_scan = self.scan_of(self.session.case)
        with QSignalBlocker(self.list):
            self.list.clear()
            for one in reversed(self.taught):
                entry = one.entry
                here = bool(open_scan) and entry.scan == open_scan
                item = QTreeWidgetItem([f"{entry.title}{' (open)' if here else ''}", _what(one)])
                item.setData(0, _TAUGHT, one)
                item.setFlags(item.flags() | Qt.ItemFlag.ItemIsUserCheckable)
                item.setCheckState(0, Qt.CheckState.Checked if one.used else Qt.CheckState.Unchecked)
                for place in range(2):
                    item.setToolTip(place, _tip(one, here))
                self.list.addTopLevelItem(item)
        self.list.resizeColumnToContents(0)
        self.section.setVisible(bool(self.taught))
        height = self.list.sizeHintForRow(0) if self.taught else 20
        fit_rows(self.list, self.list.header(), height, len(self.taught), most=4)

    def _ticked(self, item: QTreeWidgetItem, _column: int) -> None:
        taught: Taught = item.data(0, _TAUGHT)
        out = item.checkState(0) == Qt.CheckState.Unchecked

        def steps() -> Steps:
            yield
            leave_out(self.store, taught, out)

        def failed(error: BaseException) -> None:
            self.message.fail(error)
            self.read()

        self.jobs.start("noting what is left out", steps, on_done=lambda _: self.read(), on_error=failed, quiet=True)


def _corrected(case: Case) -> bool:
    return bool(case.edited) or (case.watch is not None and bool(case.watch.log.confirmations))


def _plural(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _what(one: Taught) -> str:
    return f"{_plural(one.entry.slices, 'slice')}, {one.edited:,} voxels{', for scoring' if one.scored else ''}"


def _tip(one: Taught, here: bool) -> str:
    entry = one.entry
    words = [f"{entry.title}, added {entry.date[:16].replace('T', ' ')} UTC"]
    words += ["the scan that is open: what you correct now is learned in its place"] if here else []
    words += ["kept for scoring: never learned from"] if one.scored else []
    words += [f"{name}: {count:,} voxels" for name, count in zip(entry.class_names, entry.counts, strict=True)]
    return "\n".join(words)
