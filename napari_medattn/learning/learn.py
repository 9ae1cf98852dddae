"""Learn from corrections, and find out whether that made the network better."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Generator, Sequence

from napari_medattn.data import Example
from napari_medattn.events import Progress, TrainingStep, Validation, run_to_end
from napari_medattn.inference import Predictor
from napari_medattn.learning.exam import Exam
from napari_medattn.learning.keep import Verdict, judge
from napari_medattn.learning.learned import Learned
from napari_medattn.learning.material import SCORING_SHARE, gather_steps
from napari_medattn.learning.methods import METHODS, Method, check_method
from napari_medattn.learning.plan import LearnPlan, default_seconds
from napari_medattn.learning.scoring import Scores
from napari_medattn.learning.task import Task, known_dice
from napari_medattn.learning.version import save_version
from napari_medattn.store import Checkpoint
from napari_medattn.store.checkpoints import check_name
from napari_medattn.training.loop import Event, never

__all__ = [
    "METHODS",
    "LearnPlan",
    "Learned",
    "Method",
    "Scores",
    "Verdict",
    "check_method",
    "default_seconds",
    "learn",
    "learn_steps",
]


def learn(
    checkpoint: Checkpoint,
    examples: Sequence[Example],
    *,
    earlier: Sequence[Example] = (),
    held_out: Sequence[Example] = (),
    plan: LearnPlan | None = None,
    name: str = "",
    device: str = "auto",
) -> Learned:
    """`learn_steps`, run to its end."""
    return run_to_end(
        learn_steps(checkpoint, examples, earlier=earlier, held_out=held_out, plan=plan, name=name, device=device)
    )


def learn_steps(
    checkpoint: Checkpoint,
    examples: Sequence[Example],
    *,
    earlier: Sequence[Example] = (),
    held_out: Sequence[Example] = (),
    plan: LearnPlan | None = None,
    name: str = "",
    device: str = "auto",
    stop: Callable[[], bool] = never,
) -> Generator[Progress | TrainingStep | Validation, None, Learned]:
    """Train a checkpoint further on examples, score it before and after, and save it as a new version.

    Args:
        checkpoint: The parent; it is left as it is.
        examples: What to learn from, oldest first; only voxels with a weight above 0 count.
        earlier: Examples of before, oldest first, to be rehearsed and to see what is forgotten.
        held_out: Examples to be scored on only; without them, corrections are held back in folds.
        plan: How to learn; `LearnPlan` as it is if None.
        name: Name of the new version; derived from the parent's if empty.
        device: ``"auto"``, ``"cpu"``, ``"cuda:N"`` or ``"mps"``.
        stop: Asked after every step whether to stop here, keep what was learned, score and save it.

    Yields:
        `Progress` while preparing, scoring and trying folds; a `TrainingStep` per step of the training that is kept;
        a `Validation` now and then where examples are held out, the first before any step. Closing the generator
        saves nothing.

    Raises:
        TrainingError: If no voxel counts, or nothing could be learned.
        InputError: If an image does not fit the network, or the network has nothing for the method.
        CheckpointError: If the name is none for a file.
        SaveError: If the version cannot be written; nothing half-written is left.
    """
    yield Progress("preparing", 0, 0)
    began, plan = time.monotonic(), plan or LearnPlan()
    if name:
        check_name(name)
    task = yield from _begin_steps(checkpoint, examples, earlier, held_out, plan, device)
    before = task.marks
    if before.held_out is not None:
        yield Validation(0, 0, known_dice(before.held_out, before.held_out))
    yield from task.train_steps(stop)
    after = yield from task.exam.steps(task.model)
    if before.held_out is not None and after.held_out is not None:
        yield Validation(task.outcome.steps, 0, known_dice(before.held_out, after.held_out))
        tried: tuple[Scores | None, Scores | None] = before.held_out, after.held_out
    else:
        tried = yield from task.fold_steps(never if stop() else stop)
    yield Progress("saving", 0, 0)
    learned = Learned(
        checkpoint,
        *tried,
        before.earlier,
        after.earlier,
        agreement=(before.learned.agreement, after.learned.agreement),
        verdict=judge(*tried, before.earlier, after.earlier),
        folds=0 if before.held_out is not None or tried[0] is None else len(task.folds),
        steps=task.outcome.steps,
        stopped=task.outcome.stopped,
        notes=task.notes,
    )
    return save_version(learned, task, name, time.monotonic() - began)


def _begin_steps(
    checkpoint: Checkpoint,
    examples: Sequence[Example],
    earlier: Sequence[Example],
    held_out: Sequence[Example],
    plan: LearnPlan,
    device: str,
) -> Generator[Progress | Event, None, Task]:
    """Prepare everything, score the parent, and share out the time."""
    began = time.monotonic()
    _load_libraries()
    model = checkpoint.build()
    check_method(plan.method, model)
    predictor = Predictor.load(checkpoint, device)
    seconds = default_seconds(checkpoint.card, predictor.device) if plan.seconds is None else plan.seconds
    material = yield from gather_steps(predictor, examples, earlier, held_out, plan, seconds)
    exam = Exam(
        checkpoint.card,
        predictor.device,
        learned=[part.reference(by_slice=True) for part in material.new],
        held_out=[part.reference() for part in material.held_out],
        earlier=[part.reference() for part in material.earlier],
        limit=SCORING_SHARE * seconds,
    )
    marks = yield from exam.steps(model)
    spent = time.monotonic() - began
    return Task(checkpoint, plan, predictor.stride, material, exam, marks, model, seconds, spent)


def _load_libraries() -> None:
    """Load now what training and scoring need, so that the time it takes once is not taken for theirs."""
    importlib.import_module("monai.transforms")
    importlib.import_module("torch._dynamo")  # what an optimiser loads when it is made
