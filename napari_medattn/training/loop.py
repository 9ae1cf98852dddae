"""The training loop: reads top to bottom, yields an event after every step, and can be left at each of them."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from napari_medattn.errors import TrainingError
from napari_medattn.events import Progress, TrainingStep, Validation
from napari_medattn.models import Recipe, TrainingOutputs, training_outputs
from napari_medattn.models.folding import check_trainable
from napari_medattn.training.losses import divergence, network_loss
from napari_medattn.training.optimiser import Schedule, make_optimiser
from napari_medattn.training.patches import Augmentation, PatchSampler

GRADIENT_LIMIT = 12.0
Event = TrainingStep | Validation
Scores = dict[str, float]


def never() -> bool:
    """Not to be stopped."""
    return False


@dataclass(frozen=True)
class TrainingConfig:
    """How long and with what.

    Attributes:
        epochs: Passes over the cases (one patch per case and pass); give this or ``seconds``.
        seconds: Time budget.
        batch_size: Patches per step; the recipe's if None.
        recipe: Loss, optimiser and schedule.
        augmentation: How patches are varied.
        seed: Everything random follows from it.
        precision: ``"fp32"``, or ``"bf16"`` for autocast on a GPU. On the CPU, oneDNN's bfloat16 gradients of
            3-D convolutions came out wrong now and then (torch 2.13), so it is refused there.
        freeze_statistics: Keep batch-norm statistics as they are, for few and similar patches.
        hold: Strength of the pull, on voxels that nobody vouches for, towards what the network said of them
            before (learning without forgetting, Li and Hoiem, arXiv 1606.09282).
        validations: How often a run is scored on held-out cases.
    """

    epochs: int | None = None
    seconds: float | None = None
    batch_size: int | None = None
    recipe: Recipe = field(default_factory=Recipe)
    augmentation: Augmentation = field(default_factory=Augmentation)
    seed: int = 0
    precision: str = "fp32"
    freeze_statistics: bool = False
    hold: float = 0.0
    validations: int = 10

    def __post_init__(self) -> None:
        if (self.epochs is None) == (self.seconds is None):
            raise TrainingError("A training needs either epochs or seconds.", "Give one of the two.")
        if self.precision not in ("fp32", "bf16"):
            raise TrainingError(f"There is no precision {self.precision!r}.", "Use fp32 or bf16.")
        if (self.epochs or 0) < 0 or (self.seconds or 0) < 0 or self.batch < 1:
            raise TrainingError(f"A training cannot run with {self}.", "Use positive numbers.")

    @property
    def batch(self) -> int:
        """Patches per step."""
        return self.recipe.batch_size if self.batch_size is None else self.batch_size

    def to_json(self) -> dict[str, Any]:
        """As plain data for a card."""
        return asdict(self)


def train_steps(
    model: nn.Module,
    sampler: PatchSampler,
    config: TrainingConfig,
    device: torch.device,
    validate: Callable[[nn.Module], Scores] | None = None,
    *,
    trainable: Sequence[nn.Parameter] | None = None,
    penalty: Callable[[], Tensor] | None = None,
    stop: Callable[[], bool] = never,
) -> Generator[Event, None, None]:
    """Train a network in place.

    Args:
        model: The network; moved to ``device``.
        sampler: Where patches come from.
        config: How long and with what.
        device: Where to compute.
        validate: Scores the network on held-out cases: mean Dice of each foreground class by name.
        trainable: The parameters that may change; all if None. The others stay frozen to the end.
        penalty: A term that is added to the loss of every step, such as the distance from earlier weights.
        stop: Asked after every step whether to end here and keep what was learned so far.

    Yields:
        A `TrainingStep` per optimiser step and a `Validation` now and then. Closing the generator stops the run.

    Raises:
        TrainingError: If the loss is no longer a number.
    """
    if config.precision == "bf16" and device.type == "cpu":
        raise TrainingError("bf16 training on the CPU gives wrong gradients at times.", "Use fp32 or a GPU.")
    check_trainable(model)
    torch.manual_seed(config.seed)
    layout = torch.channels_last_3d if sampler.spatial_dims == 3 else torch.channels_last
    model.to(device=device, memory_format=layout)  # type: ignore[call-overload]
    _training_mode(model, config)
    frozen = [p for p in model.parameters() if not p.requires_grad]
    if trainable is not None:
        chosen = {id(parameter) for parameter in trainable}
        frozen = [parameter for parameter in frozen if id(parameter) in chosen]
        for parameter in model.parameters():
            parameter.requires_grad_(parameter.requires_grad and id(parameter) in chosen)
    before = copy.deepcopy(model).eval() if config.hold else None
    optimiser = make_optimiser(config.recipe, model)
    schedule = Schedule(config.recipe)
    steps_per_epoch = math.ceil(len(sampler.cases) / config.batch)
    clock = _Clock(config, steps_per_epoch)
    best = -math.inf

    while clock.progress < 1:
        epoch = clock.step // steps_per_epoch
        if epoch >= config.recipe.gates_frozen or clock.progress >= 0.5:
            for parameter in frozen:
                parameter.requires_grad_(True)
        for group in optimiser.param_groups:
            group["lr"] = schedule.rate(clock.progress, epoch)
        images, labels, weights = (part.to(device) for part in sampler.batch(config.batch))
        images = images.contiguous(memory_format=layout)
        with _autocast(config.precision, device):
            outputs = _outputs(model, images)
        loss = network_loss(config.recipe, outputs, labels, weights)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise TrainingError(
                f"The loss became {value} after {clock.step} steps; nothing was saved.",
                "Lower the learning rate or look for odd intensities in the examples.",
            )
        if before is not None:
            with torch.no_grad():
                opinion = before(images)
            loss = loss + config.hold * divergence(outputs.logits.float(), opinion.float(), (weights == 0).float())
        if penalty is not None:
            loss = loss + penalty()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = float(nn.utils.clip_grad_norm_(model.parameters(), GRADIENT_LIMIT))
        if not math.isfinite(norm):
            raise TrainingError(
                f"The gradients became {norm} after {clock.step} steps; nothing was saved.",
                "Lower the learning rate.",
            )
        optimiser.step()
        clock.tick()
        yield TrainingStep(clock.step, clock.step // steps_per_epoch, value, clock.event())
        if validate is not None and clock.validation_due(schedule.validations(config.validations, config.epochs)):
            dice = validate(model.eval())
            _training_mode(model, config)
            mean = sum(dice.values()) / len(dice)
            best, is_best = max(best, mean), mean > best
            schedule.scored(clock.step / steps_per_epoch, is_best)
            yield Validation(clock.step, clock.step // steps_per_epoch, dice, is_best)
        if stop():
            break
    model.eval()


def _outputs(model: nn.Module, images: Tensor) -> TrainingOutputs:
    try:
        return training_outputs(model, images)
    except ValueError as error:  # batch norm's own words for it say nothing to a user
        if "more than 1 value per channel" not in str(error):
            raise
        raise TrainingError(
            f"A batch of {len(images)} patch of {tuple(images.shape[2:])} is too little to normalise.",
            "Use more patches per step, or larger ones.",
        ) from error


class _Clock:
    """Where a run is between 0 and 1, by steps or by time."""

    def __init__(self, config: TrainingConfig, steps_per_epoch: int) -> None:
        self.step = 0
        self.seconds_allowed = config.seconds
        self.total = config.epochs * steps_per_epoch if config.epochs is not None else 0
        self._began = time.monotonic()
        self._validated = 0

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._began

    @property
    def progress(self) -> float:
        if self.seconds_allowed is not None:
            return self.seconds / self.seconds_allowed if self.seconds_allowed else 1.0
        return self.step / self.total if self.total else 1.0

    def tick(self) -> None:
        self.step += 1

    def event(self) -> Progress:
        if self.seconds_allowed is None:
            return Progress("training", self.step, self.total, "steps", self.seconds)
        return Progress("training", min(int(self.seconds), int(self.seconds_allowed)), int(self.seconds_allowed), "s")

    def validation_due(self, count: int) -> bool:
        due = int(min(self.progress, 1.0) * count)
        due, self._validated = due > self._validated, max(due, self._validated)
        return bool(due)


def _training_mode(model: nn.Module, config: TrainingConfig) -> None:
    model.train()
    if config.freeze_statistics:
        for part in model.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                part.eval()


def _autocast(precision: str, device: torch.device) -> Any:
    if precision == "bf16":
        return torch.autocast(device.type, torch.bfloat16)
    return nullcontext()
