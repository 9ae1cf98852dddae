"""Losses that count only the voxels somebody vouches for."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from napari_medattn.models import Recipe, TrainingOutputs


def weighted_cross_entropy(logits: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    """Cross entropy averaged over the weight.

    Args:
        logits: (B, K, spatial).
        labels: (B, spatial) int64 in 0..K-1.
        weight: (B, spatial) >= 0; voxels with 0 do not count at all.
    """
    losses = F.cross_entropy(logits, labels, reduction="none")
    return (losses * weight).sum() / weight.sum().clamp_min(1.0)


def weighted_soft_dice_loss(logits: Tensor, labels: Tensor, weight: Tensor, smooth: float = 1.0) -> Tensor:
    """One minus the soft Dice of the foreground classes, pooled over the batch.

    Soft Dice as in Milletari et al., arXiv 1606.04797, with plain sums in the denominator. Arguments as for
    `weighted_cross_entropy`; ``smooth`` voxels keep a class without a voxel at a Dice of 1 if nothing is predicted.
    """
    probabilities = logits.softmax(dim=1)
    truth = torch.zeros_like(probabilities).scatter_(1, labels[:, None], 1.0)
    weight = weight[:, None]
    axes = (0, *range(2, logits.ndim))
    overlap = (probabilities * truth * weight).sum(axes)[1:]
    total = ((probabilities + truth) * weight).sum(axes)[1:]
    return 1 - ((2 * overlap + smooth) / (total + smooth)).mean()


def divergence(logits: Tensor, opinion: Tensor, where: Tensor) -> Tensor:
    """Kullback-Leibler divergence of the class probabilities from an earlier opinion, in a region.

    The mean is taken over the voxels of each class that the opinion finds, then over the classes, so that a
    small organ holds its own against much background.

    Args:
        logits: (B, K, spatial).
        opinion: Logits of the same shape that are held to be fixed.
        where: (B, spatial), 1 inside the region and 0 outside.
    """
    per_class = F.kl_div(logits.log_softmax(dim=1), opinion.log_softmax(dim=1), reduction="none", log_target=True)
    classes = F.one_hot(opinion.argmax(dim=1), logits.shape[1]).flatten(0, -2) * where.flatten()[:, None]
    means = per_class.sum(dim=1).flatten() @ classes / classes.sum(dim=0).clamp_min(1.0)
    return means.sum() / classes.any(dim=0).sum().clamp_min(1)


def recipe_loss(recipe: Recipe, logits: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    """The loss that a network's recipe asks for."""
    logits = logits.float()
    loss = logits.new_zeros(())
    if recipe.cross_entropy_weight:
        loss = loss + recipe.cross_entropy_weight * weighted_cross_entropy(logits, labels, weight)
    if recipe.dice_weight:
        loss = loss + recipe.dice_weight * weighted_soft_dice_loss(logits, labels, weight)
    return loss


def network_loss(recipe: Recipe, outputs: TrainingOutputs, labels: Tensor, weight: Tensor) -> Tensor:
    """The recipe's loss of everything that a network wants scored, and the terms that it adds itself.

    Args:
        recipe: Weights of the losses and of the network's own terms; a term that it does not name does not count.
        outputs: What the network gave for the batch.
        labels: (B, spatial) int64.
        weight: (B, spatial) >= 0.
    """
    losses = [recipe_loss(recipe, logits, labels, weight) for logits in outputs.supervised]
    losses += [recipe.terms[name] * term.float() for name, term in outputs.terms.items() if name in recipe.terms]
    return torch.stack(losses).sum()
