"""Thresholding inside a round brush."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medattn.correct.boxes import Float, Mask, check_label, millimetres, propose, resolve, with_label
from napari_medattn.correct.proposal import Box, Labels, Proposal
from napari_medattn.errors import InputError


def threshold_in_brush(
    labels: Labels,
    image: NDArray[np.generic],
    centre: Sequence[float],
    radius: float,
    label: int,
    *,
    lower: float | None = None,
    upper: float | None = None,
    box: Box = (),
    spacing: Sequence[float] | None = None,
    background_only: bool = True,
) -> Proposal:
    """Label what is bright (or dark) enough under a round brush.

    Args:
        labels: (Z, Y, X) or (Y, X) mask.
        image: Intensities, of the mask's shape.
        centre: The brush's middle, an index with fractions per axis.
        radius: Its radius in mm (in voxels without a spacing): a ball, or a disk where the box is one slice.
        label: The label to give.
        lower: Lowest intensity that is taken; None for no limit.
        upper: Highest intensity; None for no limit. With neither, Otsu's threshold of the brush divides it, and the
            side on which its middle lies is taken.
        box: Where.
        spacing: Voxel size along the mask's axes in mm.
        background_only: Whether foreground stays as it is.

    Raises:
        InputError: If image, centre, radius, label, box or spacing do not fit.
    """
    box, sizes = resolve(box, labels), millimetres(spacing, labels.ndim)
    check_label(label, labels)
    if image.shape != labels.shape:
        raise InputError(
            f"The image has shape {image.shape}, the mask {labels.shape}.", "Give the image on the mask's own voxels."
        )
    if len(centre) != labels.ndim or not np.isfinite(centre).all() or not radius > 0:
        raise InputError(f"There is no brush of {radius} mm at {tuple(centre)}.", "Give a voxel and a radius above 0.")
    reach = tuple(
        slice(max(s.start, int(np.ceil(c - radius / size))), min(s.stop, int(c + radius / size) + 1))
        for s, c, size in zip(box, centre, sizes, strict=True)
    )
    if any(s.start >= s.stop for s in reach):
        return propose(labels, box, labels[box], "threshold")
    brush = ball(reach, centre, radius, sizes)
    values = np.asarray(image[reach], np.float32)
    under = brush & np.isfinite(values)
    before = labels[reach]
    taken = under & _between_limits(values, under, values[_nearest_voxel(centre, reach)], lower, upper)
    if background_only:
        taken &= before == 0
    return propose(labels, reach, with_label(taken, label, before), "threshold")


def ball(box: Box, centre: Sequence[float], radius: float, spacing: Sequence[float]) -> Mask:
    """The voxels of a box that lie within a radius in mm of a point."""
    offsets = np.meshgrid(
        *[(np.arange(s.start, s.stop) - c) * size for s, c, size in zip(box, centre, spacing, strict=True)],
        indexing="ij",
        sparse=True,
    )
    squares = sum((offset**2 for offset in offsets), start=np.zeros(()))
    return np.asarray(squares <= radius**2 * (1 + 1e-9))


def _between_limits(values: Float, under: Mask, middle: float, lower: float | None, upper: float | None) -> Mask:
    if lower is None and upper is None:
        from skimage.filters import threshold_otsu

        some = values[under]
        if not some.size or some.min() == some.max():
            return under
        middle = middle if np.isfinite(middle) else float(np.median(some))
        divide = float(threshold_otsu(some))
        return values > divide if middle > divide else values <= divide
    return between(values, lower, upper)


def between(values: NDArray[Any], lower: float | None, upper: float | None) -> Mask:
    """Which intensities lie between two limits, both included; None for no limit. What is no number does not."""
    inside = ~np.isnan(values) if values.dtype.kind == "f" else np.ones(values.shape, bool)
    if lower is not None:
        inside &= np.asarray(values >= lower)
    if upper is not None:
        inside &= np.asarray(values <= upper)
    return inside


def _nearest_voxel(centre: Sequence[float], box: Box) -> tuple[int, ...]:
    """The voxel of a box nearest to a point, counted from the box's first."""
    return tuple(min(max(round(float(c)), s.start), s.stop - 1) - s.start for c, s in zip(centre, box, strict=True))
