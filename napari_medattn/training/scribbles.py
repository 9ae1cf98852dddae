"""Learning from scribbles: what a recipe becomes where only few voxels have a label, and how rare each class is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from napari_medattn.models import GatedCRF, Recipe
from napari_medattn.training.examples import TrainingCase


def scribble_recipe(recipe: Recipe) -> Recipe:
    """The same optimiser and schedule with the losses for sparse labels.

    Cross entropy of the labelled voxels, and a gated CRF loss between all neighbours (Obukhov et al.,
    arXiv 1906.04651, equation 1). A Dice loss has no part in it: the voxels that people scribble on say nothing of
    how large a class is.
    """
    return replace(recipe, dice_weight=0.0, cross_entropy_weight=1.0, crf=recipe.crf or GatedCRF())


def balanced_weights(cases: Sequence[TrainingCase], num_classes: int) -> tuple[float, ...]:
    """Weights for the cross entropy by one over the square root of each class's share of the labelled voxels.

    They are scaled so that the mean voxel keeps a weight of 1; a class without a voxel has one of 0.
    """
    counts = np.zeros(num_classes)
    for case in cases:
        counts += np.bincount(case.labels[case.weights > 0].ravel(), minlength=num_classes)[:num_classes]
    shares = counts / counts.sum()
    roots = np.sqrt(shares)
    return tuple(float(1 / (root * roots.sum())) if root else 0.0 for root in roots)
