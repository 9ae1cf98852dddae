"""The review queue: the viewer goes from one doubtful slice to the next."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from qtpy.QtGui import QAction
from qtpy.QtWidgets import QLabel, QMenu, QWidget

from napari_medattn.correct.queue import Evidence, Place, Weights
from napari_medattn.events import Progress
from napari_medattn.layerdata import layer_to_volume
from napari_medattn.widgets.case import Case
from napari_medattn.widgets.correct.menu_button import menu_button
from napari_medattn.widgets.correct.place_mark import PlaceMark
from napari_medattn.widgets.jobs import Job, Jobs, Steps
from napari_medattn.widgets.parts import MessageLine, ProgressLine, button, column, row
from napari_medattn.widgets.session import Session

_TIP = "Go to the next slice that is likely wrong (Alt+N)."
_ONE_SLICE = "A 2-D image is one slice: there is no next one."
_EXTRA = 0.25  # weight of each further sign, as it was measured
_MIRRORED = (1, 2)  # axes along which scans are mirrored, as it was measured


class Review(QWidget):
    """Finds the slices that are likely wrong, and shows one after the other.

    Args:
        session: The dock's session.
        jobs: The dock's jobs.
        message: Where to say what happened.
    """

    def __init__(self, session: Session, jobs: Jobs, message: MessageLine) -> None:
        super().__init__()
        self.session, self.jobs, self.message = session, jobs, message
        self.places: tuple[Place, ...] = ()
        self.at = -1
        self._case: Case | None = None
        self._mask: Any = None
        self._evidence: Evidence | None = None
        self._judged: Any = None  # the prediction that the evidence speaks of
        self._job: Job | None = None
        self.mark = PlaceMark(session)
        self.next_button = button("Next doubtful", _TIP)
        self.previous_button = button("Previous", "Go back to the one before (Alt+P).")
        self.done_button = button("Done", "This slice is right now: confirm it and go to the next (Alt+D).")
        self.stop = button("Cancel", "Stop looking for doubtful slices.")
        self.more = menu_button("more", "options of the queue", "What to look for, and whether the place is framed.")
        self.framed, self.mirrored, self.attended = self._options(self.more.menu())
        self.label, self.progress = QLabel(), ProgressLine()
        self.label.setWordWrap(True)
        layout = column(
            self,
            row(self.next_button, self.previous_button, self.done_button, self.more, self.stop, stretch=0),
            self.label,
            self.progress,
        )
        layout.setContentsMargins(0, 0, 0, 0)
        self.next_button.clicked.connect(self.next)
        self.previous_button.clicked.connect(self.previous)
        self.done_button.clicked.connect(self.done)
        self.stop.clicked.connect(self.cancel)
        session.image_changed.connect(self.refresh)
        session.mask_changed.connect(self.refresh)
        self.refresh()

    @property
    def busy(self) -> bool:
        """Whether doubtful slices are being looked for."""
        return self._job is not None

    @property
    def place(self) -> Place | None:
        """The slice that was gone to."""
        return self.places[self.at] if 0 <= self.at < len(self.places) else None

    def refresh(self) -> None:
        """Forget the queue of another mask, and enable what can be used."""
        case = self.session.case
        mask = case.mask if case is not None else None
        if case is not self._case or mask != self._mask:
            self._stop()
            if case is not self._case and case is not None:
                case.image_swapped.connect(self._forget, unique=True)
            self.places, self.at, self._case, self._mask, self._evidence = (), -1, case, mask, None
        volume = mask is not None and mask.ndim == 3
        self.next_button.setEnabled(volume and not self.busy)
        self.next_button.setToolTip(_ONE_SLICE if mask is not None and not volume else _TIP)
        self.more.setEnabled(volume)
        self.previous_button.setEnabled(self.at > 0 and not self.busy)
        self.done_button.setEnabled(self.place is not None and not self.busy)
        self.more.setVisible(not self.busy)  # there is no room for both
        self.stop.setVisible(self.busy)
        place = self.place
        self.label.setVisible(place is not None)
        if place is None or not self.framed.isChecked():
            self.mark.hide(later=True)
        if place is not None:
            self.label.setText(
                f"doubtful {self.at + 1}/{len(self.places)}: slice {place.index}, {place.reason}, "
                f"{place.score:.0%} of all that looks wrong"
            )

    def next(self) -> None:
        """Go to the next place; look for them first if that was not done yet, or all were seen."""
        if self.next_button.isEnabled():
            if self.at + 1 < len(self.places):
                self._go(self.at + 1)
            else:
                self.find()

    def previous(self) -> None:
        """Go back to the place before."""
        if self.at > 0 and not self.busy:
            self._go(self.at - 1)

    def done(self) -> None:
        """Confirm the slice of the queue and go to the next; it does not come back."""
        place, case = self.place, self.session.case
        if place is None or case is None or case.mask is None or self.busy:
            return
        box = tuple(
            slice(place.index, place.index + 1) if axis == place.axis else slice(0, size)
            for axis, size in enumerate(case.mask.data.shape)
        )
        if not case.is_confirmed(box):
            case.confirm(box)
        self.places = (*self.places[: self.at], *self.places[self.at + 1 :])
        if self.at < len(self.places):
            self._go(self.at)
        else:
            self.at = -1
            self.places = ()
            self.refresh()
            self.find()

    def find(self) -> None:
        """Order the slices by what looks wrong now, in the background, and go to the first.

        Where the network's uncertainty is not known yet, the network is run for it.
        """
        case, predictor = self.session.case, self.session.predictor
        if case is None or case.mask is None or case.watch is None or self.busy:
            return
        case.watch.flush()
        labels, log, axis = case.watch.labels, case.watch.log, case.axis_in_view()
        known = self._known(case)
        judged = case.prediction
        own = predictor if predictor is not None and tuple(predictor.card.class_names) == case.scheme else None
        flips = _MIRRORED if self.mirrored.isChecked() else ()
        attended = self.attended.isChecked()
        weights = Weights(disagreement=_EXTRA if flips else 0.0, attention=_EXTRA if attended else 0.0)
        if own is None and known is None and (flips or attended):
            self.message.say("Mirrored runs and attention need the network that made the mask: choose it above.")

        def steps() -> Steps:
            from napari_medattn.correct.queue import evidence_steps, rank

            yield
            evidence = known
            if evidence is None and own is not None:
                site = next((key for key, one in own.sites.items() if one.spatial), None) if attended else None
                volume = layer_to_volume(case.image)
                evidence = yield from evidence_steps(volume, own, flips=flips, attention=site)
            trusted = log.trusted(labels)
            right = _confirmed_slices(log.confirmed(labels), axis) if log.confirmations else []
            yield
            return evidence, rank(labels, evidence, axis=axis, trusted=trusted, done=right, weights=weights)

        def found(outcome: tuple[Evidence | None, tuple[Place, ...]]) -> None:
            if self._job is not job:
                return
            self._ended()
            self._evidence, self.places = outcome
            self._judged, self.at = judged, -1
            if self.places:
                self._go(0)
            else:
                self.refresh()
                self.message.say("No slice looks wrong.")

        def failed(error: BaseException) -> None:
            if self._job is job:
                self._ended()
                self.message.fail(error)

        job = self._job = self.jobs.start(
            "looking for doubtful slices",
            steps,
            on_done=found,
            on_error=failed,
            on_event=lambda event: self._heard(job, event),
        )
        self.refresh()

    def cancel(self) -> None:
        """Stop looking."""
        if self.busy:
            self._stop()
            self.message.say("Cancelled; the queue is as it was.")

    def close(self) -> bool:
        """Let go of the viewer."""
        if self._job is not None:
            self._job.cancel()
        self.mark.close()
        return True

    def _options(self, menu: QMenu) -> tuple[QAction, QAction, QAction]:
        menu.setToolTipsVisible(True)
        made = []
        for text, tip, on, changed in (
            ("Frame the place", "Draw a light frame around where to look first.", True, self._reframe),
            (
                "Also where mirrored runs disagree",
                "Runs the network on the mirrored scan too, twice. Measured: two more runs, and no better an order.",
                False,
                self._forget,
            ),
            (
                "Also attention outside the object",
                "Measured: a little better on one set of scans, no better on another, and alone worse than chance.",
                False,
                self._forget,
            ),
        ):
            action = menu.addAction(text)
            action.setCheckable(True)
            action.setChecked(on)
            action.setToolTip(tip)
            action.toggled.connect(changed)
            made.append(action)
        return made[0], made[1], made[2]

    def _forget(self, event: Any = None) -> None:
        """What was found does not hold any more: the next step looks anew."""
        self._stop()
        self.places, self.at, self._evidence = (), -1, None
        self.refresh()

    def _reframe(self, on: bool) -> None:
        if on and self.place is not None and self._case is not None:
            self.mark.show(self._case, self.place)
        self.refresh()

    def _known(self, case: Case) -> Evidence | None:
        """What is known of the mask's doubts without running the network."""
        assert case.mask is not None
        prediction = case.prediction
        if self._evidence is not None and self._judged is prediction:
            return self._evidence
        more = self.mirrored.isChecked() or self.attended.isChecked()
        if more or prediction is None or prediction.uncertainty is None:
            return None
        fits = prediction.uncertainty.shape == case.mask.data.shape and prediction.class_names == case.scheme
        return Evidence(prediction.uncertainty) if fits else None

    def _heard(self, job: Job, event: Any) -> None:
        if self._job is job and isinstance(event, Progress):
            self.progress.follow(event)

    def _stop(self) -> None:
        if self._job is not None:
            self._job.cancel()
            self._ended()

    def _ended(self) -> None:
        self._job = None
        self.progress.finish()
        self.refresh()

    def _go(self, at: int) -> None:
        self.at = at
        place, case = self.place, self.session.case
        assert place is not None
        assert case is not None
        assert case.mask is not None
        viewer, mask = self.session.viewer, case.mask
        before = (viewer.dims.ndisplay, viewer.dims.order)
        viewer.dims.ndisplay = 2
        ahead = viewer.dims.ndim - mask.ndim
        axis = ahead + place.axis
        if axis in viewer.dims.displayed:
            viewer.dims.order = (*range(ahead), axis, *(n for n in range(ahead, viewer.dims.ndim) if n != axis))
        middle = [(side.start + side.stop - 1) / 2 for side in place.box]
        world = np.zeros(viewer.dims.ndim)
        world[ahead:] = mask.data_to_world(middle)
        viewer.dims.set_point(axis, float(world[axis]))
        turned = before != (viewer.dims.ndisplay, viewer.dims.order)
        if turned or not _in_window(mask, place, [n - ahead for n in viewer.dims.displayed]):
            viewer.scene.camera.center = (0.0, *(float(world[n]) for n in viewer.dims.displayed))
        viewer.layers.selection.active = mask
        if self.framed.isChecked():
            self.mark.show(case, place)
        self.refresh()


def _in_window(mask: Any, place: Place, axes: Sequence[int]) -> bool:
    """Whether the window shows all of a place, so that the view need not jump."""
    low, high = mask.corner_pixels
    return all(low[n] <= place.box[n].start and place.box[n].stop - 1 <= high[n] for n in axes)


def _confirmed_slices(confirmed: Any, axis: int) -> list[int]:
    others = tuple(n for n in range(confirmed.ndim) if n != axis)
    return [int(n) for n in np.flatnonzero(confirmed.all(axis=others))]
