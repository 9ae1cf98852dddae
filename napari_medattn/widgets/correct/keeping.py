"""`Keeper`: puts every mask that is worked on under a journal, and finds work that was never saved.

Whatever takes time (telling which scan it is, writing the mask that a journal starts from, reading a journal again)
runs in jobs; a stroke itself is written at once, where the log hears of it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from napari.layers import Labels
from psygnal import Signal

from napari_medattn.errors import InputError, MedAttnError, SaveError
from napari_medattn.layerdata import KEY, labels_to_layer, layer_place
from napari_medattn.store.edits import EditLog
from napari_medattn.store.journal import Journal, State
from napari_medattn.store.journal_header import Header
from napari_medattn.store.journals import forget, free_path, in_use, sweep, unsaved_work
from napari_medattn.store.replay import Replayed, Unsaved, replay
from napari_medattn.store.scan_id import scan_id
from napari_medattn.widgets.case import Case
from napari_medattn.widgets.correct.classes import Classes
from napari_medattn.widgets.correct.open_journals import Kept, OpenJournals
from napari_medattn.widgets.jobs import Jobs, Steps
from napari_medattn.widgets.session import Session

_ELSEWHERE = "This mask is open elsewhere too: what you do here is kept apart from that."
_SWAPPED = (
    "The layer shows another scan now: edits until here stay with the one before, the mask goes on with this one."
)


@dataclass(eq=False)
class _Known:
    """What is known of a case."""

    scan: str | None = None
    offers: list[Unsaved] = field(default_factory=list)
    before: str | None = None  # the scan that its layer showed before another was put into it


class Keeper:
    """Keeps the masks of one session on disk.

    Args:
        session: The dock's session.
        jobs: The dock's jobs.
    """

    changed = Signal()  # offers, or what is safe
    said = Signal(str)
    failed = Signal(object)  # an error, told once

    def __init__(self, session: Session, jobs: Jobs) -> None:
        self.session, self.jobs, self.journals = session, jobs, OpenJournals(jobs)
        self._cases: dict[Case, _Known] = {}
        self._returning: EditLog | None = None  # of the mask that is being brought back, not yet a case's own
        self.journals.changed.connect(self.changed.emit)
        self.journals.said.connect(self.said.emit)
        self.journals.failed.connect(self.failed.emit)
        session.image_changed.connect(self.attend)
        session.images_changed.connect(self._prune)
        session.mask_changed.connect(self.attend)
        session.edits_changed.connect(self._follow_log)
        self.attend()

    def attend(self) -> None:
        """See to the case at hand: tell which scan it is, look for unsaved work, keep its mask."""
        self._prune()
        case = self.session.case
        if case is None:
            self.changed.emit()
        elif case not in self._cases:
            self._know(case)
        else:
            self._keep(case)

    @property
    def offers(self) -> list[Unsaved]:
        """Unsaved work on the scan at hand, newest first."""
        known = self._cases.get(self.session.case) if self.session.case is not None else None
        if known is None or self.session.case is None:
            return []
        recorders = [watch.log.recorder for _, watch in self.session.case.masks.values()]
        mine = {recorder.path for recorder in recorders if isinstance(recorder, Journal)}
        return [offer for offer in known.offers if offer.path not in mine]

    @property
    def status(self) -> str:
        """What of the mask at hand is safe on disk, in a few words."""
        journal = self.journal
        if journal is None:
            return ""
        if journal.state is State.BROKEN:
            return "NOT safe on disk"
        if journal.state is not State.OPEN or journal.written is None:
            return "being put on disk"
        return f"safe on disk {clock(journal.written)}"

    @property
    def journal(self) -> Journal | None:
        """The journal of the mask at hand."""
        case = self.session.case
        return None if case is None or case.watch is None else self.journals.of(case.watch.log)

    def saving(self) -> Callable[[], None]:
        """To be called when the mask at hand is about to be saved; what it returns, when that is done."""
        case = self.session.case
        return (lambda: None) if case is None or case.watch is None else self.journals.saving(case.watch.log)

    def bring_back(self, offer: Unsaved) -> None:
        """Show the mask that a journal leads to, with its undo steps, and go on with that journal."""
        case, known = self.session.case, self._cases.get(self.session.case) if self.session.case else None
        if case is None or known is None or known.scan is None:
            return
        if not self._may_replace(case, offer):
            self.said.emit("The mask in view has edits of its own: save it and remove its layer first.")
            return
        scan, image = known.scan, case.image
        journal = Journal(offer.path, offer.header, self.journals.trouble)

        def steps() -> Steps:
            yield
            journal.claim()
            try:
                offer.header.check(scan, layer_place(image).grid)
                return replay(offer.path)
            except MedAttnError:
                journal.close()
                raise

        def failed(error: BaseException) -> None:
            self.failed.emit(error)
            if case in self._cases:
                self._look_again(case)

        known.offers = [other for other in known.offers if other is not offer]  # once is enough
        self.changed.emit()
        self.jobs.start(
            "bringing edits back",
            steps,
            on_done=lambda found: self._show(case, offer, journal, found),
            on_error=failed,
        )

    def forget(self, offer: Unsaved) -> None:
        """Offer a journal no more."""
        try:
            forget(offer.path)
        except OSError as error:
            self.failed.emit(SaveError(f"{offer.path} could not be written: {error.strerror}.", "Delete it by hand."))
            return
        for known in self._cases.values():
            known.offers = [other for other in known.offers if other.path != offer.path]
        self.changed.emit()

    def close(self) -> None:
        """Let go of all journals; what they hold stays."""
        self.journals.close()

    # -- which scan, and what of it was not saved

    def _know(self, case: Case) -> None:
        if case not in self._cases:
            case.image_swapped.connect(partial(self._swapped, case))
            self._cases[case] = _Known()
        known, image = self._cases[case], case.image
        try:
            grid = layer_place(image).grid
        except InputError:
            return

        def steps() -> Steps:
            yield
            scan = scan_id(image.data, grid)
            yield
            sweep()
            return scan, unsaved_work(scan)

        def done(found: tuple[str, list[Unsaved]]) -> None:
            if self._cases.get(case) is not known:
                return
            known.scan, known.offers = found
            if known.before not in (None, known.scan):
                self._part(case)
            self._keep(case)
            self.changed.emit()

        self.jobs.start("looking for unsaved edits", steps, on_done=done, on_error=self.failed.emit, quiet=True)

    def _swapped(self, case: Case) -> None:
        """The layer may show another scan now: nothing that is done from here on belongs to the one before."""
        known = self._cases.get(case)
        if known is None:
            return
        masks = [mask for mask, _ in case.masks.values() if _lies_on(mask, case)]
        self.journals.let_go(lambda kept: any(kept.mask == mask for mask in masks))
        self._cases[case] = _Known(before=known.scan or known.before)
        self._know(case)
        self.changed.emit()

    def _part(self, case: Case) -> None:
        """The scan in the layer is another one: masks that lie on it get journals of their own."""
        for mask, watch in case.masks.values():
            if isinstance(watch.log.recorder, Journal) and _lies_on(mask, case):
                watch.log.recorder = None
                self.said.emit(_SWAPPED)

    def _look_again(self, case: Case) -> None:
        known = self._cases[case]
        scan = known.scan
        if scan is None:
            return

        def steps() -> Steps:
            yield
            return unsaved_work(scan)

        def done(found: list[Unsaved]) -> None:
            known.offers = found
            self.changed.emit()

        self.jobs.start("looking for unsaved edits", steps, on_done=done, on_error=self.failed.emit, quiet=True)

    # -- keeping

    def _keep(self, case: Case) -> None:
        """Put the case's masks under journals, those that are under none."""
        scan = self._cases[case].scan
        for names, (mask, watch) in case.masks.items() if scan is not None else ():
            under = self.journals.of(watch.log)
            if under is not None:
                under.call_classes(Classes(mask).to_plain())
            if scan is None or under is not None or not _lies_on(mask, case):
                continue
            journal = watch.log.recorder
            if not isinstance(journal, Journal):  # else the dock was closed, and goes on where it was
                if in_use(scan, names):
                    self.said.emit(_ELSEWHERE)
                record = mask.metadata[KEY].get("record", {})
                header = Header.of(scan, layer_place(case.image).grid, watch.labels, names, record)
                journal = Journal(free_path(scan, names), header)
            self.journals.begin(mask, journal, watch.log)

    def _follow_log(self) -> None:
        """A mask of another shape has another log; the old one's journal keeps what it holds."""
        case = self.session.case
        if case is not None and case.watch is not None and self.journals.of(case.watch.log) is None:
            self.attend()

    def _prune(self) -> None:
        """Let go of journals whose mask is gone; their work is offered back."""
        layers = self.session.viewer.layers
        logs = [watch.log for case in self._cases for _, watch in case.masks.values()]

        def gone(kept: Kept) -> bool:
            if kept.log is self._returning:
                return False
            return kept.mask not in layers or not any(kept.log is log for log in logs)

        were_any = self.journals.let_go(gone)
        for case in [case for case in self._cases if case.image not in layers]:
            del self._cases[case]
        if were_any and self.session.case in self._cases:
            self._look_again(self.session.case)

    # -- bringing back

    @staticmethod
    def _may_replace(case: Case, offer: Unsaved) -> bool:
        """Whether no mask of these classes holds work that would be put aside."""
        found = case.masks.get(offer.header.class_names)
        return found is None or not (found[1].log.edited_count or found[1].log.confirmations)

    def _show(self, case: Case, offer: Unsaved, journal: Journal, found: Replayed) -> None:
        if case not in self._cases or not self._may_replace(case, offer):
            journal.close()
            if case in self._cases:
                self._look_again(case)
            return
        names, header = offer.header.class_names, found.header
        if names in case.masks:
            self.session.viewer.layers.remove(case.masks[names][0])
        record = {**header.made_by, "image": case.image.name}
        data, kwargs, _ = labels_to_layer(found.labels, names, case.image, record)
        kwargs["metadata"][KEY]["edits"] = found.log
        layer = Labels(data, **kwargs)
        layer.contour = 1
        # The log has its journal before anybody sees the layer, else it would be given another one.
        self.journals.resume(layer, journal, found.log, found.end)
        self._returning = found.log
        try:
            self.session.viewer.add_layer(layer)
            if found.classes:
                Classes(layer).take(found.classes)
            case.adopt(layer)
        finally:
            self._returning = None
        lost = " What was being written when it ended is lost." if found.torn else ""
        self.said.emit(f"Brought back: {describe(offer)}.{lost}")
        self.changed.emit()


def describe(offer: Unsaved) -> str:
    """Unsaved work in a few words, e.g. "17 edits of 14:02"."""
    parts = [(offer.edits, "edit"), (offer.confirmations, "confirmation")]
    words = [f"{count:,} {word}{'' if count == 1 else 's'}" for count, word in parts if count]
    return f"{' and '.join(words) or 'changes'} of {clock(offer.last)}"


def clock(when: float) -> str:
    """A moment for people: the time of day, with the date if it was not today."""
    then, now = time.localtime(when), time.localtime()
    return time.strftime("%H:%M" if then[:3] == now[:3] else "%d %b %H:%M", then)


def _lies_on(mask: Labels, case: Case) -> bool:
    """Whether a mask has the shape of the scan that its image layer shows, and is an array that can be kept."""
    try:
        grid = layer_place(case.image).grid
    except InputError:
        return False
    return grid.shape[-mask.ndim :] == mask.data.shape and isinstance(mask.data, np.ndarray)
