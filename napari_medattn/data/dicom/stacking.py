"""How the images of a series lie on each other: sorted by position, whatever their names and numbers say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_medattn.data.dicom.frames import Frame
from napari_medattn.errors import ReadError
from napari_medattn.geometry import Grid

_SAME_PLACE = 1e-3  # mm between images that count as one position
_EVEN = 0.01  # share of a step by which gaps may differ without a word
_WHOLE = 0.05  # share of a step by which a gap may miss a multiple of it
_SHIFTED = 0.5  # share of a pixel by which slices may be shifted without a word
_FLIP = np.diag([-1.0, -1.0, 1.0, 1.0])  # DICOM's world is LPS+


@dataclass(frozen=True, eq=False)
class Stack:
    """A regular grid and the images on it.

    Attributes:
        slots: The images of each slice along Z, one per channel; None for a slice that is missing.
        grid: Shape (Z, Y, X) and affine.
        notes: What had to be decided.
        uneven: Whether the slices lie at other distances than the grid says.
    """

    slots: tuple[tuple[Frame, ...] | None, ...]
    grid: Grid
    notes: tuple[str, ...]
    uneven: bool = False


def stack(name: str, frames: Sequence[Frame]) -> Stack:
    """Put the images of a series on a grid.

    Images of one position become channels. Slices that are missing between others leave a gap, where no more are
    missing than are there. Slices at uneven distances are shown at their mean or usual distance, and that is told.

    Args:
        name: The file or folder, for messages.
        frames: Images of one size and direction.

    Raises:
        ReadError: If some positions have more images than others.
    """
    unique = list({frame.uid: frame for frame in frames}.values())
    copies = len(frames) - len(unique)
    told = (f"{copies} images are there twice.",) if copies else ()
    if any(frame.position is None or frame.orientation is None for frame in unique):
        return _without_positions(unique, told)
    x, y = np.array(unique[0].orientation[:3]), np.array(unique[0].orientation[3:])  # type: ignore[index]
    across = np.cross(x, y)
    if not 0.9 < np.linalg.norm(across) < 1.1:
        raise ReadError(
            f"{name}: the directions of rows and columns (ImageOrientationPatient) are not at right angles.",
            "Export it anew.",
        )
    planes = _planes(name, unique, across)
    corners = np.array([plane[0].position for plane in planes], float)
    slots, step, notes, uneven = _steps(planes, corners, across)
    rows, columns, unit = _pixel_size(unique[0])
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = x * columns, y * rows, step
    affine[:3, 3] = corners[0]
    shape = (len(slots), unique[0].rows, unique[0].columns)
    if unit != "mm":
        notes = (*notes, "It gives no pixel size.")
    return Stack(slots, Grid(shape, _FLIP @ affine, unit), (*told, *notes), uneven)


def _planes(name: str, frames: Sequence[Frame], across: NDArray[np.float64]) -> list[tuple[Frame, ...]]:
    """Images by position along the normal; all positions have the same number of them."""
    ordered = sorted(((float(np.dot(f.position, across)), f.rank, n) for n, f in enumerate(frames)))  # type: ignore[arg-type]
    planes: list[list[Frame]] = []
    last = -np.inf
    for place, _, number in ordered:
        if place - last > _SAME_PLACE:
            planes.append([])
        planes[-1].append(frames[number])
        last = place
    counts = sorted({len(plane) for plane in planes})
    if len(counts) > 1:
        raise ReadError(
            f"{name} mixes images: some positions have {counts[0]}, others {counts[-1]}.",
            "Choose a folder with the images of one acquisition.",
        )
    return [tuple(sorted(plane, key=lambda frame: frame.rank)) for plane in planes]


def _steps(
    planes: list[tuple[Frame, ...]], corners: NDArray[np.float64], across: NDArray[np.float64]
) -> tuple[tuple[tuple[Frame, ...] | None, ...], NDArray[np.float64], tuple[str, ...], bool]:
    """Slices with gaps for those that are missing, the step between them (LPS+), notes, and whether they are uneven."""
    if len(planes) == 1:
        return tuple(planes), across * (planes[0][0].thickness or 1.0), (), False
    gaps = np.diff(corners @ across)
    whole, count = corners[-1] - corners[0], len(planes)
    mean = whole / (count - 1)
    off = float(np.abs(corners - corners[0] - np.arange(count)[:, None] * mean).max())
    if np.ptp(gaps) <= 2 * _EVEN * gaps.mean():
        if off <= _SHIFTED * min(planes[0][0].spacing or (1.0,)):
            return tuple(planes), mean, (), False
        note = f"Its slices are shifted against each other by up to {off:.2g} mm: they are shown in one line."
        return tuple(planes), mean, (note,), True
    multiples = np.rint(gaps / gaps.min())
    missing = int(multiples.sum()) - (count - 1)
    fits = (np.abs(gaps - multiples * gaps.sum() / multiples.sum()) < _WHOLE * gaps.min()).all()
    if fits and 0 < missing <= count:
        slots: list[tuple[Frame, ...] | None] = []
        for plane, wide in zip(planes, [*multiples, 1], strict=True):
            slots += [plane, *([None] * (int(wide) - 1))]
        after = ", ".join(str(n + 1) for n in np.flatnonzero(multiples > 1)[:5])
        are = "slices are" if missing > 1 else "slice is"
        note = f"{missing} {are} missing (after slice {after}) and filled in from the neighbours."
        return tuple(slots), whole / multiples.sum(), (note,), False
    between = f"{gaps.min():.4g} to {gaps.max():.4g} mm"
    if off < gaps.mean() / 2:
        note = f"Its slices lie {between} apart: they are shown at the mean distance, at most {off:.2g} mm off."
        return tuple(planes), mean, (note,), True
    usual = across * float(np.median(gaps))
    note = (
        f"Its slices lie {between} apart: they are shown {np.median(gaps):.4g} mm apart, so lengths across are wrong."
    )
    return tuple(planes), usual, (note,), True


def _without_positions(frames: list[Frame], told: tuple[str, ...]) -> Stack:
    """Images that say nothing of their place, one behind the other."""
    ordered = sorted(frames, key=lambda frame: (frame.rank[-2:], str(frame.ref.path)))
    rows, columns, unit = _pixel_size(ordered[0])
    step = ordered[0].thickness if unit == "mm" else None
    if len(ordered) > 1:
        told = (*told, "Its images say nothing of their position: they are shown in the order of their numbers.")
    shape = (len(ordered), ordered[0].rows, ordered[0].columns)
    grid = Grid.from_spacing(shape, (step or 1.0, rows, columns), unit)
    return Stack(tuple((frame,) for frame in ordered), grid, told)


def _pixel_size(frame: Frame) -> tuple[float, float, str]:
    return (*frame.spacing, "mm") if frame.spacing is not None else (1.0, 1.0, "pixel")  # type: ignore[return-value]
