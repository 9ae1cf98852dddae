"""How well a network does on the voxels that somebody vouches for, without running it where there are none."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medattn.data import Example, Prepared
from napari_medattn.learning.regions import Region, find_regions
from napari_medattn.training.metrics import surface_distances


@dataclass(frozen=True)
class Scores:
    """Agreement with the counted voxels of some examples, all taken together.

    Attributes:
        dice: By class name, 2 |A and B| / (|A| + |B|) over all counted voxels; nan where neither mask has the class.
        iou: Likewise, |A and B| / |A or B|.
        hd95: By class name, 95th percentile of the symmetric surface distance in the grid's unit, the mean over the
            scans and slices that count as a whole: scattered voxels have no surface. Where one of the two masks lacks
            the class, the diagonal of the slice or scan stands for it. nan where nothing was measured.
        voxels: Counted voxels.
        agreement: Share of them whose label the network gives.
        voxel_size: Longest in-slice side of a voxel, in the same unit: what ``hd95`` cannot resolve.
        truth: By class name, how many of the counted voxels are truly of it.
    """

    dice: Mapping[str, float]
    iou: Mapping[str, float]
    hd95: Mapping[str, float]
    voxels: int
    agreement: float
    voxel_size: float = 1.0
    truth: Mapping[str, int] = field(default_factory=dict)

    def mean_dice(self, fewest: int) -> float:
        """The mean over the classes of which there truly are so many voxels; 1 if there are none.

        A trace of a class where there is none makes its Dice 0, and says little of a network.
        """
        known = [value for name, value in self.dice.items() if self.truth.get(name, 0) >= fewest]
        return sum(known) / len(known) if known else 1.0

    def to_plain(self) -> dict[str, dict[str, float | None]]:
        """Measure to class name to value, None for what is no number."""
        told = {"dice": self.dice, "iou": self.iou, "hd95": self.hd95}
        return {measure: {name: _plain(v) for name, v in by_class.items()} for measure, by_class in told.items()}


@dataclass(frozen=True, eq=False)
class Reference:
    """Counted voxels of an example, cut into regions.

    Attributes:
        prepared: The image as the network sees it.
        regions: Boxes of the image with labels and what counts in them.
        whole: Whether every voxel of the image counts and surfaces are compared in three dimensions.
    """

    prepared: Prepared
    regions: tuple[Region, ...]
    whole: bool

    @classmethod
    def of(
        cls, example: Example, prepared: Prepared, counts: NDArray[np.bool_] | None = None, by_slice: bool = False
    ) -> Reference:
        """Of all that counts in an example, or of a part of it."""
        counts = example.counts() if counts is None else counts
        whole = bool(counts.all()) and not by_slice
        return cls(prepared, find_regions(example.labels, counts, prepared.turn.order[0]), whole)


@dataclass
class Tally:
    """Adds up what `Scores` needs, region by region.

    Args:
        class_names: Names of the classes.
    """

    class_names: Sequence[str]
    distances: dict[int, list[float]] = field(default_factory=dict)
    voxel_size: float = 0.0

    def __post_init__(self) -> None:
        self._confusion = np.zeros((len(self.class_names),) * 2, np.int64)  # [truth, found]

    def add(self, reference: Reference, masks: Sequence[NDArray[np.uint8]]) -> None:
        """Count a network's labels of a reference's regions."""
        classes, spacing = len(self.class_names), reference.prepared.source.grid.spacing
        for region, mask in zip(reference.regions, masks, strict=True):
            truth = region.labels[region.counts].astype(np.int64)
            pairs = np.bincount(truth * classes + mask[region.counts], minlength=classes**2)
            self._confusion += pairs.reshape(classes, classes)
            in_slice = [side for axis, side in enumerate(spacing) if axis != region.axis]
            self.voxel_size = max(self.voxel_size, *in_slice)
            if reference.whole:
                self._measure(region.labels, mask, spacing)
                continue
            for index in np.flatnonzero(region.whole_slices()):
                plane = (slice(None),) * region.axis + (index,)
                self._measure(region.labels[plane], mask[plane], in_slice)

    def _measure(self, truth: NDArray[Any], found: NDArray[Any], spacing: Sequence[float]) -> None:
        for number in range(1, len(self.class_names)):
            distance = hd95(found == number, truth == number, spacing)
            if not math.isnan(distance):
                self.distances.setdefault(number, []).append(distance)

    def scores(self) -> Scores:
        """What was counted so far."""
        both = np.diag(self._confusion).astype(float)
        sizes = self._confusion.sum(0) + self._confusion.sum(1)
        foreground = range(1, len(self.class_names))
        total = int(self._confusion.sum())
        return Scores(
            dice={self.class_names[n]: _share(2 * both[n], sizes[n]) for n in foreground},
            iou={self.class_names[n]: _share(both[n], sizes[n] - both[n]) for n in foreground},
            hd95={
                self.class_names[n]: float(np.mean(self.distances[n])) if n in self.distances else math.nan
                for n in foreground
            },
            voxels=total,
            agreement=_share(both.sum(), total),
            voxel_size=self.voxel_size,
            truth={self.class_names[n]: int(self._confusion[n].sum()) for n in foreground},
        )


def hd95(mask: NDArray[np.bool_], truth: NDArray[np.bool_], spacing: Sequence[float]) -> float:
    """The 95th percentile of the symmetric surface distance; nan where both are empty, the diagonal where one is."""
    there = (bool(mask.any()), bool(truth.any()))
    if there == (False, False):
        return math.nan
    if there != (True, True):
        return math.hypot(*(n * side for n, side in zip(mask.shape, spacing, strict=True)))
    spans = []
    for axis in range(mask.ndim):
        others = tuple(a for a in range(mask.ndim) if a != axis)
        used = np.flatnonzero((mask | truth).any(axis=others))
        spans.append(slice(used[0], used[-1] + 1))
    box = tuple(spans)
    return surface_distances(np.pad(mask[box], 1), np.pad(truth[box], 1), spacing)[0]


def _share(part: float, whole: float) -> float:
    return float(part / whole) if whole else math.nan


def _plain(value: float) -> float | None:
    return round(value, 4) if math.isfinite(value) else None
