"""Where a mask is likely wrong: slices to review, those first that are worth most.

A slice's score says how much of all that looks wrong in the mask lies in it. Two signs are weighed, and two more if
asked for; each is a sum over the slice's voxels, not a mean, because Dice rises with the number of voxels put right:

- *uncertain*: the entropy of the network's class probabilities;
- *unlike its neighbours*: voxels whose label is another one in the slice before or after;
- *flips disagree*: how far the probabilities of a mirrored scan, mirrored back, lie from the others (total variation);
- *attention outside the object*: what the network attends to where the mask has no object.

How the weights were chosen, and what an order by score is worth beside slice order and chance, is in
``benchmarks/correct.md``.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_medattn.correct.boxes import Float, Mask, bounds, grown, slice_box
from napari_medattn.correct.proposal import Box, Labels
from napari_medattn.errors import GeometryError, InputError
from napari_medattn.events import Progress

if TYPE_CHECKING:
    from napari_medattn.data import Volume
    from napari_medattn.inference import Predictor

REASONS = {
    "uncertainty": "uncertain",
    "disagreement": "flips disagree",
    "roughness": "unlike its neighbours",
    "attention": "attention outside the object",
}
_MARGIN = 4  # voxels around what is suspicious, in the box that is shown


@dataclass(frozen=True)
class Place:
    """A slice to look at.

    Attributes:
        axis: Across which axis of the mask the slice lies.
        index: Its index along that axis.
        box: Where in the mask to look first, one voxel thick along ``axis``.
        score: Share of all that looks wrong in the mask, from 0 to 1.
        reason: The sign of which the slice has the largest share, one of `REASONS`.
    """

    axis: int
    index: int
    box: Box
    score: float
    reason: str


@dataclass(frozen=True)
class Weights:
    """How much each sign counts. A sign of which nothing is known counts nothing.

    Flips and attention made the order worse, or no better, on the cases on which the weights were chosen.
    """

    uncertainty: float = 1.0
    disagreement: float = 0.0
    roughness: float = 0.25
    attention: float = 0.0

    def __post_init__(self) -> None:
        weights = asdict(self)
        if min(weights.values()) < 0 or not any(weights.values()):
            raise InputError(f"A queue cannot be ordered by {weights}.", "Use weights of 0 or more, one above 0.")


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a network's runs say of each voxel, on the mask's voxels.

    Attributes:
        uncertainty: (Z, Y, X) entropy of the probabilities divided by log K, from 0 to 1, if known.
        disagreement: (Z, Y, X) total variation between the runs, from 0 to 1, if known.
        attention: (Z, Y, X) >= 0, mean over the heads of one site, if known.
    """

    uncertainty: Float | None = None
    disagreement: Float | None = None
    attention: Float | None = None


def rank(
    labels: Labels,
    evidence: Evidence | None = None,
    *,
    axis: int = 0,
    trusted: Mask | None = None,
    done: Collection[int] = (),
    weights: Weights | None = None,
    count: int | None = None,
) -> tuple[Place, ...]:
    """Order the slices of a mask, the likeliest wrong first.

    Args:
        labels: (Z, Y, X) mask as it is now.
        evidence: What the network's runs say; without any, neighbouring slices alone are compared.
        axis: Across which axis the slices lie.
        trusted: (Z, Y, X) voxels that a person vouches for: nothing there is suspicious.
        done: Slices that are confirmed: they are left out.
        weights: How much each sign counts; the defaults of `Weights` if None.
        count: How many places at most; None for all.

    Returns:
        The places by falling score, equal ones by index. Slices in which nothing is suspicious are left out.

    Raises:
        InputError: If the mask has no slices along the axis.
        GeometryError: If evidence or trusted voxels do not lie on the mask.
    """
    if labels.ndim != 3 or not -3 <= axis < 3:
        raise InputError(
            f"A mask of shape {labels.shape} has no slices along axis {axis}.", "Give (Z, Y, X) and an axis 0 to 2."
        )
    axis %= 3
    evidence, weights = evidence or Evidence(), weights or Weights()
    _check(labels, evidence, trusted)
    signs = _Signs.of(labels, evidence, axis, trusted)
    shares = {name: signs.shares(name) for name, weight in asdict(weights).items() if weight}
    known = [name for name, share in shares.items() if share.any()]
    if not known:
        return ()
    factors = np.array([getattr(weights, name) for name in known])
    table = np.stack([shares[name] for name in known])
    scores = factors @ table / factors.sum()
    order = [int(n) for n in np.argsort(-scores, kind="stable") if scores[n] > 0 and int(n) not in done][:count]
    places = []
    for index in order:
        reason = known[int(table[:, index].argmax())]
        box = signs.box(index, reason, labels.shape, axis)
        places.append(Place(axis, index, box, float(scores[index]), REASONS[reason]))
    return tuple(places)


def evidence_steps(
    volume: Volume,
    predictor: Predictor,
    *,
    uncertainty: Float | None = None,
    flips: Sequence[int] = (),
    attention: str | None = None,
) -> Generator[Progress, None, Evidence]:
    """Run a network on a scan, and on the mirrored scan.

    Args:
        volume: The scan.
        predictor: The network.
        uncertainty: (Z, Y, X) what an earlier run said, if nothing else is asked for; then no run is needed.
        flips: Axes (0 to 2) to mirror along, one run each; mirror where the network may take mirrored anatomy.
        attention: Key of a site whose overview map is wanted.

    Yields:
        Progress of the runs.

    Raises:
        InputError: If the network cannot take the volume, or an axis does not exist.
    """
    from napari_medattn.inference import segment_steps

    if any(axis not in (0, 1, 2) for axis in flips):
        raise InputError(f"A scan cannot be mirrored along axes {tuple(flips)}.", "Use axes from 0 to 2.")
    if uncertainty is not None and not flips and attention is None:
        return Evidence(uncertainty)
    sites = () if attention is None else (attention,)
    plain = yield from segment_steps(volume, predictor, probabilities=True, uncertainty=True, attention=sites)
    assert plain.probabilities is not None
    apart: Float | None = None
    for axis in flips:
        mirrored = replace(volume, array=np.flip(volume.array, axis + 1))
        other = yield from segment_steps(mirrored, predictor, probabilities=True)
        assert other.probabilities is not None
        turned = np.flip(other.probabilities, axis + 1)
        far = np.abs(plain.probabilities - turned).sum(axis=0) / np.float32(2 * len(flips))
        apart = far if apart is None else apart + far
    attended = None if attention is None else plain.attention[attention].on_image().mean(axis=0)
    return Evidence(plain.uncertainty, apart, attended)


@dataclass(frozen=True, eq=False)
class _Signs:
    """The signs as maps, with the slices first."""

    labels: Labels
    maps: Mapping[str, Float]
    trusted: Mask | None

    @classmethod
    def of(cls, labels: Labels, evidence: Evidence, axis: int, trusted: Mask | None) -> _Signs:
        def first(array: Any) -> Any:
            return np.moveaxis(array, axis, 0)

        known = {name: first(values) for name, values in vars(evidence).items() if values is not None}
        return cls(first(labels), known, None if trusted is None else first(trusted))

    def __len__(self) -> int:
        return len(self.labels)

    def shares(self, name: str) -> NDArray[np.float64]:
        """Which share of a sign lies in each slice; 0 everywhere if there is nothing of it."""
        sums = np.array([float(self.slice(name, index).sum(dtype=np.float64)) for index in range(len(self))])
        return sums / (float(sums.sum()) or 1.0)

    def slice(self, name: str, index: int) -> NDArray[np.floating[Any]]:
        """A sign's map (two axes) in a slice; 0 where somebody vouches for the label or nothing is known."""
        here = self.labels[index]
        if name == "roughness":
            beside = [self.labels[n] for n in (index - 1, index + 1) if 0 <= n < len(self)]
            found = sum(((here != other).astype(np.float32) for other in beside), np.zeros(here.shape, np.float32))
            found /= max(1, len(beside))
        elif name not in self.maps:
            return np.zeros(here.shape, np.float32)
        else:
            found = np.maximum(self.maps[name][index], 0)  # rounding leaves entropies a little below 0
            if name == "attention":
                found = np.where(here == 0, found, 0)
        return found if self.trusted is None else np.where(self.trusted[index], 0, found)

    def box(self, index: int, reason: str, shape: Sequence[int], axis: int) -> Box:
        """Where a sign is strongest in a slice: around the part that has most of it of what reaches half its height."""
        values = self.slice(reason, index)
        numbered, count = ndimage.label(values >= max(0.5 * float(np.percentile(values, 99.5)), 1e-3))
        whole = slice_box(shape, axis, index)
        if not count:
            return whole
        totals = ndimage.sum_labels(values, numbered, np.arange(1, count + 1))
        inside = bounds(numbered == 1 + int(np.argmax(totals)))
        assert inside is not None
        inside = grown(inside, values.shape, (_MARGIN,) * 2)
        return (*inside[:axis], whole[axis], *inside[axis:])


def _check(labels: Labels, evidence: Evidence, trusted: Mask | None) -> None:
    for what, values in {**vars(evidence), "trusted voxels": trusted}.items():
        if values is not None and values.shape != labels.shape:
            raise GeometryError(
                f"The {what} has shape {values.shape}, the mask {labels.shape}.", "Give arrays on the mask's voxels."
            )
