"""All heads of the network in a table: how far each looks and how widely it spreads; and attention rollout."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, Signal
from qtpy.QtWidgets import QComboBox, QFileDialog, QFrame, QLabel, QWidget

from napari_medattn.errors import MedAttnError
from napari_medattn.widgets.case import Case
from napari_medattn.widgets.jobs import Jobs
from napari_medattn.widgets.look.rollout_part import RolloutPart
from napari_medattn.widgets.look.table import Column, RowTable
from napari_medattn.widgets.look.view import voxel_in_view
from napari_medattn.widgets.look.work import Work
from napari_medattn.widgets.parts import button, column, row
from napari_medattn.widgets.session import Session

if TYPE_CHECKING:
    from napari_medattn.look import Scene
    from napari_medattn.look.across import HeadRow

WHERE = ("in view", "5 places", "whole scan")
_SOME = 5
_SHORT_NOTES = {"channel": "channels", "vector": "one vector", "gate": "a gate"}
_MEANS = (
    "Entropy: 0 if a query looks at one position, 1 if it spreads evenly. Distance: how far it looks on average, in {} "
    "of the image; 'even' is what that would be if all positions counted alike. Enter on a row shows the head."
)


class HeadsTool(QWidget):
    """Measures every head of every site on the current scan, and rolls attention out through successive blocks.

    Args:
        session: The dock's session.
        jobs: The dock's jobs.
    """

    wants_site = Signal(str, object)  # key and head

    def __init__(self, session: Session, jobs: Jobs) -> None:
        super().__init__()
        self.session = session
        self.work = Work(session, jobs)
        self._wanted: tuple[str, int | None] | None = None
        self._about: tuple[Any, Any] = (None, None)  # the scan and the network that the table is about
        self.where = QComboBox()
        self.where.addItems(list(WHERE))
        self.where.setAccessibleName("where to measure")
        self.where.setToolTip("Which slices, or tiles of a 3-D network, are averaged over; more take longer.")
        self.run = button("Measure", "Run the network and measure every head there.")
        self.stop = button("Cancel", "Stop; the table stays as it was.")
        self.save = button("Save table ...", "Write the table as a CSV file.")
        self.table = RowTable(_columns(), _tip, "heads of the network")
        self.legend = QLabel()
        self.legend.setWordWrap(True)
        self.rollout = RolloutPart(session, self.work)
        self._lay_out()
        self._connect()
        self.refresh()

    def _lay_out(self) -> None:
        line = QFrame()
        line.setFrameShape(QFrame.Shape.HLine)
        layout = column(
            self,
            row(QLabel("where"), self.where, self.run, self.stop, stretch=1),
            self.work.progress,
            self.work.message,
            self.table,
            self.legend,
            self.save,
            line,
            self.rollout,
        )
        layout.setStretchFactor(self.table, 1)
        self.setMinimumWidth(340)

    def _connect(self) -> None:
        self.run.clicked.connect(self.start)
        self.stop.clicked.connect(self.work.cancel)
        self.save.clicked.connect(self._save)
        self.table.row_activated.connect(lambda found: self.wants_site.emit(found.key, found.head))
        self.work.changed.connect(self._enable)
        session = self.session
        for changed in (
            session.image_changed,
            session.predictor_changed,
            session.checkpoint_changed,
            session.mask_changed,
        ):
            changed.connect(self.refresh)

    def event(self, event: QEvent) -> bool:
        """Stop as soon as the window is closed."""
        if event.type() == QEvent.Type.ParentChange and self.parent() is None and hasattr(self, "rollout"):
            self.rollout.pick.setChecked(False)
            self.work.leave()
        return bool(super().event(event))

    def refresh(self) -> None:
        """Another scan or network: what was measured no longer holds."""
        about = self.session.case, self.work.predictor
        if about != self._about:
            self._about = about
            self.work.cancel()
            self.table.fill([])
            self.legend.setText(_MEANS.format("mm"))
            self.rollout.list_streams()
        self._enable()

    def choose(self, site_key: str, head: int | None) -> None:
        """Point at a head in the table, now or once it is measured, and at its stream."""
        self._wanted = (site_key, head)
        self._point()
        self.rollout.choose(site_key)

    def start(self) -> None:
        """Measure."""
        where, case = self.where.currentText(), self.session.case
        if case is None:
            return
        in_view = voxel_in_view(self.session.viewer, case.image)

        def make(scene: Scene) -> Generator[Any, None, Any]:
            from napari_medattn.look.across import across_steps

            return across_steps(scene, _frames(scene, where, scene.locate(in_view).frame))

        self.work.start(f"measuring the heads on {case.image.name}", make, self._show)

    def _show(self, _case: Case, rows: Sequence[HeadRow]) -> None:
        self.table.fill(rows)
        unit = next((found.unit for found in rows if found.unit), "mm")
        self.legend.setText(_MEANS.format(unit))
        self._point()

    def _point(self) -> None:
        if self._wanted is None:
            return
        key, head = self._wanted
        if self.table.select(lambda found: found.key == key and found.head == (head or 0)):
            self._wanted = None

    def _save(self) -> None:
        from napari_medattn.look.across import save_rows

        case = self.session.case
        name = f"{case.image.name} heads.csv" if case is not None else "heads.csv"
        chosen, _ = QFileDialog.getSaveFileName(self, "Save table", name, "CSV (*.csv)")
        if not chosen:
            return
        path = Path(chosen) if Path(chosen).suffix else Path(chosen).with_suffix(".csv")
        try:
            save_rows(self.table.rows, path)
        except MedAttnError as error:
            self.work.message.fail(error)
        else:
            self.work.message.say(f"Saved {path.name}.")

    def _enable(self) -> None:
        ready = self.session.case is not None and self.work.predictor is not None
        running = self.work.running
        self.run.setEnabled(ready and not running)
        self.where.setEnabled(not running)
        self.stop.setEnabled(running)
        self.save.setEnabled(bool(self.table.rows))
        self.rollout.enable(ready)


def _frames(scene: Scene, where: str, in_view: int) -> list[int] | None:
    """The frames to measure: that in view, a few spread over the scan, or all."""
    if where == WHERE[0]:
        return [in_view]
    if where == WHERE[1] and scene.frames > _SOME:
        return [int((number + 0.5) * scene.frames / _SOME) for number in range(_SOME)]
    return None


def _columns() -> list[Column]:
    return [
        Column("site", "The network's block and its attention.", lambda found: found.title, lambda found: found.title),
        Column("head", "Number of the head.", lambda found: found.head + 1, lambda found: str(found.head + 1), 34),
        Column(
            "entropy",
            "How widely a query spreads: 0 one position, 1 evenly.",
            lambda found: found.entropy,
            lambda found: _number(found.entropy, 3),
            50,
        ),
        Column(
            "distance",
            "Mean distance attended on the image, in mm, or in voxels where their size is not known.",
            lambda found: found.distance,
            lambda found: _number(found.distance, 1),
            56,
        ),
        Column("note", "For comparison, or why a number is missing.", _note, _note, 70),
    ]


def _note(found: HeadRow) -> str:
    if found.even_distance is not None and found.distance is not None:
        return f"even {found.even_distance:.1f}"
    if found.share_open is not None:
        return f"{found.share_open:.0%} open"
    return _SHORT_NOTES.get(found.kind, found.note)


def _tip(found: HeadRow) -> str:
    words = [f"{found.title}, head {found.head + 1} ({found.kind})"]
    if found.entropy is not None:
        words.append(f"entropy {found.entropy:.4f} of 1")
    if found.distance is not None:
        words.append(f"looks {found.distance:.2f} {found.unit} far; {found.even_distance:.2f} if all counted alike")
    if found.mean is not None:
        words.append(f"mean factor {found.mean:.3f}")
    if found.share_open is not None:
        words.append(f"{found.share_open:.1%} of the positions above 0.5")
    return "\n".join([*words, *([found.note] if found.note else [])])


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"
