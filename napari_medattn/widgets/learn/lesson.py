"""Learning as the window asks for it: which cases are learned, rehearsed and scored, and what becomes current."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_medattn.data import Example
from napari_medattn.device import leaving_a_core
from napari_medattn.errors import InputError, MedAttnError
from napari_medattn.events import Progress
from napari_medattn.layerdata import layer_place
from napari_medattn.store.checkpoints import Checkpoint
from napari_medattn.store.examples import Entry, ExampleStore
from napari_medattn.store.scan_id import scan_id
from napari_medattn.store.training_record import TrainingRecord
from napari_medattn.store.versions import Versions
from napari_medattn.widgets.learn.teaching import Taught, Vouched, taught_cases

if TYPE_CHECKING:
    from napari_medattn.learning.learned import Learned

MOST_EARLIER = 16  # cases that are read to be rehearsed, so that a large store neither fills the memory nor takes long


@dataclass(frozen=True, eq=False)
class Lesson:
    """What was asked for when Learn was pressed.

    Attributes:
        checkpoint: The network to go on from.
        device: As it was chosen.
        plan: Arguments of a `LearnPlan`.
        present: The open case's corrections, if it has some.
        store: The stored cases.
        anyway: Whether to learn although something looks unlike what the network was trained on.
    """

    checkpoint: Checkpoint
    device: str
    plan: dict[str, Any]
    present: Vouched | None
    store: ExampleStore
    anyway: bool = False


@dataclass(frozen=True)
class Question:
    """Learning has not begun, because an example looks unlike what the network was trained on."""

    lesson: Lesson
    problem: str


@dataclass(frozen=True)
class Roles:
    """What the stored cases are used for.

    Attributes:
        new: To learn from.
        earlier: To rehearse, because the network has learned from them before.
        scored: To be scored on only.
    """

    new: tuple[Entry, ...]
    earlier: tuple[Entry, ...]
    scored: tuple[Entry, ...]

    @classmethod
    def of(cls, taught: Sequence[Taught], known: frozenset[str], open_scan: str) -> Roles:
        """Share out the stored cases.

        Args:
            taught: What is in the store.
            known: Names of the examples that the network or those it comes from learned from.
            open_scan: The scan that is learned from as it is now, so no stored case of it is; empty if there is none.
        """
        used = [one for one in taught if one.used and not (open_scan and one.entry.scan == open_scan)]
        scored = tuple(one.entry for one in used if one.scored and one.entry.name not in known)
        others = [one.entry for one in used if one.entry not in scored]
        new = tuple(entry for entry in others if entry.name not in known)
        earlier = tuple(entry for entry in others if entry.name in known)
        if not new and not open_scan:  # nothing new: all of it once more
            new, earlier = earlier, ()
        return cls(new, earlier[-MOST_EARLIER:], scored)


def lesson_steps(lesson: Lesson, stop: Callable[[], bool]) -> Generator[Any, None, Learned | Question]:
    """Read the cases, learn, and make a version current that is not worse; runs on the worker thread.

    Args:
        lesson: What was asked for.
        stop: Whether to stop early and keep what was learned.

    Yields:
        What `learn_steps` yields, and progress of reading.

    Returns:
        What came of it, or a question that has to be answered first.
    """
    from napari_medattn.learning.fitting import check_fit
    from napari_medattn.learning.learn import LearnPlan, learn_steps

    yield Progress("reading the cases", 0, 0)
    card, present = lesson.checkpoint.card, lesson.present
    open_scan = ""
    if present is not None:
        image = present.case.image
        open_scan = scan_id(image.data, layer_place(image).grid)
    taught = taught_cases(lesson.store, card.class_names)
    roles = Roles.of(taught, learned_before(lesson.checkpoint), open_scan)
    new = yield from _read_steps(lesson.store, roles.new)
    if present is not None:
        example = present.example()
        told = {"scan": open_scan, **_name_in_store(lesson.store, example, taught, open_scan)}
        new.append(replace(example, provenance={**example.provenance, **told}))
    earlier = yield from _read_steps(lesson.store, roles.earlier)
    scored = yield from _read_steps(lesson.store, roles.scored)
    if not lesson.anyway:
        try:
            check_fit(card, [*new, *earlier, *scored])
        except InputError as error:
            return Question(lesson, error.problem)
    plan = LearnPlan(**lesson.plan, accept_mismatch=lesson.anyway)
    with leaving_a_core():
        learned = yield from learn_steps(
            lesson.checkpoint, new, earlier=earlier, held_out=scored, plan=plan, device=lesson.device, stop=stop
        )
    if not learned.verdict.may_become_current:
        return learned
    try:
        Versions().make_current(learned.checkpoint)
    except MedAttnError as error:  # what was learned is saved all the same
        return replace(learned, notes=(*learned.notes, f"Other windows will not find it in use: {error}"))
    return learned


def learned_before(checkpoint: Checkpoint) -> frozenset[str]:
    """Names of the stored examples that a checkpoint, or one that it comes from, learned from."""
    line = {version.checkpoint.path: version for version in Versions().line(checkpoint)}
    names: set[str] = set()
    one: Checkpoint | None = checkpoint
    while one is not None:
        record = TrainingRecord.of(one.card)
        names.update(record.examples if record is not None else ())
        version = line.get(one.path)
        one = version.parent if version is not None else None
    return frozenset(names)


def _read_steps(store: ExampleStore, entries: Sequence[Entry]) -> Generator[Progress, None, list[Example]]:
    found = []
    for count, entry in enumerate(entries):
        yield Progress("reading the cases", count, len(entries), "cases")
        found.append(_named(store.combined(entry)[0], entry))
    return found


def _named(example: Example, entry: Entry) -> Example:
    """The example with the name that a version's card calls it by."""
    return replace(example, provenance={**example.provenance, "example": entry.name})


def _name_in_store(store: ExampleStore, example: Example, taught: Sequence[Taught], scan: str) -> dict[str, str]:
    """The name of the open case's corrections, if they were kept just as they are."""
    for one in taught:
        if one.entry.scan == scan and one.entry.shape == example.labels.shape:
            stored, counts = store.load(one.entry), example.counts()
            same = np.array_equal(stored.counts(), counts)
            if same and np.array_equal(stored.labels[counts], example.labels[counts]):
                return {"example": one.entry.name}
    return {}
