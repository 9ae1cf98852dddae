"""The tools that the window offers: what each needs, and how it is asked of the core."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from napari_medattn.correct.boxes import foreground, grown, within
from napari_medattn.correct.proposal import Box, Labels, Proposal
from napari_medattn.errors import InputError
from napari_medattn.layerdata import KEY, layer_place
from napari_medattn.store.edit import Edit
from napari_medattn.widgets.case import Case


@dataclass(frozen=True, eq=False)
class Task:
    """What a tool is asked to do; arrays are the layers' own, and only read.

    Attributes:
        labels: The mask.
        box: Where, with plain limits.
        locked: Classes that may not change.
        label: The class that is painted with.
        amount: The tool's number, e.g. a length in mm.
        axis: The mask's axis across which the slices in view lie.
        index: The slice in view along it.
        spacing: Voxel size along the mask's axes.
        image: The image layer's array, channels too.
        channel_axis: Its axis of channels, if any.
        probabilities: (K, *mask's shape), if the network's are there.
        strokes: A person's newest strokes, oldest first.
        voxel: The voxel that was clicked on, if the tool asks for one.
    """

    labels: Labels
    box: Box
    locked: frozenset[int]
    label: int
    amount: float
    axis: int
    index: int
    spacing: tuple[float, ...]
    image: Any
    channel_axis: int | None
    probabilities: Any = None
    strokes: tuple[Edit, ...] = ()
    voxel: tuple[int, ...] = ()

    @classmethod
    def of(cls, case: Case, box: Box, amount: float, voxel: tuple[int, ...] = ()) -> Task:
        """A task on a case's mask as it is now."""
        assert case.mask is not None and case.watch is not None
        case.watch.flush()
        mask, place = case.mask, layer_place(case.image)
        labels, axis = case.watch.labels, case.axis_in_view()
        here = case.slice_in_view()[axis]
        return cls(
            labels,
            box,
            case.locked,
            int(mask.selected_label),
            amount,
            axis,
            here.start or 0,
            tuple(float(step) for step in mask.metadata[KEY]["grid"].spacing[-labels.ndim :]),
            case.image.data,
            place.channel_axis,
            _probabilities(case, labels),
            newest_strokes(case.watch.log.edits),
            voxel,
        )

    @property
    def classes(self) -> tuple[int, ...] | None:
        """Foreground labels that may change, named or not; None for all. Reads the mask if some are locked."""
        if not self.locked:
            return None
        return tuple(n for n in foreground(self.labels) if n not in self.locked)

    def intensities(self, box: Box) -> Any:
        """The image in a box; of several channels the mean."""
        return intensities(self.image, self.channel_axis, box)


def intensities(image: Any, channel_axis: int | None, box: Box) -> Any:
    """An image layer's array in a box of the mask; of several channels the mean."""
    if channel_axis is None:
        return np.asarray(image[box])
    at = channel_axis % image.ndim
    whole = (*box[:at], slice(None), *box[at:])
    return np.asarray(image[whole], np.float32).mean(axis=at)


def _probabilities(case: Case, labels: Labels) -> Any:
    """The network's (K, *mask's shape), if it was asked about these classes and kept them."""
    made = case.prediction
    if made is None or made.probabilities is None or tuple(made.class_names) != case.scheme:
        return None
    known = made.probabilities if labels.ndim == 3 else made.probabilities[:, 0]
    return known if known.shape[1:] == labels.shape else None


@dataclass(frozen=True)
class Recipe:
    """A tool as the window offers it.

    Attributes:
        name: What it is called.
        tip: What it changes.
        make: Makes the proposal.
        amount: Name and unit, smallest, largest and first value of its number, if it has one; ``{size}`` stands for
            the unit of what is looked at, an area or a volume.
        volume_only: Whether it needs several slices.
        clicks: Whether it wants a voxel to be clicked on.
    """

    name: str
    tip: str
    make: Callable[[Task], Proposal] = field(repr=False)
    amount: tuple[str, float, float, float] | None = None
    volume_only: bool = False
    clicks: bool = False


def newest_strokes(edits: Sequence[Edit], most: int = 50) -> tuple[Edit, ...]:
    """What a person did by hand since a tool or a network last changed the mask, oldest first."""
    strokes: list[Edit] = []
    for edit in reversed(edits[-most:]):
        if not edit.human:
            break
        strokes.append(edit)
    return tuple(reversed(strokes))


def _grow(task: Task) -> Proposal:
    from napari_medattn.correct.grow import grow

    drawn = _drawn(task)
    if not drawn:
        raise InputError(
            "There are no strokes to grow here.", "Paint a few strokes with the brush or the eraser, then try again."
        )
    reach = task.amount
    voxels = np.concatenate(list(drawn.values()))
    tight = tuple(slice(int(a), int(b) + 1) for a, b in zip(voxels.min(0), voxels.max(0), strict=True))
    # A part that holds all that may change, with the mask as it was before the strokes.
    around = grown(tight, task.labels.shape, [int(reach / size) + 2 for size in task.spacing])
    part = task.labels[around].copy()
    _take_back(part, task, around)
    meant = [(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(around, task.box, strict=True)]
    start = [side.start for side in around]
    found = grow(
        part,
        {label: where - start for label, where in drawn.items()},
        image=task.intensities(around),
        probabilities=None if task.probabilities is None else task.probabilities[(slice(None), *around)],
        box=within(tuple(slice(a, b) for a, b in meant), around),
        spacing=task.spacing,
        reach=reach,
    )
    box = tuple(slice(s.start + at, s.stop + at) for s, at in zip(found.box, start, strict=True))
    return replace(found, box=box)


def _drawn(task: Task) -> dict[int, Any]:
    """Voxels (N, axes) of the strokes inside the box, by the label that the mask shows there now."""
    if not task.strokes:
        return {}
    places = np.unique(np.concatenate([stroke.places for stroke in task.strokes]))
    voxels = np.stack(np.unravel_index(places.astype(np.intp), task.labels.shape), axis=1)
    low, high = np.array([[s.start, s.stop] for s in task.box]).T
    voxels = voxels[((voxels >= low) & (voxels < high)).all(axis=1)]
    shown = task.labels[tuple(voxels.T)]
    return {int(n): voxels[shown == n] for n in np.unique(shown) if n >= 0}


def _take_back(part: Labels, task: Task, around: Box) -> None:
    """Take the strokes out of a part of the mask."""
    low, high = np.array([[s.start, s.stop] for s in around]).T
    for stroke in reversed(task.strokes):
        voxels = np.stack(np.unravel_index(stroke.places.astype(np.intp), task.labels.shape), axis=1)
        inside = ((voxels >= low) & (voxels < high)).all(axis=1)
        part[tuple((voxels[inside] - low).T)] = stroke.before[inside]


def _between(task: Task) -> Proposal:
    from napari_medattn.correct.between import fill_between

    if task.box[task.axis].stop - task.box[task.axis].start < 3:
        raise InputError("There is nothing between slices in one slice.", "Work in 3-D or on a selection.")
    return fill_between(task.labels, axis=task.axis, box=task.box, spacing=task.spacing, classes=task.classes)


def _smooth(task: Task) -> Proposal:
    from napari_medattn.correct.clean import smooth

    return smooth(task.labels, task.amount, box=task.box, spacing=task.spacing, classes=task.classes)


def _holes(task: Task) -> Proposal:
    from napari_medattn.correct.clean import fill_holes

    return fill_holes(task.labels, box=task.box, spacing=task.spacing)


def _islands(task: Task) -> Proposal:
    from napari_medattn.correct.clean import remove_islands

    return remove_islands(task.labels, task.amount, box=task.box, spacing=task.spacing, classes=task.classes)


def _largest(task: Task) -> Proposal:
    from napari_medattn.correct.clean import keep_largest

    return keep_largest(task.labels, box=task.box, spacing=task.spacing, classes=task.classes)


def _island(task: Task) -> Proposal:
    from napari_medattn.correct.clean import remove_island

    return remove_island(task.labels, task.voxel, box=task.box, spacing=task.spacing)


def _relabel(task: Task) -> Proposal:
    from napari_medattn.correct.relabel import relabel

    return relabel(task.labels, task.voxel, task.label, box=task.box)


def _split(task: Task) -> Proposal:
    from napari_medattn.correct.split import split

    return split(task.labels, task.label, box=task.box)


def _waist(task: Task) -> Proposal:
    from napari_medattn.correct.split import split_at_waist

    return split_at_waist(task.labels, task.voxel, max(2, round(task.amount)), box=task.box, spacing=task.spacing)


def _copy(task: Task, step: int) -> Proposal:
    from napari_medattn.correct.relabel import copy_slice

    source = task.index + step
    if not 0 <= source < task.labels.shape[task.axis]:
        raise InputError("There is no slice on that side to copy from.", "Copy from the other side.")
    return copy_slice(task.labels, source, task.index, axis=task.axis, box=task.box)


def _threshold(task: Task) -> Proposal:
    from napari_medattn.correct.brush import threshold_in_brush

    # Only what lies under the brush is read.
    one = tuple(slice(n, n + 1) for n in task.voxel)
    reach = grown(one, task.labels.shape, [int(task.amount / size) + 2 for size in task.spacing])
    part = tuple(slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(reach, task.box, strict=True))
    start = [side.start for side in part]
    centre = [n - at for n, at in zip(task.voxel, start, strict=True)]
    found = threshold_in_brush(
        task.labels[part], task.intensities(part), centre, task.amount, task.label, spacing=task.spacing
    )
    return replace(found, box=tuple(slice(s.start + at, s.stop + at) for s, at in zip(found.box, start, strict=True)))


RECIPES = (
    Recipe(
        "grow strokes",
        "Grow the strokes that you painted or erased since the last tool into the regions that they mark.",
        _grow,
        ("reach, mm", 1.0, 200.0, 20.0),
    ),
    Recipe(
        "fill between slices",
        "Fill background between slices that hold a class, from the shapes on either side.",
        _between,
        volume_only=True,
    ),
    Recipe("smooth", "Smooth the outlines of all classes at once.", _smooth, ("over, mm", 0.1, 50.0, 1.5)),
    Recipe("fill holes", "Fill background that is enclosed by classes.", _holes),
    Recipe(
        "remove islands",
        "Remove parts below a size: a volume, in a single slice an area.",
        _islands,
        ("below, {size}", 0.1, 1e6, 20.0),
    ),
    Recipe("keep the largest part", "Of each class, keep the largest part alone.", _largest),
    Recipe("remove a part", "Remove the part that you click on.", _island, clicks=True),
    Recipe("relabel a part", "Give the part that you click on the class you paint with.", _relabel, clicks=True),
    Recipe("split parts", "Give separate parts of the class you paint with labels of their own.", _split),
    Recipe(
        "split at the waist",
        "Cut the part that you click on at its narrowest places.",
        _waist,
        ("into parts", 2, 20, 2),
        clicks=True,
    ),
    Recipe("copy previous slice", "Copy the slice before this one.", lambda task: _copy(task, -1), volume_only=True),
    Recipe("copy next slice", "Copy the slice after this one.", lambda task: _copy(task, 1), volume_only=True),
    Recipe(
        "threshold at a click",
        "Around your click, give background as bright as there (or as dark) the class you paint with.",
        _threshold,
        ("radius, mm", 0.5, 100.0, 8.0),
        clicks=True,
    ),
)
