"""Growing a few strokes into a region, close by and no further.

A random walker with priors: Grady, "Random walks for image segmentation", IEEE Trans Pattern Anal Mach Intell 28(11),
2006, for the graph; Grady, "Multilabel random walker image segmentation using prior models", CVPR 2005, eq. 7 to 10,
for the priors. Strokes repair a mask that is there, so the question at each voxel is not which of all classes it has,
but whether the stroke's class reaches it or its label stays:

- Only voxels whose label is one that the stroke was drawn over may change: a stroke of liver over background takes
  background, and a kidney beside it stays.
- Seeds that hold the label as it is are the voxels at the rim of the strokes' neighbourhood, and other strokes.
- The prior of a voxel is how much more the network's probabilities, and its brightness beside that under the stroke,
  speak for the stroke's class than for its label.

What this is worth beside scikit-image's random walker (without priors) and geodesic distances is in
``benchmarks/correct.md``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.sparse.linalg import cg

from napari_medattn.correct.boxes import (
    Float,
    Mask,
    check_label,
    grown,
    millimetres,
    propose,
    resolve,
)
from napari_medattn.correct.proposal import Box, Labels, Proposal
from napari_medattn.errors import InputError

Strokes = Mapping[int, NDArray[np.integer]]
REACH = 20.0  # mm
_BETA = 13.0  # how strongly a step of one standard deviation in brightness divides
_PRIOR = 0.03  # weight of the prior against that of the neighbours
_DOUBT = 0.05  # probabilities are never taken as certain
_LEAST = 1e-6  # weight of an edge across the strongest step


@dataclass(frozen=True, eq=False)
class _Around:
    """The strokes' neighbourhood."""

    labels: Labels
    image: Float | None
    probabilities: Float | None
    strokes: Labels  # -1 where there is none
    sizes: tuple[float, ...]
    reach: float


def grow(
    labels: Labels,
    strokes: Strokes,
    *,
    image: NDArray[np.generic] | None = None,
    probabilities: NDArray[np.floating[Any]] | None = None,
    box: Box = (),
    spacing: Sequence[float] | None = None,
    reach: float = REACH,
) -> Proposal:
    """Grow strokes into the regions that they mark.

    Strokes themselves always become what they say; around them, what is more likely theirs than not. Voxels farther
    than ``reach`` from a stroke stay.

    Args:
        labels: (Z, Y, X) or (Y, X) mask.
        strokes: Voxels (N, axes) that were drawn, by label; 0 is background. Those outside of the box are left out;
            where strokes cross, the later one holds. A stroke over its own label keeps it from being taken.
        image: Intensities, of the mask's shape.
        probabilities: (K, *mask's shape) class probabilities, if a network gave some.
        box: Where: a slice, a selection or everything.
        spacing: Voxel size along the mask's axes in mm.
        reach: How far from the strokes labels may change, in mm.

    Returns:
        The proposal; empty without strokes.

    Raises:
        InputError: If there is neither image nor probabilities, or strokes, arrays, box, spacing or reach do not fit.
    """
    box, sizes = resolve(box, labels), millimetres(spacing, labels.ndim)
    _check(labels, image, probabilities, reach)
    drawn = {check_label(label, labels): _inside(voxels, labels, box) for label, voxels in strokes.items()}
    drawn = {label: voxels for label, voxels in drawn.items() if len(voxels)}
    if not drawn:
        return propose(labels, box, labels[box], "grow")
    around = _neighbourhood(labels, drawn, image, probabilities, box, sizes, reach)
    part, nearby = around
    best: Float = np.full(nearby.labels.shape, 0.5, np.float32)
    after = nearby.labels.copy()
    for label in drawn:
        reached, share = _reached(nearby, label)
        wins = reached & (share > best)
        after[wins], best[wins] = label, share[wins]
    marked = nearby.strokes >= 0
    after[marked] = nearby.strokes[marked]
    return propose(labels, part, after, "grow")


def _neighbourhood(
    labels: Labels,
    drawn: Mapping[int, NDArray[np.intp]],
    image: NDArray[np.generic] | None,
    probabilities: NDArray[np.floating[Any]] | None,
    box: Box,
    sizes: tuple[float, ...],
    reach: float,
) -> tuple[Box, _Around]:
    """The part of the box that lies within reach of the strokes, and what is there."""
    voxels = np.concatenate(list(drawn.values()))
    tight = tuple(slice(int(low), int(high) + 1) for low, high in zip(voxels.min(0), voxels.max(0), strict=True))
    part = grown(tight, labels.shape, [int(reach / size) + 1 for size in sizes])
    part = tuple(slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(part, box, strict=True))
    strokes = np.full([s.stop - s.start for s in part], -1, np.int64)
    for label, where in drawn.items():
        strokes[tuple((where - [s.start for s in part]).T)] = label
    thick = tuple(1.0 if n == 1 else size for n, size in zip(strokes.shape, sizes, strict=True))
    bright = None if image is None else _brightness(image, part, sizes)
    likely = None if probabilities is None else np.asarray(probabilities[(slice(None), *part)], np.float32)
    return part, _Around(labels[part], bright, likely, strokes, thick, reach)


def _brightness(image: NDArray[np.generic], part: Box, sizes: Sequence[float]) -> Float:
    """Intensities of a part, slightly blurred against noise, in standard deviations."""
    values = np.nan_to_num(np.asarray(image[part], np.float32), posinf=0.0, neginf=0.0)
    finest = min(sizes)
    sigmas = [0.0 if n == 1 else 0.5 * finest / size for n, size in zip(values.shape, sizes, strict=True)]
    blurred: Float = ndimage.gaussian_filter(values, sigmas, mode="nearest")
    return (blurred - blurred.mean()) / max(float(blurred.std()), 1e-6)  # type: ignore[no-any-return]


def _reached(around: _Around, label: int) -> tuple[Mask, Float]:
    """Which voxels may take a label, and the probability with which a walker from them reaches its stroke first."""
    own = around.strokes == label
    over = np.unique(around.labels[own])
    distance = ndimage.distance_transform_edt(~own, sampling=around.sizes)
    takes = np.isin(around.labels, over[over != label]) & (distance <= around.reach)
    other = takes & (around.strokes >= 0) & ~own
    rim = takes & (distance > around.reach - 1.5 * min(around.sizes)) & ~own
    free = takes & ~own & ~other & ~rim
    share = own.astype(np.float32)
    if free.any():
        share[free] = _walk(around, own, other | rim, free, _prior(around, label, own, takes, distance))
    return takes, share


def _prior(around: _Around, label: int, own: Mask, takes: Mask, distance: NDArray[np.floating[Any]]) -> Float:
    """How much speaks for the label rather than for what a voxel has now, from 0 to 1."""
    odds: Float = np.ones(own.shape, np.float32)
    if around.probabilities is not None:
        likely, count = around.probabilities, len(around.probabilities)
        now = np.take_along_axis(likely, np.clip(around.labels, 0, count - 1)[None].astype(np.intp), 0)[0]
        claimed = likely[label] if label < count else np.zeros_like(now)
        odds = (claimed + _DOUBT) / (np.where(around.labels < count, now, 0) + _DOUBT)
    if around.image is not None:
        far = takes & (distance > 0.4 * around.reach)
        here = _likelihood(around.image, own)
        there = _likelihood(around.image, far) if far.any() else np.full_like(here, float(here[takes].mean()))
        odds = odds * (here + _DOUBT / 2) / (there + _DOUBT / 2)
    return np.asarray(odds / (1 + odds), np.float32)


def _likelihood(image: Float, where: Mask) -> Float:
    """A normal distribution fitted to the intensities of some voxels, as a density over all (not below 0.1 wide)."""
    some = image[where]
    width = max(float(some.std()), 0.15)
    return np.asarray(np.exp(-0.5 * ((image - some.mean()) / width) ** 2) * (0.15 / width), np.float32)


def _walk(around: _Around, own: Mask, held: Mask, free: Mask, prior: Float) -> Float:
    """Solve for the free voxels: (L + gamma) x = gamma prior + what the seeds bring."""
    active = own | held | free
    number = np.full(active.shape, -1, np.intp)
    number[active] = np.arange(np.count_nonzero(active))
    edges = [_edges(around, active, number, axis) for axis in range(active.ndim)]
    first, second, weight = (np.concatenate(columns) for columns in zip(*edges, strict=True))
    size = np.count_nonzero(active)
    graph = sparse.coo_matrix((weight, (first, second)), (size, size))
    graph = (graph + graph.T).tocsr()
    unknown, seeds = free[active], own[active].astype(np.float64)
    degree = np.asarray(graph.sum(axis=1)).ravel()[unknown] + _PRIOR
    rows = graph[unknown]
    system = sparse.diags(degree) - rows[:, unknown]
    right = rows @ seeds + _PRIOR * prior[free]
    jacobi = sparse.diags(1 / degree)
    found, _ = cg(system, right, x0=prior[free].astype(np.float64), rtol=1e-4, maxiter=1000, M=jacobi)
    return np.asarray(found, np.float32)


def _edges(
    around: _Around, active: Mask, number: NDArray[np.intp], axis: int
) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float64]]:
    """Neighbours along an axis and the weight of the edge between them: less over a step and over a long way."""
    low: list[slice] = [slice(None)] * active.ndim
    high = list(low)
    low[axis], high[axis] = slice(0, -1), slice(1, None)
    a, b = tuple(low), tuple(high)
    both = active[a] & active[b]
    steps = np.zeros(np.count_nonzero(both))
    if around.image is not None:
        steps = steps + (around.image[a] - around.image[b])[both].astype(np.float64) ** 2
    else:
        assert around.probabilities is not None
        steps = steps + ((around.probabilities[:, *a] - around.probabilities[:, *b]) ** 2).sum(0)[both]
    way = (min(around.sizes) / around.sizes[axis]) ** 2
    return number[a][both], number[b][both], (np.exp(-_BETA * steps) + _LEAST) * way


def _inside(voxels: NDArray[np.integer], labels: Labels, box: Box) -> NDArray[np.intp]:
    """The voxels of a stroke that lie in the box.

    Raises:
        InputError: If they are no voxels of a mask of these axes.
    """
    found = np.asarray(voxels)
    if not found.size:
        return np.empty((0, labels.ndim), np.intp)
    if found.ndim != 2 or found.shape[1] != labels.ndim or found.dtype.kind not in "iu":
        raise InputError(
            f"A stroke of shape {found.shape} and type {found.dtype} does not fit a mask of {labels.ndim} axes.",
            "Give whole voxel indices (N, axes).",
        )
    keep = np.ones(len(found), bool)
    for column, side in zip(found.T, box, strict=True):
        keep &= (column >= side.start) & (column < side.stop)
    return found[keep].astype(np.intp)


def _check(
    labels: Labels,
    image: NDArray[np.generic] | None,
    probabilities: NDArray[np.floating[Any]] | None,
    reach: float,
) -> None:
    if image is None and probabilities is None:
        raise InputError("Strokes grow along an image or probabilities, and there are none.", "Give one of them.")
    for what, shape in (
        ("image", None if image is None else image.shape),
        ("probabilities", None if probabilities is None else probabilities.shape[1:]),
    ):
        if shape is not None and tuple(shape) != labels.shape:
            raise InputError(
                f"The {what} have shape {shape}, the mask {labels.shape}.", "Give them on the mask's voxels."
            )
    if not reach > 0:
        raise InputError(f"Strokes cannot reach {reach} mm.", "Use a length above 0.")
