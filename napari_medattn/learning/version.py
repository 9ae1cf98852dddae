"""Save what was learned as a new version, with all that is known of it on its card."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import torch

from napari_medattn.device import describe_device
from napari_medattn.learning.fitting import known_modalities
from napari_medattn.learning.learned import Learned
from napari_medattn.learning.material import Prepped
from napari_medattn.learning.own import own_recipe
from napari_medattn.learning.scoring import Scores
from napari_medattn.learning.task import Task
from napari_medattn.store import Card, save_checkpoint
from napari_medattn.store.card import now
from napari_medattn.store.training_record import TrainingRecord


def save_version(learned: Learned, task: Task, name: str, seconds: float) -> Learned:
    """Save a new version in the user's folder; ``learned`` then speaks of it instead of the parent.

    Args:
        learned: What is known of it; its checkpoint is the parent.
        task: The learning.
        name: Its name; one that is taken gets a number. Derived from the parent's if empty.
        seconds: How long everything took.

    Raises:
        SaveError: If it cannot be written; nothing half-written is left.
    """
    parent, new = task.checkpoint.card, task.material.new
    told = f"{task.material.voxels} vouched voxels of {len(new)} case(s)"
    card = replace(
        parent,
        name=name or f"{parent.name.split('-tuned')[0]}-tuned",
        title=_retitled(parent),
        trained_on=f"{parent.trained_on or 'nothing'}; then {told}",
        training=_training(learned, task, seconds),
        metrics=_metrics(learned),
        parent=parent.weights_sha256,
        parent_name=parent.name,
        note="",
        created=now(),
    )
    return replace(learned, checkpoint=save_checkpoint(card, task.model.to("cpu"), unique=True))


def _training(learned: Learned, task: Task, seconds: float) -> dict[str, Any]:
    parent, plan, material = task.checkpoint.card, task.plan, task.material
    before, after = (scores.to_plain() if scores else {} for scores in (learned.before, learned.after))
    record = TrainingRecord(
        plan.method, seconds, _names(material.new), _names(material.held_out), before=before, after=after
    )
    known = {*known_modalities(parent), *(p.example.modality for p in material.new if p.example.modality)}
    return {
        **record.to_plain(),
        "held_out_how": _how(learned),
        "folds": learned.folds,
        "earlier": {
            "count": len(material.earlier),
            "examples": list(_names(material.earlier)),
            "before": learned.earlier_before.to_plain() if learned.earlier_before else {},
            "after": learned.earlier_after.to_plain() if learned.earlier_after else {},
        },
        "verdict": asdict(learned.verdict),
        "steps": learned.steps,
        "stopped": learned.stopped,
        "notes": list(learned.notes),
        "ladder": list(task.outcome.notes),
        "leeway": round(task.leeway, 3),
        "rehearsal": round(task.rehearsal, 3),
        "anchor": round(task.anchor, 4),
        "plan": {name: value for name, value in asdict(plan).items() if name != "config"},
        "config": task.config.to_json(),
        "seed": task.config.seed,
        "own_recipe": asdict(own_recipe(parent)),
        "modality": sorted(known),
        "device": describe_device(task.exam.device),
        "torch": torch.__version__,
        "parent": parent.weights_sha256,
        "parent_training": parent.training.get("parent_training", parent.training),
    }


def _names(parts: tuple[Prepped, ...]) -> tuple[str, ...]:
    """Names of stored examples; those that are not from a store have none."""
    told = (part.example.provenance.get("example") for part in parts)
    return tuple(str(name) for name in told if name)


def _metrics(learned: Learned) -> dict[str, Any]:
    before, after = learned.agreement
    told = {
        "data": _how(learned),
        "agreement_before": round(before, 4),
        "agreement_after": round(after, 4),
    }
    return {**told, **_told(learned.after), "verdict": learned.verdict.word}


def _told(scores: Scores | None) -> dict[str, Any]:
    return {} if scores is None else {key: value for key, value in scores.to_plain().items() if key != "iou"}


def _how(learned: Learned) -> str:
    if learned.before is None:
        return "the corrected voxels themselves, so no proof that it is better elsewhere"
    if learned.folds:
        return (
            f"corrections that were held back in {learned.folds} folds, scored by networks that learned from the rest "
            "for a shorter time"
        )
    return "held-out examples"


def _retitled(parent: Card) -> str:
    title = parent.title or parent.name
    return title if title.endswith(", fine-tuned") else f"{title}, fine-tuned"
