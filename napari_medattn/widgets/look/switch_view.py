"""Does it matter, by switching off: what to switch off, what became of the mask, and the mask itself."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import Signal
from qtpy.QtWidgets import QComboBox, QLabel, QWidget

from napari_medattn.attention import off_means
from napari_medattn.models import AttentionSite
from napari_medattn.widgets.look.table import Column, RowTable
from napari_medattn.widgets.parts import button, column, row

if TYPE_CHECKING:
    from napari_medattn.inference.placement import Box
    from napari_medattn.look import Scene
    from napari_medattn.look.knock_out import KnockOut, KnockOuts
    from napari_medattn.widgets.session import Session

WHICH = ("this site and its heads", "every site", "every site and every head")


class SwitchView(QWidget):
    """Chooses what is switched off, and lists what that did."""

    wants_mask = Signal(object)  # a KnockOut
    wants_site = Signal(str, object)
    action = "Switch off"
    honest = (
        "Nothing is trained again, so a small effect may only mean that others do the same work. "
        "It is the mask of this place; elsewhere another head may matter."
    )

    def __init__(self) -> None:
        super().__init__()
        self.found: KnockOuts | None = None
        self.which = QComboBox()
        self.which.addItems(WHICH)
        self.which.setAccessibleName("what to switch off")
        self.which.setToolTip("Each is switched off by itself; all heads of a large network take a while.")
        self.table = RowTable(_columns(None), _tip, "what happens without")
        self.mask = button("Show the mask without it", "Add the mask that results without the chosen row, as a layer.")
        self.site = button("Show its map", "Show the chosen row's map on the image.")
        self.words = QLabel()
        self.words.setWordWrap(True)
        self.options = row(QLabel("off"), self.which, stretch=1)
        column(self, self.words, self.table, row(self.mask, self.site, stretch=0)).setContentsMargins(0, 0, 0, 0)
        self.mask.clicked.connect(lambda: self._wants_mask(self.table.current))
        self.table.row_activated.connect(self._wants_mask)
        self.site.clicked.connect(self._wants_site)
        self.table.selectionModel().selectionChanged.connect(lambda *_: self._enable())
        self.forget()

    def why_not(self, site: AttentionSite) -> str:
        """Every site can be switched off."""
        return ""

    def make(
        self,
        scene: Scene,
        frame: int,
        site: AttentionSite,
        head: int | None,
        reference: NDArray[Any] | None,
        asked: Any,
    ) -> Generator[Any, None, KnockOuts]:
        """The work; on the worker thread."""
        from napari_medattn.look.knock_out import knock_out_steps, targets_of

        every = scene.predictor.sites.values()
        targets = {
            WHICH[0]: lambda: targets_of([site]),
            WHICH[1]: lambda: targets_of(every, heads=False),
            WHICH[2]: lambda: targets_of(every),
        }[asked]()
        return knock_out_steps(scene, [frame], targets, reference=reference)

    def asked(self, session: Session) -> Any:
        """What is chosen now."""
        return self.which.currentText()

    def show_result(self, found: KnockOuts) -> None:
        """Fill the table, what moves the mask most first."""
        self.found = found
        self.table.fill(sorted(found.rows, key=lambda one: -one.moved))
        most = max(found.rows, key=lambda one: one.moved)
        if len(found.rows) == 1:
            means = off_means(most.site, most.head)
            first = f"Without {what(most)}, {most.voxels:,} of {found.size:,} voxels change ({means})."
        else:
            first = f"Most changes without {what(most)}: {most.voxels:,} of {found.size:,} voxels."
        if found.reference is not None:
            first += f" With everything on, Dice with the reference is {_foreground(found.reference):.3f}."
        self.words.setText(f"{first} Enter on a row shows the mask without it.")
        self._enable()

    def forget(self) -> None:
        """Show nothing."""
        self.found = None
        self.table.fill([])
        self.words.setText("")
        self._enable()

    def _wants_mask(self, found: KnockOut | None) -> None:
        if found is not None:
            self.wants_mask.emit(found)

    def _wants_site(self) -> None:
        if self.table.current is not None:
            self.wants_site.emit(self.table.current.site.key, self.table.current.head)

    def _enable(self) -> None:
        shown = self.found is not None
        for part in (self.table, self.words, self.mask.parentWidget()):
            part.setVisible(shown)
        chosen = self.table.current
        self.mask.setEnabled(chosen is not None)
        self.site.setEnabled(chosen is not None and chosen.site.spatial)


def what(found: KnockOut) -> str:
    """What was switched off, for people; heads are counted from 1."""
    return found.site.title if found.head is None else f"{found.site.title}, head {found.head + 1}"


def _columns(_: None) -> Sequence[Column]:
    return [
        Column("without", "What was switched off.", what, what),
        Column(
            "Dice",
            "Dice with the mask that everything gives, mean of the classes; with a reference: with the reference.",
            _dice,
            lambda found: _number(_dice(found)),
            52,
        ),
        Column(
            "voxels",
            "Voxels that become another class, on the network's grid.",
            lambda found: found.voxels,
            lambda found: f"{found.voxels:,}",
            58,
        ),
        Column(
            "moved",
            "How much probability changed its class, mean over the voxels, in per mille.",
            lambda found: found.moved,
            lambda found: f"{1000 * found.moved:.3g} ‰",
            62,
        ),
    ]


def _dice(found: KnockOut) -> float | None:
    value = _foreground(found.dice if found.reference is None else found.reference)
    return value if np.isfinite(value) else None


def _foreground(dice: NDArray[np.float64]) -> float:
    """Mean over the classes that are there, the background left out; nan without any."""
    known = dice[1:][np.isfinite(dice[1:])]
    return float(known.mean()) if known.size else float("nan")


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _tip(found: KnockOut) -> str:
    words = [f"{what(found)}: {off_means(found.site, found.head)}"]
    for number in range(1, len(found.dice)):
        value = float(found.dice[number])
        told = f"Dice {value:.3f}" if np.isfinite(value) else "in neither mask"
        words.append(f"class {number}: {told}, {found.changed[number]:,} voxels gained or lost")
    return "\n".join(words)


def mask_of(scene: Scene, frame: int, found: KnockOut) -> Generator[Any, None, tuple[NDArray[np.uint8], Box]]:
    """The mask without it; on the worker thread."""
    from napari_medattn.look.knock_out import Target, mask_without

    yield from ()
    return mask_without(scene, frame, Target(found.site.key, found.head))
