"""A contact sheet: the mask and every attention map on a few slices, as a picture or as pages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from napari_medattn.errors import GeometryError, InputError
from napari_medattn.files import atomic_write
from napari_medattn.look import picture
from napari_medattn.look.card import describe, short_unit
from napari_medattn.look.figure import slice_of
from napari_medattn.look.placed_map import PlacedMap
from napari_medattn.look.plane import Plane

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_WIDTH, _PAGE = 190.0, 277.0  # mm: A4 with its margins
_LABEL, _BAR, _GAP, _MARGIN, _HEAD = 32.0, 13.0, 1.2, 1.0, 11.0  # mm
_DPI = 150
_MOST = 30000  # pixels that a picture may be high


@dataclass(frozen=True, eq=False)
class _Row:
    """A line of the sheet: a map on each slice, or the mask for None."""

    found: PlacedMap | None
    values: Sequence[NDArray[np.float32]] = ()
    limits: picture.Limits = (0.0, 1.0)


def contact_sheet(
    maps: Iterable[PlacedMap],
    path: Path | str,
    *,
    labels: NDArray[np.integer] | None = None,
    columns: int = 4,
    axis: int = 0,
) -> None:
    """Draw image, mask and maps of up to ``columns`` slices into a PNG, SVG, or the pages of a PDF.

    Maps are drawn slice by slice, so memory does not grow with the scan. Channel attention, which has no place on
    the image, is left out. A map with all heads gets a line for each.

    Args:
        maps: From `attention_maps` or `placed`.
        path: Where to; the suffix chooses the format.
        labels: The mask (Z, Y, X), if there is one; where all maps answer a question, its slice is enough.
        columns: Number of slices, spread evenly over those that hold foreground; where all maps answer a question,
            only the slice of the question is drawn.
        axis: The source axis that the slices cut, 0 for Z.

    Raises:
        InputError: If there is no map with a place on the image, or too many for one picture.
        GeometryError: If the mask has another shape than the image.
        SaveError: If the file cannot be written.
    """
    path, chosen = picture.check_suffix(path), [found for found in maps if found.site.spatial]
    if not chosen:
        raise InputError("There is no map with a place on the image to draw.", "Choose other attention sites.")
    source = chosen[0].source
    if all(found.asked is not None for found in chosen):
        slices = [next(found.asked.voxel[axis] for found in chosen if found.asked is not None)]
    else:
        if labels is not None and labels.shape != source.grid.shape:
            raise GeometryError(
                f"The mask has shape {labels.shape}, the image {source.name} {source.grid.shape}.",
                "Use the mask of this image.",
            )
        slices = spread_slices(np.ones(source.grid.shape, bool) if labels is None else labels, columns, axis)
    planes = [Plane.of(source, axis, index) for index in slices]
    masks = None if labels is None else [plane.turn(slice_of(labels, plane)) for plane in planes]
    count = sum(len(found.values) for found in chosen) + 1
    side = (_WIDTH - 2 * _MARGIN - _LABEL - _BAR - (len(planes) - 1) * _GAP) / len(planes)
    side = min(side, 60.0)
    height = side * planes[0].size[0] / planes[0].size[1]
    paged = path.suffix.lower() == ".pdf"
    per_page = max(1, int((_PAGE - _HEAD) // (height + _GAP))) if paged else count
    if not paged and (count * (height + _GAP) + _HEAD) * picture.MM * _DPI > _MOST:
        raise InputError(f"{count} lines are too many for one picture.", "Save a PDF, which has pages, or fewer maps.")
    title = f"{source.name}, {chosen[0].record.get('checkpoint', 'network')}"
    with picture.style():
        pages = _pages(_rows(chosen, planes), per_page, planes, masks, (side, height), title)
        if paged:
            _save_pages(pages, path, title, chosen)
        else:
            picture.save(next(pages), path, title, chosen, _DPI)


def spread_slices(labels: NDArray[np.generic], count: int, axis: int = 0) -> list[int]:
    """Up to ``count`` slice indices spread evenly over the slices that hold foreground, or over all."""
    filled = np.flatnonzero(labels.any(axis=tuple(a for a in range(3) if a != axis)))
    pool = filled if filled.size else np.arange(labels.shape[axis])
    picked = np.linspace(0, len(pool) - 1, min(count, len(pool)) + 2)[1:-1] if len(pool) > count else range(len(pool))
    return [int(pool[round(index)]) for index in picked]


def _rows(maps: Sequence[PlacedMap], planes: Sequence[Plane]) -> Iterator[_Row]:
    """The lines in order; a map is drawn when its line comes."""
    yield _Row(None)
    for found in maps:
        drawn = [found.draw(plane.box) for plane in planes]
        turned = [
            [plane.turn(values[head]) for plane, values in zip(planes, drawn, strict=True)] for head in _heads(found)
        ]
        limits = picture.common_limits(found, [values for line in turned for values in line])
        for head, line in zip(_heads(found), turned, strict=True):
            yield _Row(found.one(head), line, limits)


def _heads(found: PlacedMap) -> range:
    return range(len(found.values))


def _pages(
    rows: Iterator[_Row],
    per_page: int,
    planes: Sequence[Plane],
    masks: Sequence[NDArray[np.integer]] | None,
    size: tuple[float, float],
    title: str,
) -> Iterator[Figure]:
    while some := list(islice(rows, per_page)):
        yield _page(some, planes, masks, size, title)


def _page(
    rows: Sequence[_Row],
    planes: Sequence[Plane],
    masks: Sequence[NDArray[np.integer]] | None,
    size: tuple[float, float],
    title: str,
) -> Figure:
    side, height = size
    width = 2 * _MARGIN + _LABEL + len(planes) * (side + _GAP) + _BAR
    page = picture.new_figure(max(width, 110.0), _HEAD + len(rows) * (height + _GAP))
    picture.write(page, _MARGIN, 1.5, [f"{title}: where each block looks, not why."], size=8)
    lefts = [_MARGIN + _LABEL + number * (side + _GAP) for number in range(len(planes))]
    for left, plane in zip(lefts, planes, strict=True):
        picture.write(page, left, _HEAD - picture.LINE - 0.6, [plane.describe()], size=picture.SMALL)
    for number, row in enumerate(rows):
        top = _HEAD + number * (height + _GAP)
        mappable = None
        for column, (left, plane) in enumerate(zip(lefts, planes, strict=True)):
            axes = picture.add_axes(page, left, top, side, height)
            picture.draw_image(axes, plane, plane.window())
            mask = None if masks is None else masks[column]
            if row.found is not None:
                signed = row.found.site.normalisation == "l2"
                mappable = picture.draw_map(axes, plane, row.values[column], signed, row.limits)
                if mask is not None:
                    picture.draw_outlines(axes, mask, 0.8)
                picture.draw_query(axes, plane, row.found)
            elif mask is not None:
                picture.draw_classes(axes, plane, mask)
            if row.found is None and column == 0:
                picture.draw_letters(axes, plane)
                picture.draw_scale_bar(axes, plane)
        _label(page, row, top, masks is not None)
        if mappable is not None:
            axes = picture.add_axes(page, lefts[-1] + side + 1.5, top + 0.1 * height, 1.8, 0.8 * height)
            picture.draw_colour_bar(axes, mappable, row.limits, vertical=True)
    return page


def _label(page: Figure, row: _Row, top: float, masked: bool) -> None:
    """What a line shows, and in which unit, on its left."""
    if row.found is None:
        picture.write(page, _MARGIN, top, ["mask" if masked else "image"])
        return
    room = _LABEL - 2
    title = picture.wrap(row.found.site.title, room)
    picture.write(page, _MARGIN, top, title)
    small = [*picture.wrap(describe(row.found), room, picture.SMALL), short_unit(row.found)]
    below = top + picture.LINE * len(title)
    picture.write(page, _MARGIN, below, small, size=picture.SMALL, color=picture.FAINT)


def _save_pages(pages: Iterator[Figure], path: Path, title: str, maps: Sequence[PlacedMap]) -> None:
    from matplotlib.backends.backend_pdf import PdfPages

    with atomic_write(path) as temporary, PdfPages(temporary, metadata=picture.metadata(path, title, maps)) as pdf:
        for page in pages:
            pdf.savefig(page, dpi=_DPI)
