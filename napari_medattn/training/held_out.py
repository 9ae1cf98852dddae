"""Dice of a network on held-out cases, on their own grids."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from napari_medattn.data import Example
from napari_medattn.inference import Predictor, segment
from napari_medattn.training.metrics import dice_of


def score_network(predictor: Predictor, examples: Sequence[Example]) -> list[dict[int, float]]:
    """Dice of each foreground class of each example; where labels are sparse, on the labelled voxels alone."""
    scores = []
    for example in examples:
        labels, counts = segment(example.volume, predictor).labels, example.counts()
        found, truth = labels[counts], np.asarray(example.labels)[counts]
        classes = range(1, len(predictor.card.class_names))
        scores.append({number: dice_of(found == number, truth == number) for number in classes})
    return scores


def mean_dice(scores: Sequence[dict[int, float]], class_names: Sequence[str]) -> dict[str, float]:
    """Mean over the cases, by class name.

    Cases where a class is in neither mask do not count for it; a class that is nowhere has no score.
    """
    found = {number: [case[number] for case in scores if not np.isnan(case[number])] for number in scores[0]}
    return {class_names[number]: round(float(np.mean(values)), 4) for number, values in found.items() if values}
