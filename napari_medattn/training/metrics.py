"""Overlap and surface distance between a mask and a reference, class by class."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_medattn.errors import GeometryError


@dataclass(frozen=True)
class ClassScores:
    """Agreement for one class.

    Attributes:
        dice: 2 |A and B| / (|A| + |B|); nan where neither mask has the class.
        iou: |A and B| / |A or B|; nan likewise.
        hd95: 95th percentile of the symmetric surface distance, in the unit of the spacing; nan where neither
            mask has the class, inf where one has not.
        assd: Average symmetric surface distance, likewise.
    """

    dice: float
    iou: float
    hd95: float
    assd: float


def evaluate(
    labels: NDArray[np.integer],
    reference: NDArray[np.integer],
    *,
    spacing: Sequence[float],
    num_classes: int | None = None,
    background: bool = False,
) -> dict[int, ClassScores]:
    """Compare a mask with a reference.

    Args:
        labels: (Z, Y, X) or (Y, X) whole numbers.
        reference: The same shape.
        spacing: Voxel size along the same axes, e.g. in mm.
        num_classes: Score the classes 1 to ``num_classes - 1``; those that occur in either mask if None.
        background: Score the overlap of class 0 too; its distances are nan.

    Returns:
        Scores by class.

    Raises:
        GeometryError: If the shapes differ or the spacing does not fit them.
    """
    labels, reference = np.asarray(labels), np.asarray(reference)
    if labels.shape != reference.shape:
        raise GeometryError(
            f"The mask has shape {labels.shape}, the reference {reference.shape}.",
            "Compare masks on the same grid.",
        )
    if len(spacing) != labels.ndim:
        raise GeometryError(f"{len(spacing)} spacings for {labels.ndim} axes.", "Give one per axis.")
    if num_classes is None:
        classes = [int(n) for n in np.union1d(np.unique(labels), np.unique(reference)) if n != 0]
    else:
        classes = list(range(1, num_classes))
    scores = {number: _class_scores(labels == number, reference == number, spacing) for number in classes}
    if background:
        scores[0] = ClassScores(*overlap(labels == 0, reference == 0), math.nan, math.nan)
    return scores


def dice_of(mask: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Dice of two masks, nan where both are empty."""
    return overlap(mask, truth)[0]


def overlap(mask: NDArray[np.bool_], truth: NDArray[np.bool_]) -> tuple[float, float]:
    """(Dice, IoU) of two masks, nan where both are empty."""
    both, either = int((mask & truth).sum()), int((mask | truth).sum())
    return (2 * both / (both + either), both / either) if either else (math.nan, math.nan)


def _class_scores(mask: NDArray[np.bool_], truth: NDArray[np.bool_], spacing: Sequence[float]) -> ClassScores:
    dice, iou = overlap(mask, truth)
    if math.isnan(dice):
        return ClassScores(dice, iou, math.nan, math.nan)
    if not mask.any() or not truth.any():
        return ClassScores(dice, iou, math.inf, math.inf)
    hd95, assd = surface_distances(mask, truth, spacing)
    return ClassScores(dice, iou, hd95, assd)


def surface_distances(
    mask: NDArray[np.bool_], truth: NDArray[np.bool_], spacing: Sequence[float]
) -> tuple[float, float]:
    """(HD95, ASSD) between the surfaces of two masks that both hold voxels, by MONAI."""
    import torch
    from monai.metrics import compute_average_surface_distance, compute_hausdorff_distance

    a, b = (torch.from_numpy(np.stack([~part, part])[None]) for part in (mask, truth))
    size = list(map(float, spacing))
    with warnings.catch_warnings():
        # MONAI 1.6 uses an argument of its own that it deprecates.
        warnings.filterwarnings("ignore", message=".*always_return_as_numpy.*", category=FutureWarning)
        hd95 = compute_hausdorff_distance(a, b, percentile=95, spacing=size)
        assd = compute_average_surface_distance(a, b, symmetric=True, spacing=size)
    return float(hd95[0, 0]), float(assd[0, 0])
