"""A tiny 2-D network, corrections on it, and outcomes of learning made up, for tests of the window."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from napari_medattn.data import Preparation
from napari_medattn.events import Progress, TrainingStep, Validation
from napari_medattn.learning.keep import Verdict
from napari_medattn.learning.learned import Learned
from napari_medattn.learning.scoring import Scores
from napari_medattn.models import create_model
from napari_medattn.store import Card, Checkpoint, save_checkpoint

NAME = "tiny"
CLASSES = ("background", "large organ", "small organ")


def tiny_network(name: str = NAME, parent: Checkpoint | None = None, seed: int = 0, **changes) -> Checkpoint:
    """A network of tiles of 32 x 32 in the person's folder, trained by word only."""
    torch.manual_seed(seed)
    arguments = {"in_channels": 1, "num_classes": 3, "spatial_dims": 2, "feature_scale": 16}
    card = Card(
        name,
        "attention_unet",
        arguments,
        CLASSES,
        Preparation(orientation="RAS", intensity="zscore"),
        (1, 32, 32),
        trained_on="nothing but a test",
    )
    if parent is not None:
        card = replace(card, parent=parent.card.weights_sha256, parent_name=parent.name)
    return save_checkpoint(replace(card, **changes), create_model("attention_unet", **arguments))


def correct(dock, slices=(10, 12, 14)) -> None:
    """Paint boxes of both classes into some slices, and confirm these."""
    case = dock.session.case
    for z in slices:
        box = np.zeros(case.mask.data.shape, int)
        box[z, 8:28, 8:28] = 1
        box[z, 30:40, 30:40] = 2
        where = np.nonzero(box)
        case.mask.data_setitem(where, box[where])
        case.confirm((slice(z, z + 1), slice(None), slice(None)))


def scores(dice: float, voxels: int = 500) -> Scores:
    """The same for both classes."""
    both = dict.fromkeys(CLASSES[1:], dice)
    return Scores(both, both, {CLASSES[1]: 2.5, CLASSES[2]: float("nan")}, voxels, dice)


def made_up(word: str, *, before: float | None = 0.5, after: float = 0.75, notes=(), stopped=""):
    """In the place of `learn_steps`: three steps, a score, and a version with a verdict that was chosen beforehand."""

    def learn_steps(checkpoint, examples, *, earlier=(), held_out=(), plan=None, name="", device="auto", stop=None):
        learn_steps.asked = {"examples": examples, "earlier": earlier, "held_out": held_out, "plan": plan}
        learn_steps.asked["threads"] = torch.get_num_threads()
        done = 0
        for step in range(1, 4):
            done = step
            yield TrainingStep(step, 0, 1.0 / step, Progress("training", step, 3, "s"))
            if stop is not None and stop():
                break
        yield Validation(done, 0, dict.fromkeys(CLASSES[1:], after))
        new = tiny_network(f"{checkpoint.name}-tuned", checkpoint, seed=7)
        known = before is not None
        return Learned(
            new,
            scores(before) if known else None,
            scores(after) if known else None,
            None,
            None,
            (0.6, 0.9),
            Verdict(word, f"The verdict is {word}."),
            steps=done,
            stopped=stopped,
            notes=notes,
        )

    return learn_steps


def own_checkpoints(home: Path) -> list[str]:
    """Names of what a person's folder holds."""
    return sorted(path.stem for path in (home / "checkpoints").glob("*.safetensors"))
