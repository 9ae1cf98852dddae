"""The training loop: reads top to bottom, yields an event after every step, and can be left at each of them."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Generator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from napari_medattn.errors import DivergenceError, TrainingError
from napari_medattn.events import TrainingStep, Validation
from napari_medattn.models import Recipe, TrainingOutputs
from napari_medattn.models.folding import check_trainable
from napari_medattn.training.clock import Clock
from napari_medattn.training.losses import divergence, network_loss
from napari_medattn.training.optimiser import Schedule, make_optimiser
from napari_medattn.training.patches import Augmentation, PatchSampler
from napari_medattn.training.state import Keeper, TrainingState
from napari_medattn.training.workers import Alone, Forward, Workers

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
            before (learning without forgetting, Li and Hoiem, arXiv 1606.09282), for each output that is scored.
        validations: How often a run is scored on held-out cases.
        patience: Epochs without a better held-out score after which the run ends early; None for never.
        class_weights: How much a voxel of each class counts in the cross entropy; None: all the same.
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
    patience: int | None = None
    class_weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if (self.epochs is None) == (self.seconds is None):
            raise TrainingError("A training needs either epochs or seconds.", "Give one of the two.")
        if self.precision not in ("fp32", "bf16"):
            raise TrainingError(f"There is no precision {self.precision!r}.", "Use fp32 or bf16.")
        numbers = (self.epochs or 0, self.seconds or 0, self.patience or 0, *(self.class_weights or ()))
        if min(numbers) < 0 or self.batch < 1:
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
    keeper: Keeper | None = None,
    workers: Workers | None = None,
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
        keeper: Saves the run now and then; what it has saved already is gone on from, bit for bit on one CPU.
        workers: The processes that share the batches; this one alone if None.

    Yields:
        A `TrainingStep` per optimiser step and a `Validation` now and then. Closing the generator stops the run.

    Raises:
        DivergenceError: If the loss is no longer a number.
    """
    run = _Run(model, sampler, config, device, trainable, workers or Alone())
    clock = run.clock
    saved = keeper.load() if keeper is not None else None
    if saved is not None:
        run.restore(saved)

    while clock.progress < 1 and not run.stale:
        run.choose_what_changes()
        loss = run.forward(penalty)
        run.backward(loss)
        clock.tick()
        yield TrainingStep(clock.step, clock.epoch, run.value, clock.event())
        if validate is not None and clock.validation_due(run.validations):
            yield run.score(validate)
        if keeper is not None and run.workers.rank == 0:
            keeper.offer(clock.step, run.state)
        if stop():
            break
    model.eval()


class _Run:
    """A training and everything in it that changes."""

    def __init__(
        self,
        model: nn.Module,
        sampler: PatchSampler,
        config: TrainingConfig,
        device: torch.device,
        trainable: Sequence[nn.Parameter] | None,
        workers: Workers,
    ) -> None:
        if config.precision == "bf16" and device.type == "cpu":
            raise TrainingError("bf16 training on the CPU gives wrong gradients at times.", "Use fp32 or a GPU.")
        check_trainable(model)
        torch.manual_seed(config.seed)
        self.model, self.sampler, self.config, self.device, self.workers = model, sampler, config, device, workers
        self.layout = torch.channels_last_3d if sampler.spatial_dims == 3 else torch.channels_last
        model.to(device=device, memory_format=self.layout)  # type: ignore[call-overload]
        _training_mode(model, config)
        self.asleep = _freeze(model, trainable)
        self.before = copy.deepcopy(model).eval() if config.hold else None
        self.network: Forward = workers.wrap(model)
        self.optimiser = make_optimiser(config.recipe, model)
        self.schedule = Schedule(config.recipe)
        self.clock = Clock(config.epochs, config.seconds, math.ceil(len(sampler.cases) / config.batch))
        self.class_weights = None if config.class_weights is None else torch.tensor(config.class_weights).to(device)
        self.validations = self.schedule.validations(config.validations, config.epochs)
        self.best, self.best_epoch, self.value = -math.inf, 0.0, math.nan

    @property
    def stale(self) -> bool:
        """Whether there was no better held-out score for too long."""
        patience = self.config.patience
        return patience is not None and self.clock.epochs - self.best_epoch >= patience and self.best > -math.inf

    def choose_what_changes(self) -> None:
        """The learning rate of the next step, and whether gates that a network creates frozen are still so."""
        if self.clock.epoch >= self.config.recipe.gates_frozen or self.clock.progress >= 0.5:
            for parameter in self.asleep:
                parameter.requires_grad_(True)
        for group in self.optimiser.param_groups:
            group["lr"] = self.schedule.rate(self.clock.progress, self.clock.epoch, self.clock.step)

    def forward(self, penalty: Callable[[], Tensor] | None) -> Tensor:
        """Draw a batch and compute the loss."""
        config, workers = self.config, self.workers
        batch = self.sampler.batch(config.batch, workers.rank, workers.count)
        asks = self.before is not None and bool(batch.unsure.any())
        images, labels, weights, unsure = (part.to(self.device) for part in batch)
        images = images.contiguous(memory_format=self.layout)
        with _autocast(config.precision, self.device):
            outputs = _outputs(self.network, images)
        loss = network_loss(config.recipe, outputs, labels, weights, images, self.class_weights, workers.pool)
        self.value = workers.mean(loss.detach())
        if not math.isfinite(self.value):
            raise DivergenceError(
                f"The loss became {self.value} after {self.clock.step} steps; nothing was saved.",
                "Lower the learning rate or look for odd intensities in the examples.",
            )
        if self.before is not None and asks:
            with torch.no_grad():
                opinion = self.before(images[unsure])
            nobody = (weights[unsure] == 0).float()
            apart = divergence(outputs.logits[unsure].float(), opinion.float(), nobody)
            # As many outputs as are scored, as often does the opinion count, or they would outvote it.
            loss = loss + config.hold * len(outputs.supervised) * apart
        return loss if penalty is None else loss + penalty()

    def backward(self, loss: Tensor) -> None:
        """Take a step down the gradient."""
        self.optimiser.zero_grad(set_to_none=True)
        self.workers.backward(loss)
        norm = float(nn.utils.clip_grad_norm_(self.model.parameters(), GRADIENT_LIMIT))
        if not math.isfinite(norm):
            raise DivergenceError(
                f"The gradients became {norm} after {self.clock.step} steps; nothing was saved.",
                "Lower the learning rate.",
            )
        self.optimiser.step()

    def score(self, validate: Callable[[nn.Module], Scores]) -> Validation:
        """Score the network on held-out cases, in the first process for all."""
        dice: Scores = validate(self.model.eval()) if self.workers.rank == 0 else {}
        dice = self.workers.from_first(dice)
        _training_mode(self.model, self.config)
        mean = sum(dice.values()) / len(dice)
        is_best = mean > self.best
        if is_best:
            self.best, self.best_epoch = mean, self.clock.epochs
        self.schedule.scored(self.clock.epochs, is_best)
        return Validation(self.clock.step, self.clock.epoch, dice, is_best)

    def state(self) -> TrainingState:
        """All of it, as plain tensors and numbers."""
        facts = {
            **self.clock.facts(),
            **self.schedule.facts(),
            "drawn": self.sampler.drawn,
            "best": self.best if math.isfinite(self.best) else None,
            "best_epoch": self.best_epoch,
        }
        return TrainingState.of(self.model, self.optimiser, self.device, facts)

    def restore(self, saved: TrainingState) -> None:
        """Go on from there."""
        saved.put_into(self.model, self.optimiser, self.device)
        self.clock.restore(saved.facts)
        self.schedule.restore(saved.facts)
        self.sampler.drawn = saved.facts["drawn"]
        self.best = -math.inf if saved.facts["best"] is None else saved.facts["best"]
        self.best_epoch = saved.facts["best_epoch"]


def _freeze(model: nn.Module, trainable: Sequence[nn.Parameter] | None) -> list[nn.Parameter]:
    """Leave all but the trainable parameters alone, and say which of these sleep until later."""
    asleep = [parameter for parameter in model.parameters() if not parameter.requires_grad]
    if trainable is None:
        return asleep
    chosen = {id(parameter) for parameter in trainable}
    for parameter in model.parameters():
        parameter.requires_grad_(parameter.requires_grad and id(parameter) in chosen)
    return [parameter for parameter in asleep if id(parameter) in chosen]


def _outputs(network: Forward, images: Tensor) -> TrainingOutputs:
    try:
        return network(images)
    except ValueError as error:  # batch norm's own words for it say nothing to a user
        if "more than 1 value per channel" not in str(error):
            raise
        raise TrainingError(
            f"A batch of {len(images)} patch of {tuple(images.shape[2:])} is too little to normalise.",
            "Use more patches per step, or larger ones.",
        ) from error


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
