"""Two checkpoints of one network on the current scan: which blocks look elsewhere, and where."""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

from qtpy.QtCore import QEvent, QSignalBlocker, Qt
from qtpy.QtWidgets import QComboBox, QLabel, QWidget

from napari_medattn.errors import InputError
from napari_medattn.widgets.case import Case
from napari_medattn.widgets.jobs import Jobs
from napari_medattn.widgets.look.overlays import Overlays, made_from
from napari_medattn.widgets.look.table import Column, RowTable
from napari_medattn.widgets.look.view import voxel_in_view
from napari_medattn.widgets.look.work import Work
from napari_medattn.widgets.parts import button, column, row
from napari_medattn.widgets.session import Session

if TYPE_CHECKING:
    from napari_medattn.inference import Predictor
    from napari_medattn.look import Scene
    from napari_medattn.look.before_after import Comparison, SiteChange
    from napari_medattn.models import AttentionSite
    from napari_medattn.store import Card, Checkpoint

_TIP = int(Qt.ItemDataRole.ToolTipRole)
WHERE = ("whole scan", "in view")
_SHORT = {"jensen-shannon": "rows", "mean difference": "gate", "cosine": "cosine"}
_UNITS = {
    "sigmoid": "as a difference of the gate's factor",
    "softmax": "in multiples of an even share",
    "l2": "as a difference of the weights",
}


class CompareTool(QWidget):
    """Compares the network that is looked into with another checkpoint of it.

    Args:
        session: The dock's session.
        jobs: The dock's jobs.
    """

    def __init__(self, session: Session, jobs: Jobs) -> None:
        super().__init__()
        self.session = session
        self.work, self.overlays = Work(session, jobs), Overlays()
        self.comparison: Comparison | None = None
        self._loaded: Predictor | None = None  # the other network, kept for the next run
        self._wanted: str | None = None
        self._frame: int | None = None
        self._about: tuple[Any, Any] = (None, None)  # the scan and the network that the table is about
        self.other = QComboBox()
        self.other.setAccessibleName("other checkpoint")
        self.other.setToolTip("The checkpoint to compare with the network that is looked into.")
        self.other.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
        self.where = QComboBox()
        self.where.addItems(list(WHERE))
        self.where.setAccessibleName("where to compare")
        self.where.setToolTip(
            "Compare on the whole scan, or on the slice (3-D networks: tile) in view, which is quick."
        )
        self.run = button("Compare", "Run both networks and compare the attention of every site.")
        self.stop = button("Cancel", "Stop; nothing is changed.")
        self.order, self.legend = QLabel(), QLabel()
        for label in (self.order, self.legend):
            label.setWordWrap(True)
        self.table = RowTable(_columns(), _tip, "sites by how much they changed")
        layout = column(
            self,
            row(QLabel("with"), self.other, stretch=1),
            row(QLabel("where"), self.where, self.run, self.stop, stretch=1),
            self.order,
            self.work.progress,
            self.work.message,
            self.table,
            self.legend,
        )
        layout.setStretchFactor(self.table, 1)
        self.setMinimumWidth(340)
        self._connect()
        self.refresh()

    def _connect(self) -> None:
        self.run.clicked.connect(self.start)
        self.stop.clicked.connect(self.work.cancel)
        self.table.row_activated.connect(lambda change: self.show_site(change.key))
        self.other.currentIndexChanged.connect(self._say_order)
        self.work.changed.connect(self._enable)
        session = self.session
        for changed in (
            session.image_changed,
            session.predictor_changed,
            session.checkpoint_changed,
            session.checkpoints_changed,
            session.mask_changed,
        ):
            changed.connect(self.refresh)

    def event(self, event: QEvent) -> bool:
        """Stop as soon as the window is closed."""
        if event.type() == QEvent.Type.ParentChange and self.parent() is None and hasattr(self, "table"):
            self.work.leave()
        return bool(super().event(event))

    def refresh(self) -> None:
        """List the other checkpoints of the network; on another scan or network, what was found no longer holds."""
        predictor = self.work.predictor
        self._list(predictor)
        about = self.session.case, predictor
        if about != self._about:
            self._about = about
            self.work.cancel()
            self._forget()
        self._say_order()
        self._enable()

    def _list(self, predictor: Predictor | None) -> None:
        """Those that can be compared first; the others say why they cannot, and cannot be chosen."""
        found, chosen = self._others(predictor), self._chosen
        if [self.other.itemData(number) for number in range(self.other.count())] == [one for one, _ in found]:
            return
        with QSignalBlocker(self.other):
            self.other.clear()
            for number, (checkpoint, differs) in enumerate(found):
                self.other.addItem(checkpoint.name, checkpoint)
                if differs:
                    self.other.setItemData(number, f"Cannot be compared: {'; '.join(differs)}.", _TIP)
                    self.other.model().item(number).setEnabled(False)
            able = [checkpoint for checkpoint, differs in found if not differs]
            keep = chosen if chosen in able else next(iter(able), None)
            self.other.setCurrentIndex(-1 if keep is None else self.other.findText(keep.name))

    def choose(self, site_key: str, head: int | None) -> None:
        """Point at a site in the table, now or once it is compared."""
        self._wanted = site_key
        self._point()

    def start(self) -> None:
        """Compare."""
        case, mine, checkpoint = self.session.case, self.work.predictor, self._chosen
        if case is None or mine is None or checkpoint is None:
            return
        voxel = voxel_in_view(self.session.viewer, case.image) if self.where.currentText() == WHERE[1] else None

        def make(scene: Scene) -> Generator[Any, None, Any]:
            from napari_medattn.look.before_after import before_after_steps, came_first, check_comparable

            check_comparable(mine.card, checkpoint.card)
            other = self._load(checkpoint, mine)
            pair = (other, mine) if came_first(checkpoint.card, mine.card) else (mine, other)
            frame = None if voxel is None else scene.locate(voxel).frame
            found = yield from before_after_steps(scene, *pair, frame=frame)
            return found, other, frame

        self._forget()
        self.work.start(f"comparing with {checkpoint.name}", make, self._show)

    def _load(self, checkpoint: Checkpoint, mine: Predictor) -> Predictor:
        from napari_medattn.inference import Predictor

        loaded = self._loaded
        if loaded is not None and loaded.card == checkpoint.card and loaded.device == mine.device:
            return loaded
        return Predictor(checkpoint.build(), checkpoint.card, mine.device, mine.precision)

    def _show(self, _case: Case, result: Any) -> None:
        comparison, self._loaded, self._frame = result
        self.comparison = comparison
        self.table.fill(comparison.changes)
        most = comparison.changes[0]
        self.work.message.say(f"{most.title} changed most: {most.value:.3f}. {comparison.note}".strip())
        self.legend.setText(
            f"Change: 0 none, 1 the most there can be; 'by' says how it is measured. Enter on a row shows where: red "
            f"more in {comparison.after.name}, blue less."
        )
        self._point()

    def show_site(self, key: str) -> None:
        """Put the difference of a site's maps on the image; it is made first if it was not kept."""
        comparison, case = self.comparison, self.session.case
        if comparison is None or case is None or self.work.predictor is None:
            return
        site = self.work.predictor.sites[key]
        if not site.spatial:
            self.work.message.say(
                f"{site.title} attends between channels, which have no place on the image: its change is the number."
            )
            return
        mine, other, frame = self.work.predictor, self._loaded, self._frame

        def make(scene: Scene) -> Generator[Any, None, Any]:
            from napari_medattn.look.before_after import before_after_steps, change_limit

            whole = comparison
            if key not in comparison.differences:
                assert other is not None
                pair = (mine, other) if mine.card == comparison.before else (other, mine)
                whole = yield from before_after_steps(scene, *pair, frame=frame, sites=[key])
            part = whole.differences.get(key)
            if part is None:
                raise InputError(
                    f"The map of {site.title} is too large to be kept for the whole scan.", "Compare what is in view."
                )
            on_image = part.on_image()
            return on_image, change_limit(on_image)

        self.work.start(f"the change of {site.title}", make, lambda case, made: self._put(case, site, made))

    def _put(self, case: Case, site: AttentionSite, made: tuple[Any, float]) -> None:
        comparison = self.comparison
        if comparison is None:
            return
        on_image, limit = made
        before, after = comparison.before, comparison.after
        meta = {
            "site": site.key,
            "kind": "difference",
            "legend": f"{after.name} minus {before.name}: red more, blue less, {_UNITS[site.normalisation]}",
            "comparable_across_tiles": site.comparable_across_tiles,
            "record": made_from(case, before, after),
        }
        title = f"{site.title}, {after.name} minus {before.name}"
        self.overlays.put(case, site.key, title, on_image, (-limit, limit), meta)
        self.work.message.say(f"Shown: {title}, from -{limit:.2g} to {limit:.2g}, {_UNITS[site.normalisation]}.")

    def _others(self, predictor: Predictor | None) -> list[tuple[Checkpoint, list[str]]]:
        """The checkpoints of the same network but the one that is looked into, and how they differ otherwise.

        The newest come first, those that differ last.
        """
        if predictor is None:
            return []
        from napari_medattn.look.before_after import what_differs

        card = predictor.card
        alike = [found for found in self.session.checkpoints if found.card.network == card.network]
        others = [found for found in alike if found.card.weights_sha256 != card.weights_sha256]
        others.sort(key=lambda found: found.card.created, reverse=True)
        listed = [(found, what_differs(card, found.card)) for found in others]
        return sorted(listed, key=lambda pair: bool(pair[1]))

    @property
    def _chosen(self) -> Checkpoint | None:
        found: Checkpoint | None = self.other.currentData()
        return found

    def _forget(self) -> None:
        self.comparison = None
        self.table.fill([])
        self.legend.setText("")

    def _point(self) -> None:
        if self._wanted is not None and self.table.select(lambda change: change.key == self._wanted):
            self._wanted = None

    def _say_order(self, _index: int = 0) -> None:
        predictor, chosen = self.work.predictor, self._chosen
        if predictor is None:
            self.order.setText("Needs a scan and a network that is loaded.")
        elif chosen is None:
            second = "no second checkpoint" if not self.other.count() else "no other checkpoint of the same options"
            self.order.setText(f"There is {second} of {predictor.card.network}: fine-tune this one under Learn.")
        else:
            before, after = _in_order(predictor.card, chosen.card)
            self.order.setText(f"before: {before.name}\nafter: {after.name}")

    def _enable(self) -> None:
        ready = self.session.case is not None and self._chosen is not None
        self.run.setEnabled(ready and not self.work.running)
        self.stop.setEnabled(self.work.running)
        for made in (self.other, self.where):
            made.setEnabled(ready and not self.work.running)


def _in_order(one: Card, other: Card) -> tuple[Card, Card]:
    from napari_medattn.look.before_after import came_first

    return (one, other) if came_first(one, other) else (other, one)


def _columns() -> list[Column]:
    return [
        Column("site", "The network's block and its attention.", lambda found: found.title, lambda found: found.title),
        Column(
            "change", "How much it changed, 0..1.", lambda found: found.value, lambda found: f"{found.value:.4f}", 64
        ),
        Column(
            "by",
            "rows: Jensen-Shannon divergence of what each query attends to; gate: mean difference; cosine: of weights.",
            lambda found: _SHORT[found.measure],
            lambda found: _SHORT[found.measure],
            58,
        ),
    ]


def _tip(found: SiteChange) -> str:
    heads = ", ".join(f"{value:.3f}" for value in found.heads)
    words = [found.title, f"{found.value:.4f}: {found.note}"]
    words += [f"by head: {heads}"] if len(found.heads) > 1 else []
    words += [f"of the map alone: {found.map_value:.4f}"] if found.map_value is not None else []
    return "\n".join(words)
