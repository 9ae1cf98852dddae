"""A simulated annotator, to count strokes and slices with: seeded, and knowing only what it has looked at.

It corrects a mask slice by slice. Of a slice that it looks at it sees the truth, of others nothing: `Hidden` refuses.
In the slice it takes the largest error, that is the largest set of connected voxels that are wrong and truly of one
class, and does one of these, each counted as one stroke:

- *Brush*: a round brush of one radius along one line, with the true class. The line is the middle line (the longest
  path in the skeleton) of where the brush can stand without leaving the true class and still touch the error; of the
  radii in `Hand.radii` it takes the one that mends most. Its hand shakes: the whole line is off by a normally
  distributed step, rounded to voxels.
- *Scribble and grow*: where the best stroke of the brush would leave much of the error, it draws a line one voxel wide
  along the middle of the error, without its ends, and looks what `grow` makes of it. If that mends half of what the
  brush would or more, it keeps it, else it undoes it, which does not give the stroke back, and takes the brush.
- *Fill between*: where it has been on both sides, it first looks what clearing the slice and `fill_between` would give,
  and keeps that if it mends more than two strokes are worth; clearing and filling count as two strokes.

It leaves a slice when no error is left that is worth a stroke. With its choice of brush it is handier than people are,
which speaks for the brush where tools are compared; what orders are worth does not hang on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medattn.correct.between import fill_between
from napari_medattn.correct.boxes import Mask, slice_box
from napari_medattn.correct.grow import grow
from napari_medattn.correct.lines import Line, best_line, errors, middle_line
from napari_medattn.correct.proposal import Labels, Proposal
from napari_medattn.errors import InputError

_ENOUGH = 0.7  # of an error mended by one stroke of the brush: no other tool is tried
_WORTH_KEEPING = 0.5  # of what the brush would mend: what has grown stays
_ENDS = 0.15  # of a scribble, at either end, that are left out


class Hidden:
    """A truth of which only slices can be seen that were looked at.

    Args:
        truth: (Z, Y, X) labels.
    """

    def __init__(self, truth: Labels) -> None:
        self._truth = truth
        self.looked: list[int] = []

    def look(self, index: int) -> None:
        """Look at a slice."""
        if index not in self.looked:
            self.looked.append(index)

    def slice(self, index: int) -> Labels:
        """The (Y, X) labels of a slice that was looked at.

        Raises:
            InputError: If it was not.
        """
        if index not in self.looked:
            raise InputError(f"Slice {index} was not looked at.", "Look at it first.")
        layer: Labels = self._truth[index]
        return layer


@dataclass(frozen=True)
class Hand:
    """How the annotator draws.

    Attributes:
        radii: Radii of the brush in voxels; 0 is a single voxel.
        shake: Standard deviation in voxels by which a stroke is off.
        worth: Wrong voxels that a stroke must mend to be worth it.
        most: Strokes after which a slice is left in any case.
    """

    radii: tuple[int, ...] = (1, 3, 8)
    shake: float = 0.5
    worth: int = 5
    most: int = 60


@dataclass(frozen=True, eq=False)
class Stroke:
    """What was done.

    Attributes:
        tool: ``"brush"``, ``"grow"`` or ``"between"``.
        after: (Y, X) the slice's labels after it.
        cost: How many strokes it counts as.
    """

    tool: str
    after: Labels
    cost: int = 1


@dataclass(eq=False)
class Annotator:
    """Corrects a mask, see the module.

    Attributes:
        labels: (Z, Y, X) mask; it is changed in place.
        truth: What is right, hidden.
        spacing: Voxel size in mm.
        tools: Of ``"grow"`` and ``"between"``, what it may use beside the brush.
        image: (Z, Y, X) intensities, for growing.
        probabilities: (K, Z, Y, X), for growing.
        hand: How it draws.
        seed: All that is random in a slice follows from this and the slice.
        memory: Strokes in a slice follow from its labels, the slice, tools and hand; give annotators of one case and
            seed the same memory, and they are worked out once.
    """

    labels: Labels
    truth: Hidden
    spacing: Sequence[float]
    tools: frozenset[str] = frozenset()
    image: NDArray[np.generic] | None = None
    probabilities: NDArray[np.floating[Any]] | None = None
    hand: Hand = field(default_factory=Hand)
    seed: int = 0
    memory: dict[tuple[Any, ...], list[Stroke]] = field(default_factory=dict)

    def correct(self, index: int) -> list[Stroke]:
        """Look at a slice and correct it; returns the strokes that this took."""
        self.truth.look(index)
        strokes = self._fill_between(index) if "between" in self.tools else []
        if strokes:
            self.labels[index] = strokes[-1].after
        key = (index, "grow" in self.tools, self.hand, self.labels[index].tobytes())
        if key not in self.memory:
            self.memory[key] = self._draw(index)
        strokes += self.memory[key]
        if strokes:
            self.labels[index] = strokes[-1].after
        return strokes

    def _draw(self, index: int) -> list[Stroke]:
        """Correct a slice with brush and scribbles."""
        truth, random = self.truth.slice(index), np.random.default_rng([self.seed, index])
        strokes: list[Stroke] = []
        tried = np.zeros(truth.shape, bool)
        while len(strokes) < self.hand.most:
            before = self.labels[index].copy()
            line = self._next_line(before, truth)
            if line is None:
                break
            scribble = "grow" in self.tools and line.mends < _ENOUGH * np.count_nonzero(line.error)
            if scribble and not (tried & line.error).any():
                after = self._scribbled(index, line)
                if wrong_voxels(before, truth) - wrong_voxels(after, truth) < _WORTH_KEEPING * line.mends:
                    after, tried = before, tried | line.error
                strokes.append(Stroke("grow", after))
            else:
                after = before.copy()
                after[line.covers(np.rint(random.normal(0, self.hand.shake, 2)).astype(int).tolist())] = line.label
                better = wrong_voxels(after, truth) < wrong_voxels(before, truth)
                strokes.append(Stroke("brush", after if better else before))
            self.labels[index] = strokes[-1].after
        return strokes

    def _next_line(self, labels: Labels, truth: Labels) -> Line | None:
        """The best stroke at the largest error at which there is one worth it."""
        for error in errors(labels, truth, self.hand.worth):
            line = best_line(labels, truth, error, self.hand.radii)
            if line is not None and line.mends >= self.hand.worth:
                return line
        return None

    def _scribbled(self, index: int, line: Line) -> Labels:
        """The slice after a scribble in an error has grown."""
        drawn = np.argwhere(middle_line(line.error, _ENDS))
        proposal = grow(
            self.labels,
            {line.label: np.column_stack([np.full(len(drawn), index), drawn])},
            image=self.image,
            probabilities=self.probabilities,
            box=slice_box(self.labels.shape, 0, index),
            spacing=self.spacing,
        )
        return _applied(proposal, self.labels, index)

    def _fill_between(self, index: int) -> list[Stroke]:
        """Clear the slice and fill it from those on either side, if that is worth it."""
        below = [n for n in self.truth.looked if n < index]
        above = [n for n in self.truth.looked if n > index]
        if not below or not above:
            return []
        first, last = max(below), min(above)
        part = self.labels[first : last + 1].copy()
        part[1:-1] = 0
        proposal = fill_between(part, spacing=self.spacing, slices=(0, last - first))
        after, truth = _applied(proposal, part, index - first), self.truth.slice(index)
        if wrong_voxels(self.labels[index], truth) - wrong_voxels(after, truth) <= 2 * self.hand.worth:
            return []
        return [Stroke("between", after, cost=2)]


def wrong_voxels(labels: Labels, truth: Labels) -> int:
    """How many labels differ."""
    return int(np.count_nonzero(labels != truth))


def _applied(proposal: Proposal, labels: Labels, index: int) -> Labels:
    """A slice of a mask as it would be with a proposal."""
    after: Labels = labels[index].copy()
    layers, *plane = proposal.box
    if layers.start <= index < layers.stop:
        changes: Mask = proposal.changes[index - layers.start]
        after[tuple(plane)][changes] = proposal.labels[index - layers.start][changes]
    return after
