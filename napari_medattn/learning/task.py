"""`Task`: the training that is kept, and those that only tell how good it is, with the time shared out among them."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Generator
from dataclasses import replace

from torch import nn

from napari_medattn.errors import TrainingError
from napari_medattn.events import Progress, TrainingStep, run_to_end
from napari_medattn.learning.adapters import merge_adapters
from napari_medattn.learning.attempt import Lesson, Outcome, attempt_steps
from napari_medattn.learning.exam import Exam, Marks
from napari_medattn.learning.held_back import Counts, cut_folds
from napari_medattn.learning.keep import FEWEST_VOXELS
from napari_medattn.learning.ladder import Room
from napari_medattn.learning.leeway import anchor_for, go_back, leeway, rehearsal_for
from napari_medattn.learning.material import Material
from napari_medattn.learning.own import own_augmentation
from napari_medattn.learning.plan import LearnPlan, tuning_config
from napari_medattn.learning.scoring import Scores, Tally
from napari_medattn.store import Checkpoint
from napari_medattn.training.loop import Event, TrainingConfig

FOLD_SHARE = 0.4  # of the training time, for all folds together; half of it at full leeway
VALIDATION_SHARE = 0.15  # of the training time
_SAVING = 0.3  # seconds
_FAR_OFF = 0.6  # Dice, below which people are told
Pair = tuple[Scores | None, Scores | None]


class Task:
    """One learning, from the parent's scores to the last fold.

    Args:
        checkpoint: The parent.
        plan: How to learn.
        stride: Multiples that the network needs along (Z, Y, X).
        material: What there is to learn from.
        exam: What the networks are asked.
        marks: The parent's scores.
        model: The parent's network; it becomes the new version.
        seconds: The whole budget.
        spent: What is gone of it.

    Attributes:
        folds: For each fold, for each new example, the voxels that are held back.
        fold_share: The part of the training time that goes into folds.
        leeway: See `leeway.leeway`; 0 where somebody said how to train, or few weights learn.
        rehearsal: See `LearnPlan`; what is really done.
        anchor: Likewise.
        outcome: How the training that is kept ended.
        trained: Seconds that it took.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        plan: LearnPlan,
        stride: tuple[int, int, int],
        material: Material,
        exam: Exam,
        marks: Marks,
        model: nn.Module,
        seconds: float,
        spent: float,
    ) -> None:
        self.checkpoint, self.plan, self.stride, self.material = checkpoint, plan, stride, material
        self.exam, self.marks, self.model = exam, marks, model
        self.folds: list[list[Counts]] = []
        if marks.held_out is None:
            new = material.new
            axes = [part.prepared.turn.order[0] for part in new]
            self.folds = cut_folds([part.example.counts() for part in new], axes, plan.folds)
        self._more_notes: list[str] = []
        self.trained = 0.0
        card, asked = checkpoint.card, exam.seconds + (exam.learned_seconds if self.folds else 0.0)
        left = max(seconds - spent - asked - _SAVING, seconds / 2)
        agreement, dice = marks.learned.agreement, marks.learned.mean_dice(FEWEST_VOXELS)
        chosen = plan.config is None and plan.learning_rate is None and plan.method in ("whole", "decoder")
        rehearsing = bool(material.earlier) and plan.rehearsal != 0
        self.leeway = leeway(agreement, dice, rehearsing) if chosen else 0.0
        self.rehearsal = rehearsal_for(self.leeway) if plan.rehearsal is None else plan.rehearsal
        self.anchor = anchor_for(self.leeway) if plan.anchor is None else plan.anchor
        if self.leeway > 0.5 and dice < _FAR_OFF:
            self._more_notes.append(f"The network was far off here (Dice {dice:.2f}), so larger changes were allowed.")
        # A copy of the largest network takes hundreds of megabytes: only where something goes back to it.
        self.start = copy.deepcopy(model) if self.folds or self.leeway else model
        self.fold_share = FOLD_SHARE * (1 - self.leeway / 2) if self.folds else 0.0
        left *= 1 - self.fold_share
        self.config = tuning_config(plan, card, exam.device, left, agreement, self.leeway, rehearsing)
        z, y, x = (-(-side // step) * step for side, step in zip(card.tile, stride, strict=True))
        self.outcome = Outcome(Room(self.config.batch, (z, y, x), exam.device))

    @property
    def notes(self) -> tuple[str, ...]:
        """What had to be decided or changed, one sentence each."""
        return (*self.material.notes, *self.outcome.notes, *self.exam.notes, *self._more_notes)

    def train_steps(self, stop: Callable[[], bool]) -> Generator[Event | Progress, None, None]:
        """The training that is kept: `model` learns from everything."""
        began, config, validate = time.monotonic(), self.config, None
        held_out = self.marks.held_out
        if held_out is not None and known_dice(held_out, held_out):
            seconds = math.inf if config.seconds is None else VALIDATION_SHARE * config.seconds
            often = int(min(seconds / max(self.exam.seconds, 0.01), config.validations))
            config = replace(config, validations=often)
            validate = self._validate if often else None
        self.outcome = yield from attempt_steps(self.model, self._lesson(config), validate, stop)
        go_back(merge_adapters(self.model), self.start, self.leeway)
        self.trained = time.monotonic() - began

    def fold_steps(self, stop: Callable[[], bool]) -> Generator[Progress, None, Pair]:
        """Networks that learned from a part of the corrections, scored on the rest; (None, None) if that fails."""
        if not self.folds:
            return None, None
        tally, config = Tally(self.checkpoint.card.class_names), self._fold_config()
        for number, held_back in enumerate(self.folds, start=1):
            model, began = copy.deepcopy(self.start), time.monotonic()
            stage = f"trying on what was held back, {number} of {len(self.folds)}"
            lesson = self._lesson(config, held_back)
            try:
                for event in attempt_steps(model, lesson, None, stop):
                    told = event.progress if isinstance(event, TrainingStep) else event
                    if isinstance(told, Progress):
                        yield replace(told, stage=stage, seconds=time.monotonic() - began)
            except TrainingError as error:
                self._more_notes.append(f"What was held back could not be scored: {error.problem}")
                return None, None
            if stop():
                self._more_notes.append("It was stopped before what was held back could be scored.")
                return None, None
            pairs = zip(self.material.new, held_back, strict=True)
            references = [part.reference(counts, by_slice=True) for part, counts in pairs if counts.any()]
            go_back(merge_adapters(model), self.start, self.leeway)
            yield from self.exam.tally_steps(model, references, tally)
        return self.marks.learned, tally.scores()

    def _fold_config(self) -> TrainingConfig:
        """The training that is kept, in small: every part of it takes its share of a fold's time."""
        config = self.config
        if config.seconds is None:
            return config
        share = self.fold_share / (1 - self.fold_share) / len(self.folds)
        recipe = replace(config.recipe, warm_up_steps=round(config.recipe.warm_up_steps * share))
        return replace(config, seconds=min(config.seconds, self.trained) * share, recipe=recipe)

    def _lesson(self, config: TrainingConfig, held_back: list[Counts] | None = None) -> Lesson:
        classes, material = len(self.checkpoint.card.class_names), self.material
        left_out: list[Counts | None] = list(held_back) if held_back else [None] * len(material.new)
        return Lesson(
            [part.case(classes, counts) for part, counts in zip(material.new, left_out, strict=True)],
            [part.case(classes) for part in material.earlier],
            self.rehearsal,
            self.plan.method,
            self.anchor,
            config,
            own_augmentation(self.checkpoint.card),
            self.outcome.room,
            self.stride,
            self.checkpoint.card.spatial_dims,
        )

    def _validate(self, model: nn.Module) -> dict[str, float]:
        assert self.marks.held_out is not None
        scores = run_to_end(self.exam.score_steps(model, self.exam.held_out))
        return known_dice(self.marks.held_out, scores)


def known_dice(before: Scores, scores: Scores) -> dict[str, float]:
    """The Dice of the classes that the parent or the reference has; 1 where a class is gone from both masks."""
    found = {name: scores.dice[name] for name, old in before.dice.items() if not math.isnan(old)}
    return {name: 1.0 if math.isnan(value) else value for name, value in found.items()}
