"""Tidying what a network says: largest parts, small parts gone, holes filled, outlines smoothed.

These work on whole masks from files and runs, in place and class by class. What a person does with a box of a mask,
as a proposal that can be looked at first, is in `napari_medattn.correct.clean`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_medattn.errors import InputError
from napari_medattn.geometry import Triple

Labels = NDArray[Any]
Box = tuple[slice, slice, slice]
_REACH = 3.0  # standard deviations at which the smoothing kernel ends


@dataclass(frozen=True)
class Tidy:
    """One step of tidying.

    As text it is ``largest``, ``small:50``, ``holes``, ``holes:100`` or ``smooth:1.5``; for some classes only it has
    their numbers behind it: ``largest@1,2``.

    Attributes:
        step: ``"largest"`` keeps the largest part of each class. ``"small"`` removes parts below a size. ``"holes"``
            fills background that one class encloses, up to a size if one is given. ``"smooth"`` lets each voxel go to
            the class that is most of its surroundings.
        size: Size in mm^3 (mm^2 in a single slice), for ``"smooth"`` the standard deviation in mm; in voxels where
            the image has no lengths.
        classes: Classes that it is done to; empty for all but the background.
    """

    step: str
    size: float | None = None
    classes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.step not in _STEPS:
            raise InputError(f"There is no step {self.step!r} of tidying.", f"Use one of {', '.join(_STEPS)}.")
        if self.step in ("small", "smooth") and self.size is None:
            raise InputError(f"{self.step} needs a size.", f"Write {self.step}:2, for example.")
        if self.step == "largest" and self.size is not None:
            raise InputError("The largest part is kept whatever its size.", "Write largest.")
        if self.size is not None and not 0 < self.size < np.inf:
            raise InputError(f"{self.step} cannot go by a size of {self.size}.", "Use a size above 0.")
        if any(number < 1 for number in self.classes):
            raise InputError(f"{self.step} works on classes from 1 up, not on {self.classes}.", "Leave out the others.")

    @classmethod
    def parse(cls, text: str) -> Tidy:
        """Read the text form.

        Raises:
            InputError: If it is none.
        """
        head, _, classes = text.partition("@")
        step, _, size = head.partition(":")
        try:
            numbers = tuple(int(number) for number in classes.split(",")) if classes else ()
            return cls(step, float(size) if size else None, numbers)
        except ValueError as error:
            raise InputError(f"{text!r} is no step of tidying.", "Write it like small:50 or largest@1,2.") from error

    def __str__(self) -> str:
        size = "" if self.size is None else f":{self.size:g}"
        return f"{self.step}{size}" + ("@" + ",".join(map(str, self.classes)) if self.classes else "")


def tidy(labels: Labels, step: Tidy, spacing: Triple) -> int:
    """Tidy a mask in place.

    Args:
        labels: (Z, Y, X) classes.
        step: What to do.
        spacing: Voxel size along (Z, Y, X).

    Returns:
        Number of voxels that changed.
    """
    return _STEPS[step.step](labels, step, spacing)


def _keep_largest(labels: Labels, step: Tidy, spacing: Triple) -> int:
    changed = 0
    for number, box in _classes(labels, step):
        parts, sizes = _parts(labels[box] == number)
        if len(sizes) > 2:
            lost = np.ones(len(sizes), bool)
            lost[[0, 1 + int(sizes[1:].argmax())]] = False
            changed += _give_away(labels, box, parts, lost)
    return changed


def _remove_small(labels: Labels, step: Tidy, spacing: Triple) -> int:
    assert step.size is not None
    changed = 0
    for number, box in _classes(labels, step):
        parts, sizes = _parts(labels[box] == number)
        lost = sizes * _voxel(labels, spacing) < step.size
        lost[0] = False
        changed += _give_away(labels, box, parts, lost)
    return changed


def _fill_holes(labels: Labels, step: Tidy, spacing: Triple) -> int:
    """A slice by itself has holes of its own: an axis of one voxel has no rim."""
    changed = 0
    for number, box in _classes(labels, step):
        inside = labels[box]
        parts, sizes = _parts(inside != number)
        hole = np.ones(len(sizes), bool)
        hole[0] = False
        for axis in range(3):
            if labels.shape[axis] > 1:
                hole[parts.take((0, -1), axis)] = False
        if step.size is not None:
            hole &= sizes * _voxel(labels, spacing) <= step.size
        hole[parts[(inside != number) & (inside != 0)]] = False  # another class lies in it
        filled = hole[parts]
        inside[filled] = number
        changed += int(np.count_nonzero(filled))
    return changed


def _smooth(labels: Labels, step: Tidy, spacing: Triple) -> int:
    assert step.size is not None
    sigmas = [step.size / side if size > 1 else 0.0 for side, size in zip(spacing, labels.shape, strict=True)]
    chosen = list(_classes(labels, step))
    if not chosen:
        return 0
    margin = [int(_REACH * sigma + 0.5) + 1 for sigma in sigmas]
    box = _grown(_around([box for _, box in chosen]), margin, labels.shape)
    before = labels[box]
    movable = np.isin(before, [0, *(number for number, _ in chosen)])
    best, found = np.full(before.shape, -1, np.float32), before.copy()
    for number in (0, *(number for number, _ in chosen)):
        own = before == number
        share = ndimage.gaussian_filter(own.astype(np.float32), sigmas, mode="nearest", truncate=_REACH)
        share[own] += 1e-6  # who is there stays in a tie
        better = movable & (share > best)
        best[better], found[better] = share[better], number
    changed = int(np.count_nonzero(found != before))
    labels[box] = found
    return changed


_STEPS: dict[str, Callable[[Labels, Tidy, Triple], int]] = {
    "largest": _keep_largest,
    "small": _remove_small,
    "holes": _fill_holes,
    "smooth": _smooth,
}


def _classes(labels: Labels, step: Tidy) -> Iterator[tuple[int, Box]]:
    """The classes to work on that occur, each with the box around it."""
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is not None and (not step.classes or number in step.classes):
            yield number, box


def _parts(inside: NDArray[np.bool_]) -> tuple[NDArray[np.int32], NDArray[np.intp]]:
    """Parts that are connected through faces, numbered from 1, and the voxels of each from number 0 on."""
    parts, count = ndimage.label(inside)
    return parts, np.bincount(parts.ravel(), minlength=count + 1)


def _give_away(labels: Labels, box: Box, parts: NDArray[np.int32], lost: NDArray[np.bool_]) -> int:
    """Let the voxels of lost parts take the label that touches their part with most faces."""
    if not lost.any():
        return 0
    around = _grown(box, (1, 1, 1), labels.shape)
    here, own = labels[around], np.zeros([s.stop - s.start for s in around], np.int32)
    own[tuple(slice(b.start - a.start, b.stop - a.start) for a, b in zip(around, box, strict=True))] = parts
    votes = np.zeros((len(lost), int(here.max()) + 1), np.int64)
    for axis in range(3):
        ahead: list[Any] = [slice(None)] * 3
        behind: list[Any] = [slice(None)] * 3
        ahead[axis], behind[axis] = slice(1, None), slice(None, -1)
        for mine, other in ((tuple(ahead), tuple(behind)), (tuple(behind), tuple(ahead))):
            face = lost[own[mine]] & (own[mine] != own[other])
            np.add.at(votes, (own[mine][face], here[other][face]), 1)
    inside = lost[own]
    here[inside] = votes.argmax(axis=1)[own[inside]]
    return int(np.count_nonzero(inside))


def _voxel(labels: Labels, spacing: Triple) -> float:
    """Size of a voxel, without the axes that are a single voxel long."""
    return prod(side for side, size in zip(spacing, labels.shape, strict=True) if size > 1)


def _around(boxes: Sequence[Box]) -> Box:
    z, y, x = (slice(min(box[axis].start for box in boxes), max(box[axis].stop for box in boxes)) for axis in range(3))
    return z, y, x


def _grown(box: Box, margin: Sequence[int], shape: Sequence[int]) -> Box:
    z, y, x = (
        slice(max(0, side.start - more), min(size, side.stop + more))
        for side, more, size in zip(box, margin, shape, strict=True)
    )
    return z, y, x
