"""Fine-tune a checkpoint on what a person vouches for, without holding anything back: the plain door to `learn`."""

from __future__ import annotations

from collections.abc import Generator, Sequence

from napari_medattn.data import Example
from napari_medattn.events import Progress, run_to_end
from napari_medattn.learning.learn import LearnPlan, learn_steps
from napari_medattn.learning.leeway import GENTLE, RATE
from napari_medattn.models import Recipe
from napari_medattn.store import Checkpoint
from napari_medattn.training.loop import Event, TrainingConfig

DEFAULT = TrainingConfig(
    seconds=30.0,
    batch_size=2,
    recipe=Recipe(learning_rate=RATE, warm_up=0.05, dice_weight=0.0),
    augmentation=GENTLE,
    freeze_statistics=True,
    hold=10.0,  # benchmarks/finetune.md has what other values do
)


def finetune(
    checkpoint: Checkpoint,
    examples: Sequence[Example],
    *,
    config: TrainingConfig = DEFAULT,
    name: str = "",
    device: str = "auto",
) -> Checkpoint:
    """Train a checkpoint further on examples and save the result as a new one.

    `learn` says more of the result: how it does on voxels that were held out.

    Args:
        checkpoint: Where to start from; it is left as it is.
        examples: What to learn from; only voxels with a weight above 0 count.
        config: How long and with what.
        name: Name of the new checkpoint; derived from the parent's if empty.
        device: ``"auto"``, ``"cpu"``, ``"cuda:N"`` or ``"mps"``.

    Returns:
        The new checkpoint, with the parent's name and hash and the agreement with the examples before and after.

    Raises:
        TrainingError: If no voxel counts, or the loss is no number from the first step on.
        InputError: If an image does not fit the network.
    """
    steps = finetune_steps(checkpoint, examples, config=config, name=name, device=device)
    return run_to_end(steps)


def finetune_steps(
    checkpoint: Checkpoint,
    examples: Sequence[Example],
    *,
    config: TrainingConfig = DEFAULT,
    name: str = "",
    device: str = "auto",
) -> Generator[Progress | Event, None, Checkpoint]:
    """`finetune` as a generator; leaving it early saves nothing."""
    plan = LearnPlan(seconds=config.seconds, anchor=0.0, folds=0, config=config)
    learned = yield from learn_steps(checkpoint, examples, plan=plan, name=name, device=device)
    return learned.checkpoint
