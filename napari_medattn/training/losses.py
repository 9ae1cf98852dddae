"""Losses that count only the voxels somebody vouches for."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from napari_medattn.models import Recipe, TrainingOutputs
from napari_medattn.training.crf import gated_crf_loss

Pool = Callable[[Tensor], Tensor]


def alone(sums: Tensor) -> Tensor:
    """The batch lies in this process as a whole, so sums over it are complete."""
    return sums


def weighted_cross_entropy(
    logits: Tensor, labels: Tensor, weight: Tensor, class_weights: Tensor | None = None, pool: Pool = alone
) -> Tensor:
    """Cross entropy averaged over the weight.

    Args:
        logits: (B, K, spatial).
        labels: (B, spatial) int64 in 0..K-1.
        weight: (B, spatial) >= 0; voxels with 0 do not count at all.
        class_weights: (K,) by which the weight of a voxel is multiplied further, according to its label.
        pool: Completes sums over the batch where other processes hold parts of it, see `workers.Workers`.
    """
    if class_weights is not None:
        weight = weight * class_weights[labels]
    losses = F.cross_entropy(logits, labels, reduction="none")
    sums = pool(torch.stack(((losses * weight).sum(), weight.sum())))
    return sums[0] / sums[1].clamp_min(1.0)


def weighted_soft_dice_loss(
    logits: Tensor, labels: Tensor, weight: Tensor, smooth: float = 1.0, pool: Pool = alone
) -> Tensor:
    """One minus the soft Dice of the foreground classes, pooled over the batch.

    Soft Dice as in Milletari et al., arXiv 1606.04797, with plain sums in the denominator. Arguments as for
    `weighted_cross_entropy`; ``smooth`` voxels keep a class without a voxel at a Dice of 1 if nothing is predicted.
    """
    probabilities, truth = _probabilities_and_truth(logits, labels)
    weight = weight[:, None]
    axes = (0, *range(2, logits.ndim))
    overlap = (probabilities * truth * weight).sum(axes)[1:]
    total = ((probabilities + truth) * weight).sum(axes)[1:]
    sums = pool(torch.stack((overlap, total)))
    return 1 - ((2 * sums[0] + smooth) / (sums[1] + smooth)).mean()


def weighted_squared_dice_loss(
    logits: Tensor, labels: Tensor, weight: Tensor, smooth: float = 1e-5, pool: Pool = alone
) -> Tensor:
    """One minus the Dice with sums of squares in the denominator, of all classes, pooled over the batch.

    As DAE-Former's authors train (their code; the form is that of Milletari et al., arXiv 1606.04797). A class that is
    neither there nor predicted at all has a Dice of 1, any trace of it a Dice near 0. Arguments as for
    `weighted_cross_entropy`.
    """
    probabilities, truth = _probabilities_and_truth(logits, labels)
    weight = weight[:, None]
    axes = (0, *range(2, logits.ndim))
    overlap = (probabilities * truth * weight).sum(axes)
    total = ((probabilities.square() + truth) * weight).sum(axes)
    sums = pool(torch.stack((overlap, total)))
    return 1 - ((2 * sums[0] + smooth) / (sums[1] + smooth)).mean()


def weighted_dice_loss_per_image(
    logits: Tensor,
    labels: Tensor,
    weight: Tensor,
    smooth: float = 0.01,
    classes: Sequence[int] | None = None,
    pool: Pool = alone,
) -> Tensor:
    """One minus the Dice of all classes in each image by itself, then the mean.

    As Attention U-Net's authors train (their code). ``smooth`` is inside the factor two, so that a class which is
    neither there nor predicted scores 2, which lowers the loss. Arguments as for `weighted_cross_entropy`.

    Args:
        logits: (B, K, spatial).
        labels: (B, spatial) int64.
        weight: (B, spatial) >= 0.
        smooth: Voxels added to the overlap and to the total.
        classes: Compare these classes alone, the softmax being theirs alone too; the mean is still taken over K,
            so that the others cost one each.
        pool: Completes sums over the batch, see `weighted_cross_entropy`.
    """
    chosen = list(range(logits.shape[1])) if classes is None else list(classes)
    probabilities = logits[:, chosen].softmax(dim=1)
    truth = torch.stack([labels == label for label in chosen], dim=1).to(probabilities.dtype)
    weight = weight[:, None]
    axes = tuple(range(2, logits.ndim))
    overlap = (probabilities * truth * weight).sum(axes)
    total = ((probabilities + truth) * weight).sum(axes)
    scores = 2 * (overlap + smooth) / (total + smooth)
    sums = pool(torch.stack((scores.sum(), scores.new_tensor(len(logits)))))
    return 1 - sums[0] / (sums[1] * logits.shape[1])


DICE_FORMS: dict[str, Callable[..., Tensor]] = {
    "soft": weighted_soft_dice_loss,
    "squared": weighted_squared_dice_loss,
    "per_image": weighted_dice_loss_per_image,
}


def _probabilities_and_truth(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    probabilities = logits.softmax(dim=1)
    return probabilities, torch.zeros_like(probabilities).scatter_(1, labels[:, None], 1.0)


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


def recipe_loss(
    recipe: Recipe,
    logits: Tensor,
    labels: Tensor,
    weight: Tensor,
    class_weights: Tensor | None = None,
    pool: Pool = alone,
) -> Tensor:
    """The loss that a network's recipe asks for."""
    logits = logits.float()
    loss = logits.new_zeros(())
    if recipe.cross_entropy_weight:
        entropy = weighted_cross_entropy(logits, labels, weight, class_weights, pool)
        loss = loss + recipe.cross_entropy_weight * entropy
    if recipe.dice_weight:
        loss = loss + recipe.dice_weight * DICE_FORMS[recipe.dice_form](logits, labels, weight, pool=pool)
    return loss


def network_loss(
    recipe: Recipe,
    outputs: TrainingOutputs,
    labels: Tensor,
    weight: Tensor,
    images: Tensor | None = None,
    class_weights: Tensor | None = None,
    pool: Pool = alone,
) -> Tensor:
    """The recipe's loss of everything that a network wants scored, and the terms that it adds itself.

    Args:
        recipe: Weights of the losses and of the network's own terms; a term that it does not name does not count.
        outputs: What the network gave for the batch.
        labels: (B, spatial) int64.
        weight: (B, spatial) >= 0.
        images: (B, C, spatial), for a recipe that compares neighbours.
        class_weights: (K,), for the cross entropy.
        pool: Completes sums over the batch where other processes hold parts of it.
    """
    losses = [recipe_loss(recipe, logits, labels, weight, class_weights, pool) for logits in outputs.supervised]
    losses += [recipe.terms[name] * term.float() for name, term in outputs.terms.items() if name in recipe.terms]
    if recipe.crf is not None and images is not None:
        losses.append(recipe.crf.weight * gated_crf_loss(outputs.logits, images, recipe.crf))
    return torch.stack(losses).sum()
