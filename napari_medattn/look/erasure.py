"""`Erasure`: the curves that erasing gives, the areas between them, and what they say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.integrate import trapezoid

from napari_medattn.models import AttentionSite

Double = NDArray[np.float64]
Measure = Literal["dice", "probability", "reference"]
_WORDS: dict[Measure, str] = {
    "dice": "Dice",
    "probability": "class probability",
    "reference": "Dice against the reference",
}


@dataclass(frozen=True, eq=False)
class Curve:
    """How the mask of a class fares while more and more is erased, all (shares,) and 0..1.

    Attributes:
        dice: Dice of the mask against the mask without erasing.
        probability: Mean probability of the class inside the mask without erasing.
        reference: Dice of the mask against the reference, nan where neither has the class; None without one.
    """

    dice: Double
    probability: Double
    reference: Double | None


@dataclass(frozen=True, eq=False)
class Erasure:
    """What erasing along one map did to the mask of one class.

    Attributes:
        site: The site.
        head: The head, from 0; None for the mean of all.
        label: The class.
        class_name: Its name.
        frames: The frames that were erased; those without the class are not among them.
        replacement: What voxels were erased with.
        shares: (shares,) erased shares of the frame's voxels, rising from 0.
        most: Most attended voxels first.
        least: Least attended voxels first.
        random: Voxels in random orders, one curve for each.
    """

    site: AttentionSite
    head: int | None
    label: int
    class_name: str
    frames: tuple[int, ...]
    replacement: str
    shares: Double
    most: Curve
    least: Curve
    random: tuple[Curve, ...]

    @property
    def chance(self) -> Curve:
        """The mean of the random curves."""
        referred = self.random[0].reference is not None
        return Curve(
            dice=self._draws("dice").mean(axis=0),
            probability=self._draws("probability").mean(axis=0),
            reference=self._draws("reference").mean(axis=0) if referred else None,
        )

    def most_below_random(self, measure: Measure = "dice") -> float:
        """Area between the random and the most-attended curve over the width of the shares, -1..1.

        Positive: on average over the shares, erasing what is attended most costs that much more than at random.
        """
        return self._mean(self._draws(measure).mean(axis=0) - _values(self.most, measure))

    def least_above_random(self, measure: Measure = "dice") -> float:
        """Area between the least-attended and the random curve over the width of the shares, -1..1.

        Positive: on average over the shares, erasing what is attended least costs that much less than at random.
        """
        return self._mean(_values(self.least, measure) - self._draws(measure).mean(axis=0))

    def chance_spread(self, measure: Measure = "dice") -> float:
        """Standard deviation of the area under the random curves, in the unit of the areas; nan for a single draw."""
        areas = [self._mean(draw) for draw in self._draws(measure)]
        return float(np.std(areas, ddof=1)) if len(areas) > 1 else float("nan")

    def words(self, measure: Measure = "dice") -> str:
        """What the areas say, in a few sentences; "within chance" is less than two standard deviations of it."""
        spread, what = self.chance_spread(measure), _WORDS[measure]
        if not np.isfinite(self.most_below_random(measure) + self.least_above_random(measure)):
            return f"{self.class_name} is in neither the mask nor the reference, so there is no {what} to compare."
        most = _compared(self.most_below_random(measure), what, spread)
        least = _compared(-self.least_above_random(measure), what, spread)
        told = f"; random orders differ among themselves by ±{spread:.3f}" if np.isfinite(spread) else ""
        return (
            f"Most attended first, {self.class_name} loses {most} than in random order. "
            f"Least attended first, it loses {least}. Mean over 0 to {self.shares[-1]:.0%} erased{told}."
        )

    def _draws(self, measure: Measure) -> Double:
        return np.stack([_values(curve, measure) for curve in self.random])

    def _mean(self, heights: Double) -> float:
        """The area under some heights, divided by the width of the shares."""
        return float(trapezoid(heights, self.shares) / self.shares[-1])


def _compared(area: float, what: str, spread: float) -> str:
    chance = " (within chance)" if np.isfinite(spread) and abs(area) <= 2 * spread else ""
    return f"{abs(area):.3f} {what} {'more' if area >= 0 else 'less'}{chance}"


def _values(curve: Curve, measure: Measure) -> Double:
    values: Double | None = getattr(curve, measure)
    if values is None:
        raise ValueError("nothing was measured against a reference")
    return values
