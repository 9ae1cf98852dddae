"""Fine-tune a checkpoint on what a person vouches for."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from napari_medattn.device import describe_device
from napari_medattn.errors import TrainingError
from napari_medattn.events import Progress, run_to_end
from napari_medattn.inference import Predictor, segment_steps
from napari_medattn.models import Recipe
from napari_medattn.store import Checkpoint, save_checkpoint
from napari_medattn.store.card import now
from napari_medattn.store.checkpoints import free_name
from napari_medattn.training.examples import Example, prepare_example
from napari_medattn.training.loop import Event, TrainingConfig, train_steps
from napari_medattn.training.patches import Augmentation, PatchSampler

DEFAULT = TrainingConfig(
    seconds=30.0,
    batch_size=2,
    recipe=Recipe(learning_rate=2e-4, warm_up=0.05, dice_weight=0.0),
    augmentation=Augmentation(rotate=8.0, scale=0.08, intensity=0.1),
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

    Args:
        checkpoint: Where to start from; it is left as it is.
        examples: What to learn from; only voxels with a weight above 0 count.
        config: How long and with what.
        name: Name of the new checkpoint; derived from the parent's if empty.
        device: ``"auto"``, ``"cpu"``, ``"cuda:N"`` or ``"mps"``.

    Returns:
        The new checkpoint, with the parent's name and hash and the agreement with the examples before and after.

    Raises:
        TrainingError: If no voxel counts, or the loss is no longer a number.
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
    began = time.monotonic()
    yield Progress("preparing", 0, 0)
    card = checkpoint.card
    counted = sum(_counted(example) for example in examples)
    if not counted:
        raise TrainingError(
            "There is no voxel to learn from.", "Correct the mask or confirm a slice first, then press Learn."
        )
    predictor = Predictor.load(checkpoint, device)
    for example in examples:
        predictor.check(example.volume)
    cases = [prepare_example(example, card.preparation, len(card.class_names)) for example in examples]
    before = yield from agreement_steps(predictor, examples)
    model = checkpoint.build()
    patch = tuple(-(-side // step) * step for side, step in zip(card.tile, predictor.stride, strict=True))
    sampler = PatchSampler(cases, (patch[0], patch[1], patch[2]), card.spatial_dims, config.augmentation, config.seed)
    yield from train_steps(model, sampler, config, predictor.device)
    after = yield from agreement_steps(Predictor(model, card, predictor.device), examples)
    yield Progress("saving", 0, 0)
    return _save(checkpoint, model, predictor.device, examples, config, name, (before, after), time.monotonic() - began)


def agreement_steps(predictor: Predictor, examples: Sequence[Example]) -> Generator[Progress, None, float]:
    """Share of the counted voxels whose label the network gives, over all examples."""
    right = total = 0
    for example in examples:
        prediction = yield from segment_steps(example.volume, predictor)
        counts = np.ones(example.labels.shape, bool) if example.weights is None else np.asarray(example.weights) > 0
        right += int(np.count_nonzero((prediction.labels == example.labels) & counts))
        total += int(np.count_nonzero(counts))
    return right / total


def _counted(example: Example) -> int:
    return example.labels.size if example.weights is None else int(np.count_nonzero(example.weights))


def _save(
    parent: Checkpoint,
    model: nn.Module,
    device: torch.device,
    examples: Sequence[Example],
    config: TrainingConfig,
    name: str,
    scores: tuple[float, float],
    seconds: float,
) -> Checkpoint:
    card = parent.card
    voxels = sum(_counted(example) for example in examples)
    new = replace(
        card,
        name=free_name(name or f"{card.name.split('-tuned')[0]}-tuned"),
        title=f"{card.title or card.name}, fine-tuned",
        trained_on=f"{card.trained_on or 'nothing'}; then {voxels} vouched voxels of {len(examples)} case(s)",
        training={
            "config": config.to_json(),
            "device": describe_device(device),
            "torch": torch.__version__,
            "minutes": round(seconds / 60, 2),
            "parent_training": card.training,
        },
        metrics={
            "data": "the corrected voxels themselves, so no proof that it is better elsewhere",
            "agreement_before": round(scores[0], 4),
            "agreement_after": round(scores[1], 4),
        },
        parent=card.weights_sha256,
        parent_name=card.name,
        created=now(),
    )
    return save_checkpoint(new, model.to("cpu"))
