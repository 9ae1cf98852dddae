"""`SideBySide`: the masks of two versions and what differs between them, as layers that are nobody's to work on."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from napari.layers import Labels
from numpy.typing import NDArray
from qtpy.QtCore import QTimer
from qtpy.QtWidgets import QWidget

from napari_medattn.events import Progress
from napari_medattn.layerdata import layer_to_volume, what_if_to_layer
from napari_medattn.widgets.case import Case
from napari_medattn.widgets.jobs import Job, Jobs, Steps
from napari_medattn.widgets.look.layers import remove_present
from napari_medattn.widgets.look.overlays import made_from
from napari_medattn.widgets.parts import MessageLine, ProgressLine, button, column
from napari_medattn.widgets.session import Session

if TYPE_CHECKING:
    from napari_medattn.data import Volume
    from napari_medattn.store import Checkpoint

_SHOW, _HIDE = "Side by side", "Take comparison away"
Mask = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Masks:
    """What two versions make of a scan.

    Attributes:
        before: (Z, Y, X) mask of the one.
        after: (Z, Y, X) mask of the other.
    """

    before: Mask
    after: Mask

    def changed(self, classes: int) -> Mask:
        """(Z, Y, X): the new class where it is another one; ``classes - 1`` more than the old where it is no class."""
        lost = np.where(self.before > 0, self.before + (classes - 1), 0)
        found = np.where(self.after > 0, self.after, lost)
        return np.where(self.before == self.after, 0, found).astype(np.uint8)

    def in_words(self, class_names: tuple[str, ...]) -> str:
        """How many voxels each class gained and lost."""
        differs = self.before != self.after
        if not differs.any():
            return "Both masks are the same."
        size = len(class_names)
        gained = np.bincount(self.after[differs], minlength=size)
        lost = np.bincount(self.before[differs], minlength=size)
        told = [
            f"{name} +{gained[n]:,} -{lost[n]:,}"
            for n, name in enumerate(class_names)
            if n > 0 and (gained[n] or lost[n])
        ]
        return f"{np.count_nonzero(differs):,} voxels differ: {', '.join(told)}."


def masks_steps(volume: Volume, before: Checkpoint, after: Checkpoint, device: str) -> Generator[Progress, None, Masks]:
    """Segment a scan with two checkpoints, one after the other."""
    from napari_medattn.inference import segment_steps

    one = yield from segment_steps(volume, before, device=device)
    other = yield from segment_steps(volume, after, device=device)
    return Masks(one.labels, other.labels)


class SideBySide(QWidget):
    """A button that shows the comparison, and takes it away again; the mask that is worked on stays as it is.

    Args:
        session: The dock's session.
        jobs: The dock's jobs.
    """

    def __init__(self, session: Session, jobs: Jobs) -> None:
        super().__init__()
        self.session, self.jobs = session, jobs
        self.layers: list[Labels] = []
        self._pair: tuple[Checkpoint, Checkpoint] | None = None
        self._case: Case | None = None
        self._job: Job | None = None
        self.button = button(_SHOW, "")
        self.progress, self.message = ProgressLine(), MessageLine()
        column(self, self.button, self.progress, self.message).setContentsMargins(0, 0, 0, 0)
        self.button.clicked.connect(self.press)
        session.images_changed.connect(self._scan_gone)
        session.image_changed.connect(self.refresh)
        self.refresh()

    @property
    def running(self) -> bool:
        """Whether the masks are being made."""
        return self._job is not None

    @property
    def shown(self) -> bool:
        """Whether any layer of the comparison is in the viewer."""
        return any(layer in self.session.viewer.layers for layer in self.layers)

    def offer(self, before: Checkpoint, after: Checkpoint) -> None:
        """Compare these two when the button is pressed; what was shown of others goes."""
        if self._pair != (before, after):
            self.take_away()
            self._pair = (before, after)
        self.refresh()

    def withdraw(self) -> None:
        """Offer nothing."""
        self.take_away()
        self._pair = None
        self.refresh()

    def refresh(self) -> None:
        """Say what the button does now."""
        pair = self._pair
        self.setVisible(pair is not None)
        if pair is None:
            return
        names = f"{pair[0].name} and {pair[1].name}"
        if self.running:
            text, tip = "Cancel", f"Stop making the masks of {names}."
        elif self.shown:
            text, tip = _HIDE, f"Remove the layers that compare {names}; your mask stays as it is."
        else:
            text = _SHOW
            tip = f"Add the masks of {names} and what differs as layers of their own; your mask stays as it is."
        self.button.setText(text)
        self.button.setAccessibleName(text)
        self.button.setToolTip(tip)
        self.button.setEnabled(self.session.case is not None)

    def press(self) -> None:
        """Show the comparison, take it away, or stop making it."""
        if self._job is not None:
            self._job.cancel()
        elif self.shown:
            self.take_away()
        else:
            self.show_masks()

    def show_masks(self) -> None:
        """Make both masks of the current scan in the background, and show them."""
        case, pair = self.session.case, self._pair
        if case is None or pair is None or self.running:
            return
        before, after, device = *pair, self.session.device

        def steps() -> Steps:
            return masks_steps(layer_to_volume(case.image), before, after, device)

        self._case = case
        self.message.say("")
        self._job = self.jobs.start(
            f"comparing {before.name} and {after.name}",
            steps,
            on_event=lambda event: self.progress.follow(event, case.image.name),
            on_done=lambda masks: self._show(case, before, after, masks),
            on_error=self._fail,
            on_cancelled=self._ended,
        )
        self.refresh()

    def take_away(self) -> None:
        """Remove the layers of the comparison, once napari is done with whatever it is doing."""
        if self._job is not None:
            self._job.cancel()
        gone, self.layers, self._case = self.layers, [], None
        self.message.say("")
        if gone:
            QTimer.singleShot(0, partial(remove_present, self.session.viewer.layers, gone))
        self.refresh()

    def _show(self, case: Case, before: Checkpoint, after: Checkpoint, masks: Masks) -> None:
        self._ended()
        if case.image not in self.session.viewer.layers or self._pair != (before, after):
            return
        self.layers = self._add(case, before, after, masks)
        self.message.say(masks.in_words(after.card.class_names))
        self.refresh()

    def _add(self, case: Case, before: Checkpoint, after: Checkpoint, masks: Masks) -> list[Labels]:
        names = after.card.class_names
        changed = (*names, *(f"no longer {name}" for name in names[1:]))
        viewer, made = self.session.viewer, []
        active = viewer.layers.selection.active
        for labels, title, called, cards in (
            (masks.before, f"mask by {before.name}", names, [before.card]),
            (masks.after, f"mask by {after.name}", names, [after.card]),
            (masks.changed(len(names)), f"{before.name} to {after.name}", changed, [before.card, after.card]),
        ):
            whole = tuple(slice(0, size) for size in labels.shape)
            record = made_from(case, *cards)
            data, kwargs, _ = what_if_to_layer(
                labels, (whole[0], whole[1], whole[2]), case.image, called, title, record
            )
            layer = viewer.add_labels(data, **kwargs)
            layer.editable = False
            layer.contour = 0 if called is changed else 1
            made.append(layer)
        viewer.layers.selection.active = active
        return made

    def _fail(self, error: BaseException) -> None:
        self._ended()
        self.message.fail(error)

    def _ended(self) -> None:
        self._job = None
        self.progress.finish()
        self.refresh()

    def _scan_gone(self) -> None:
        """Layers on a scan that was removed go with it; a removed layer of ours changes what the button does."""
        if self._case is not None and self._case.image not in self.session.images:
            self.take_away()
        self.refresh()
