"""One training that ends well: what was learned is kept when numbers or memory run out."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import nn

from napari_medattn.device import is_out_of_memory
from napari_medattn.errors import DivergenceError, TrainingError
from napari_medattn.events import Progress, TrainingStep
from napari_medattn.learning.anchor import anchor
from napari_medattn.learning.ladder import Room, next_rung
from napari_medattn.learning.last_good import LastGood
from napari_medattn.learning.methods import learning_parameters
from napari_medattn.learning.rehearsal import RehearsalSampler
from napari_medattn.learning.statistics import statistics_steps
from napari_medattn.training.examples import TrainingCase
from napari_medattn.training.loop import Event, Scores, TrainingConfig, never, train_steps
from napari_medattn.training.patches import Augmentation


@dataclass(frozen=True, eq=False)
class Lesson:
    """What one training is to do.

    Attributes:
        cases: What to learn from.
        earlier: What to rehearse.
        rehearsal: Share of the patches that are rehearsed.
        method: See `methods.METHODS`.
        anchor: See `LearnPlan.anchor`.
        config: For the training loop; its batch size is where `room` begins.
        earlier_augmentation: How rehearsed patches are varied.
        room: What it may take up.
        stride: Multiples that the network needs along (Z, Y, X).
        spatial_dims: 2 or 3.
    """

    cases: Sequence[TrainingCase]
    earlier: Sequence[TrainingCase]
    rehearsal: float
    method: str
    anchor: float
    config: TrainingConfig
    earlier_augmentation: Augmentation
    room: Room
    stride: tuple[int, int, int]
    spatial_dims: int

    def sampler(self, room: Room) -> RehearsalSampler:
        """Patches of the size that there is room for."""
        how = self.config
        return RehearsalSampler(
            self.cases,
            self.earlier,
            self.rehearsal,
            room.patch,
            self.spatial_dims,
            how.augmentation,
            self.earlier_augmentation,
            how.seed,
        )


@dataclass
class Outcome:
    """How a training ended.

    Attributes:
        room: What it took up in the end.
        steps: How many were taken.
        stopped: Why it ended early; empty if it did not.
        notes: What had to be changed on the way.
    """

    room: Room
    steps: int = 0
    stopped: str = ""
    notes: list[str] = field(default_factory=list)


def attempt_steps(
    model: nn.Module,
    lesson: Lesson,
    validate: Callable[[nn.Module], Scores] | None = None,
    stop: Callable[[], bool] = never,
) -> Generator[Event | Progress, None, Outcome]:
    """Train a network in place by a lesson's method.

    Yields:
        What the training loop yields; a `Progress` where memory ran out.

    Raises:
        TrainingError: If the loss was no number before anything was learned, or memory is not enough for the
            smallest batch on the CPU.
    """
    learning = learning_parameters(lesson.method, model)
    penalty = anchor(model, lesson.anchor, learning) if lesson.anchor and lesson.method != "statistics" else None
    outcome, began = Outcome(lesson.room), time.monotonic()
    while True:
        sampler, room, offset = lesson.sampler(outcome.room), outcome.room, outcome.steps
        config = replace(lesson.config, batch_size=room.batch)
        if config.seconds is not None:
            config = replace(config, seconds=max(config.seconds - (time.monotonic() - began), 0.1))
        guard = LastGood(model)
        steps: Generator[Event, None, None]
        if lesson.method == "statistics":
            steps = statistics_steps(model, sampler, config, room.device, stop)
        else:
            steps = train_steps(
                model, sampler, config, room.device, validate, trainable=learning, penalty=penalty, stop=stop
            )
        try:
            for event in steps:
                if isinstance(event, TrainingStep):
                    guard.passed()
                    outcome.steps = offset + event.step
                yield replace(event, step=offset + event.step)
            return outcome
        except DivergenceError as error:
            _keep_last_good(guard, sampler, outcome, error)
            return outcome
        except (RuntimeError, MemoryError) as error:
            outcome.room, note = _smaller(lesson, room, error)
        finally:
            steps.close()
        outcome.notes.append(note)
        _forget_gradients(model)
        yield Progress(note.rstrip("."), 0, 0)


def _keep_last_good(guard: LastGood, sampler: RehearsalSampler, outcome: Outcome, error: DivergenceError) -> None:
    device = next(guard.model.parameters()).device
    kept = guard.recover(sampler.batch(1)[0].to(device))
    if not kept:
        raise error
    outcome.stopped = f"{error.problem.split(';')[0]}; the weights of step {kept} were kept."


def _smaller(lesson: Lesson, room: Room, error: BaseException) -> tuple[Room, str]:
    if not is_out_of_memory(error):
        raise error
    rung = next_rung(room, lesson.stride)
    if rung is None:
        raise TrainingError(
            f"Memory is not enough to learn from one patch of {room.patch} voxels.",
            "Close other programs, or choose a smaller network.",
        ) from error
    return rung


def _forget_gradients(model: nn.Module) -> None:
    """Free what the failed step left on the device."""
    for parameter in model.parameters():
        parameter.grad = None
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
