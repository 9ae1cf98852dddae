"""Train a network from scratch on a data folder."""

from __future__ import annotations

import json
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from napari_medattn.data import Preparation
from napari_medattn.device import describe_device, resolve_device
from napari_medattn.errors import TrainingError
from napari_medattn.events import Progress
from napari_medattn.inference import Predictor, segment
from napari_medattn.models import create_model, get_spec
from napari_medattn.store import Card, Checkpoint, save_checkpoint
from napari_medattn.store.checkpoints import check_free
from napari_medattn.training.examples import Example, prepare_example
from napari_medattn.training.folder import DataFolder
from napari_medattn.training.loop import Event, TrainingConfig, train_steps
from napari_medattn.training.patches import PatchSampler

LARGEST_PATCH = {2: (1, 256, 256), 3: (32, 48, 48)}
Triple = tuple[int, int, int]


@dataclass(frozen=True)
class TrainPlan:
    """What to train.

    Attributes:
        network: Name in the model registry.
        name: Name of the checkpoint.
        title: One line for people.
        spatial_dims: 2 or 3; None for the network's default.
        options: The network's own options.
        patch: Training patch (Z, Y, X), Z = 1 for a 2-D network; if None, about the median size of the cases,
            but not more than `LARGEST_PATCH`.
        tile: Tile (Z, Y, X) that `segment` will use; the patch if None.
        preparation: How images are prepared.
        start: Checkpoint of the same network to go on from; random weights if None.
        validation: Cases held out for scoring.
        split_seed: Which ones.
        config: How long and with what.
        limits: What the checkpoint must not be used for.
        command: The command line, for the card.
    """

    network: str
    name: str
    title: str = ""
    spatial_dims: int | None = None
    options: dict[str, Any] = field(default_factory=dict)
    patch: Triple | None = None
    tile: Triple | None = None
    preparation: Preparation = field(default_factory=Preparation)
    start: Checkpoint | None = None
    validation: int = 30
    split_seed: int = 0
    config: TrainingConfig = field(default_factory=lambda: TrainingConfig(epochs=100))
    limits: str = "For research only, not for diagnosis."
    command: str = ""


def train_on_folder(
    folder: DataFolder, plan: TrainPlan, *, device: str = "auto", out: Path | None = None
) -> Generator[Progress | Event, None, Checkpoint]:
    """Train, score on the held-out cases and save.

    The weights of the last step are kept, not the best on the held-out cases, so that their scores stay honest.

    Yields:
        Progress while reading, then what `train_steps` yields.

    Returns:
        The saved checkpoint.

    Raises:
        MedAttnError: If the data or the plan do not fit.
    """
    began = time.monotonic()
    check_free(plan.name, out)
    where = resolve_device(device)
    training, held_out = folder.split(plan.validation, plan.split_seed)
    dims = plan.spatial_dims or get_spec(plan.network).dims[0]
    for what, size in (("patches", plan.patch), ("tiles", plan.tile)):
        if dims == 2 and size is not None and size[0] != 1:
            raise TrainingError(f"A 2-D network cannot work on {what} of {size}.", "Use 1,Y,X.")
    if dims == 3 and plan.preparation.neighbours:
        raise TrainingError("A 3-D network sees neighbouring slices anyway.", "Leave out the neighbours.")

    cases = []
    for count, case in enumerate(training):
        yield Progress("reading cases", count, len(training), "cases", time.monotonic() - began)
        cases.append(prepare_example(folder.example(case), plan.preparation, len(folder.class_names)))
    examples = list(folder.examples(held_out))

    torch.manual_seed(plan.config.seed)
    arguments = {
        "in_channels": cases[0].image.shape[0],
        "num_classes": len(folder.class_names),
        "spatial_dims": dims,
        **plan.options,
    }
    model = create_model(plan.network, **arguments) if plan.start is None else _go_on_from(plan.start, plan, arguments)
    patch = plan.patch or choose_patch([case.labels.shape for case in cases], model.stride)  # type: ignore[arg-type]
    card = Card(
        name=plan.name,
        title=plan.title,
        network=plan.network,
        arguments=arguments,
        class_names=folder.class_names,
        preparation=plan.preparation,
        tile=plan.tile or patch,
        limits=plan.limits,
        parent=plan.start.card.weights_sha256 if plan.start is not None else None,
        parent_name=plan.start.name if plan.start is not None else "",
    )
    sampler = PatchSampler(cases, patch, dims, plan.config.augmentation, plan.config.seed)

    def validate(network: nn.Module) -> dict[str, float]:
        return mean_dice(score_network(Predictor(network, card, where), examples), folder.class_names)

    yield from train_steps(model, sampler, plan.config, where, validate if examples else None)
    scores = score_network(Predictor(model, card, where), examples)
    card = replace(
        card,
        trained_on=f"{folder.name}, {len(training)} cases ({folder.licence})",
        metrics={
            "data": f"{len(examples)} held-out cases of {folder.name}",
            "dice": mean_dice(scores, folder.class_names),
        }
        if examples
        else {},
        training={
            "command": plan.command,
            "source": folder.source,
            "licence": folder.licence,
            "validation_cases": held_out,
            "split_seed": plan.split_seed,
            "config": plan.config.to_json(),
            "device": describe_device(where),
            "torch": torch.__version__,
            "minutes": round((time.monotonic() - began) / 60, 1),
        },
    )
    return save_checkpoint(card, model.to("cpu"), out)


def _go_on_from(start: Checkpoint, plan: TrainPlan, arguments: dict[str, Any]) -> nn.Module:
    """The network of a checkpoint, if it is the one that the plan asks for."""
    card, wanted = start.card, json.loads(json.dumps(arguments))  # a card has lists where options have tuples
    have = json.loads(json.dumps(card.arguments))
    differing = sorted(name for name in {*have, *wanted} if have.get(name) != wanted.get(name))
    if card.network != plan.network or differing:
        what = ", ".join(differing) if card.network == plan.network else f"network ({card.network})"
        raise TrainingError(
            f"{start.name} cannot be the start of this training: it differs in {what}.",
            "Choose a checkpoint of the same network and options, or begin with random weights.",
        )
    return start.build()


def choose_patch(shapes: Sequence[tuple[int, ...]], stride: tuple[int, ...]) -> Triple:
    """A patch that suits cases of (Z, Y, X) shapes: their median size, up to a multiple of the stride."""
    dims = len(stride)
    steps = (1,) * (3 - dims) + stride
    sizes = zip(np.median(shapes, axis=0), LARGEST_PATCH[dims], steps, strict=True)
    z, y, x = (-(-int(min(median, largest)) // step) * step for median, largest, step in sizes)
    return z, y, x


def score_network(predictor: Predictor, examples: Sequence[Example]) -> list[dict[int, float]]:
    """Dice of each foreground class of each example, on its own grid."""
    scores = []
    for example in examples:
        labels = segment(example.volume, predictor).labels
        count = len(predictor.card.class_names)
        scores.append({n: dice_of(labels == n, example.labels == n) for n in range(1, count)})
    return scores


def dice_of(mask: np.ndarray[Any, Any], truth: np.ndarray[Any, Any]) -> float:
    """Dice of two boolean masks; nan where both are empty."""
    total = int(mask.sum()) + int(truth.sum())
    return 2 * int((mask & truth).sum()) / total if total else float("nan")


def mean_dice(scores: Sequence[dict[int, float]], class_names: Sequence[str]) -> dict[str, float]:
    """Mean over the cases, by class name; cases where a class is in neither mask do not count for it."""
    names = dict(enumerate(class_names))
    return {names[number]: round(float(np.nanmean([case[number] for case in scores])), 4) for number in scores[0]}
