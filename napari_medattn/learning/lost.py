"""How lost a network is on what was corrected, and what follows from that for learning.

A network that is nearly right is led on gently: small steps, close to where it is. One that is lost has little to hold
on to: it is trained more as it was trained first, and afterwards goes a part of the way back to its parent. That trades
some of the new for the old (Wortsman et al., "Robust fine-tuning of zero-shot models", arXiv 2109.01903, section 3:
weights between the two). benchmarks/learn.md has what each of these is worth.
"""

from __future__ import annotations

import torch
from torch import nn

from napari_medattn.models import Recipe

RATE = 2e-4  # the highest learning rate for a network that is nearly right
FIRST_RATE = 1e-3  # for one whose first training tells no rate of Adam's
WAY_BACK = 0.25  # of the way to the parent, for a network that is wholly lost
_RIGHT, _LOST = 0.9, 0.4  # Dice


def lostness(agreement: float, dice: float) -> float:
    """0 for a network that is right about the corrections, 1 for one that is lost.

    Args:
        agreement: Share of the counted voxels whose label the network gives. Where only wrong voxels count, it is near
            0 and so is the result: the Dice over such voxels does not tell whether a network is lost.
        dice: Its mean Dice over the counted voxels, of the classes that are truly there.
    """
    return agreement * min(max((_RIGHT - dice) / (_RIGHT - _LOST), 0.0), 1.0)


def rate_for(lost: float, own: Recipe) -> float:
    """The highest learning rate: half of the way, in powers, to that of the first training for a network that is lost.

    Args:
        lost: See `lostness`.
        own: The recipe that the network was trained with first; rates of another optimiser say nothing here.
    """
    first = FIRST_RATE if own.optimiser == "sgd" else max(own.learning_rate, RATE)
    return float(RATE * (first / RATE) ** (lost / 2))


@torch.no_grad()
def go_back(model: nn.Module, parent: nn.Module, lost: float) -> nn.Module:
    """Move a network's weights, in place, a part of the way to its parent's.

    Args:
        model: The network after learning.
        parent: The same network before.
        lost: See `lostness`, of the parent.

    Returns:
        ``model``.
    """
    before = dict(parent.named_parameters())
    for name, parameter in model.named_parameters():
        parameter.lerp_(before[name].to(parameter.device), WAY_BACK * lost)
    return model
