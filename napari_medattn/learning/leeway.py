"""How far learning may go from the parent, by what was corrected, and what follows from that.

Where a person marked the wrong voxels only, nothing else tells what was right: the network is led on gently and held to
what it said. Where whole slices were put right and it is not as good as they are, it is trained more as it was trained
first, all the more where earlier examples are rehearsed: larger steps and batches, Dice loss, more variation, more
rehearsal against forgetting, and afterwards a part of the way back to the parent (Wortsman et al., "Robust
fine-tuning of zero-shot models", arXiv 2109.01903, section 3: weights between the two). benchmarks/learn.md has what it
brings.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from napari_medattn.models import Recipe
from napari_medattn.training.patches import Augmentation

RATE = 2e-4  # the highest learning rate without leeway
FIRST_RATE = 1e-3  # for a network whose first training tells no rate of Adam's
WAY_BACK = 0.1  # of the way to the parent, at full leeway
REHEARSAL = 0.3, 0.4  # share of the patches, without leeway and at full
SLOW_START = 50  # steps until the full rate; Adam's first ones go as far as its rate allows, whatever the gradient
ANCHOR = 0.1  # strength of the pull towards the parent's weights, without leeway
GENTLE = Augmentation(rotate=8.0, scale=0.08, intensity=0.1)
# Dice from which on there is no leeway, and below which there is all of it.
_REHEARSING = 1.0, 0.9
_ALONE = 0.9, 0.4  # a few slices and nothing to rehearse soon lead away from what was right elsewhere


def leeway(agreement: float, dice: float, rehearsing: bool) -> float:
    """0 for a network that is to stay as close as it can, 1 for one that may be trained as it was at first.

    Args:
        agreement: Share of the counted voxels whose label the network gives. Where only wrong voxels count, it is
            near 0 and so is the result: the Dice over such voxels tells nothing of the rest.
        dice: Its mean Dice over the counted voxels, of the classes that are truly there.
        rehearsing: Whether there are earlier examples that hold it to what it knew.
    """
    right, wrong = _REHEARSING if rehearsing else _ALONE
    return agreement * min(max((right - dice) / (right - wrong), 0.0), 1.0)


def rate_for(leeway: float, own: Recipe) -> float:
    """The highest learning rate: at full leeway two thirds of the way, in powers, to that of the first training.

    Args:
        leeway: See `leeway`.
        own: The recipe that the network was trained with first; rates of another optimiser say nothing here.
    """
    first = FIRST_RATE if own.optimiser == "sgd" else max(own.learning_rate, RATE)
    return float(RATE * (first / RATE) ** (2 * leeway / 3))


def slow_start_for(leeway: float, rehearsing: bool) -> int:
    """Steps over which the rate rises: who rehearses for seconds only forgets more than who does it for a minute.

    Where there is nothing to rehearse, few steps had better go far.
    """
    return round(SLOW_START * leeway) if rehearsing else 0


def rehearsal_for(leeway: float) -> float:
    """Share of the patches that come from earlier examples."""
    least, most = REHEARSAL
    return least + (most - least) * leeway


def anchor_for(leeway: float) -> float:
    """Strength of the pull towards the parent's weights, see `anchor.anchor`; none at full leeway."""
    return ANCHOR * (1 - leeway)


def variation_for(leeway: float) -> Augmentation:
    """How new patches are varied: at full leeway as usual."""
    more = 1 + leeway / 2
    return replace(GENTLE, rotate=GENTLE.rotate * more, scale=GENTLE.scale * more, intensity=GENTLE.intensity * more)


@torch.no_grad()
def go_back(model: nn.Module, parent: nn.Module, leeway: float) -> nn.Module:
    """Move a network's weights, in place, a part of the way to its parent's.

    Args:
        model: The network after learning.
        parent: The same network before.
        leeway: See `leeway`, of the parent.

    Returns:
        ``model``.
    """
    before = dict(parent.named_parameters())
    for name, parameter in model.named_parameters():
        parameter.lerp_(before[name].to(parameter.device), WAY_BACK * leeway)
    return model
