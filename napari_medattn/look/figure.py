"""A figure for a paper: image, mask and maps of one slice, at the size at which it is printed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_medattn.errors import GeometryError, InputError
from napari_medattn.look import picture
from napari_medattn.look.card import describe, short_unit
from napari_medattn.look.placed_map import PlacedMap
from napari_medattn.look.plane import Plane, best_slice
from napari_medattn.palette import class_colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMN, PAGE = 89.0, 183.0  # mm, the widths that most journals print
_NARROWEST, _GAP, _MARGIN, _BELOW, _BETWEEN = 27.0, 2.5, 0.7, 9.2, 1.8  # mm
_INDENT = 3.5  # mm from a panel's letter to its title
_TALLEST = 1.5  # height of a panel by its width
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


@dataclass(frozen=True, eq=False)
class _Panel:
    """What one panel shows: a map with its limits, else the mask, else the image alone."""

    title: str
    kind: str
    found: PlacedMap | None = None
    values: NDArray[np.float32] | None = None
    limits: picture.Limits = (0.0, 1.0)
    mask: bool = False


def attention_figure(
    maps: Iterable[PlacedMap],
    path: Path | str,
    *,
    labels: NDArray[np.integer] | None = None,
    class_names: Sequence[str] = (),
    axis: int = 0,
    index: int | None = None,
    width: float = PAGE,
    columns: int | None = None,
    dpi: int = 300,
) -> Plane:
    """Draw image, mask and maps of one slice into a PNG, PDF or SVG.

    Args:
        maps: From `attention_maps` or `placed`; maps with all heads get a panel for each. Channel attention, which
            has no place on the image, is left out.
        path: Where to; the suffix chooses the format. Fonts are embedded.
        labels: The mask (Z, Y, X), or only the slice of it; outlined on the maps.
        class_names: Names of its classes.
        axis: The source axis that the slice cuts, 0 for Z.
        index: Which slice; that of the query, or with most of the mask, or the middle one for None.
        width: In mm: 89 is a column of most journals, 183 a page.
        columns: Panels side by side; as many as stay legible for None.
        dpi: Dots per inch of what is not drawn as lines.

    Returns:
        The slice that was drawn.

    Raises:
        InputError: If there is no map, the slice does not exist, or a map is not known there.
        GeometryError: If the mask has another shape than the image.
        SaveError: If the file cannot be written.
    """
    path, chosen = picture.check_suffix(path), [found for found in maps if found.site.spatial]
    if not chosen:
        raise InputError("There is no map with a place on the image to draw.", "Choose other attention sites.")
    if index is None:
        asked = next((found.asked for found in chosen if found.asked is not None), None)
        index = asked.voxel[axis] if asked is not None else best_slice(labels, chosen[0].source, axis)
    plane = Plane.of(chosen[0].source, axis, index)
    mask = None if labels is None else plane.turn(slice_of(labels, plane))
    panels = [_Panel(plane.volume.name, plane.describe())]
    if mask is not None:
        panels.append(_Panel("mask", "", mask=True))
    panels += [panel for found in chosen for panel in _map_panels(found, plane)]
    with picture.style():
        drawn = _draw(panels, plane, mask, class_names, width, columns)
        picture.save(drawn, path, f"{plane.volume.name}, {plane.describe()}: attention", chosen, dpi)
    return plane


def slice_of(labels: NDArray[np.integer], plane: Plane) -> NDArray[np.integer]:
    """The mask on the plane's box, of the whole mask or of its slice.

    Raises:
        GeometryError: If the shapes do not belong together.
    """
    whole = plane.volume.grid.shape
    part = tuple(span.stop - span.start for span in plane.box)
    if labels.shape == whole:
        return labels[plane.box]
    if labels.shape != part:
        raise GeometryError(
            f"The mask has shape {labels.shape}, the image {plane.volume.name} {whole}.", "Use the mask of this image."
        )
    return labels


def _map_panels(found: PlacedMap, plane: Plane) -> list[_Panel]:
    """A panel for each head that the map has, with common limits."""
    drawn = [plane.turn(values) for values in found.draw(plane.box)]
    if not any(np.isfinite(values).any() for values in drawn):
        raise InputError(
            f"The map of {found.site.title} is not known on {plane.describe()} of {plane.volume.name}.",
            "Draw the slice that was asked about, or make the map there.",
        )
    limits = picture.common_limits(found, drawn)
    heads = [found.one(head) for head in range(len(drawn))]
    return [
        _Panel(head.site.title, describe(head), head, values, limits) for head, values in zip(heads, drawn, strict=True)
    ]


def _draw(
    panels: Sequence[_Panel],
    plane: Plane,
    mask: NDArray[np.integer] | None,
    class_names: Sequence[str],
    width: float,
    columns: int | None,
) -> Figure:
    across = columns or _columns(len(panels), width)
    rows = ceil(len(panels) / across)
    side = (width - 2 * _MARGIN - (across - 1) * _GAP) / across
    height = min(side * plane.size[0] / plane.size[1], _TALLEST * side)
    heads = [_Heading.of(panel, side) for panel in panels]
    above = [
        picture.LINE * max(head.lines for head in heads[row * across : (row + 1) * across]) + 1.2 for row in range(rows)
    ]
    foot = picture.wrap(_footer(panels), width - 2 * _MARGIN, picture.SMALL)
    total = sum(above) + rows * (height + _BELOW) + (rows - 1) * _BETWEEN + picture.LINE * len(foot) + 1.5
    drawn = picture.new_figure(width, total)
    window, top = plane.window(), 0.5
    for row in range(rows):
        for number in range(row * across, min((row + 1) * across, len(panels))):
            left = _MARGIN + (number - row * across) * (side + _GAP)
            letter = _LETTERS[number] if len(panels) <= len(_LETTERS) else ""
            heads[number].write(drawn, left, top, letter)
            axes = picture.add_axes(drawn, left, top + above[row], side, height)
            mappable = _fill(axes, panels[number], plane, window, mask)
            place = (left, top + above[row] + height + 1.0, side)
            _below(drawn, panels[number], mappable, class_names, mask, place)
        top += above[row] + height + _BELOW + _BETWEEN
    picture.write(drawn, _MARGIN, top - _BETWEEN, foot, size=picture.SMALL, color=picture.FAINT)
    return drawn


@dataclass(frozen=True)
class _Heading:
    """The lines above a panel."""

    title: list[str]
    kind: list[str]

    @classmethod
    def of(cls, panel: _Panel, side: float) -> _Heading:
        room = side - _INDENT
        return cls(picture.wrap(panel.title, room), picture.wrap(panel.kind, room, picture.SMALL))

    @property
    def lines(self) -> int:
        return len(self.title) + len(self.kind)

    def write(self, drawn: Figure, left: float, top: float, letter: str) -> None:
        picture.write(drawn, left, top, [letter], weight="bold", size=8)
        picture.write(drawn, left + _INDENT, top, self.title)
        below = top + picture.LINE * len(self.title)
        picture.write(drawn, left + _INDENT, below, self.kind, size=picture.SMALL, color=picture.FAINT)


def _fill(axes: Axes, panel: _Panel, plane: Plane, window: picture.Limits, mask: NDArray[np.integer] | None) -> Any:
    """Draw one panel; gives what a colour bar can be made from."""
    picture.draw_image(axes, plane, window)
    if panel.found is None or panel.values is None:
        if panel.mask and mask is not None:
            picture.draw_classes(axes, plane, mask)
        else:
            picture.draw_letters(axes, plane)
            picture.draw_scale_bar(axes, plane)
        return None
    signed = panel.found.site.normalisation == "l2"
    mappable = picture.draw_map(axes, plane, panel.values, signed, panel.limits)
    if mask is not None:
        picture.draw_outlines(axes, mask)
    picture.draw_query(axes, plane, panel.found)
    return mappable


def _below(
    drawn: Figure,
    panel: _Panel,
    mappable: Any,
    class_names: Sequence[str],
    mask: NDArray[np.integer] | None,
    place: tuple[float, float, float],
) -> None:
    """What stands below a panel: the classes of the mask, or the colour bar of a map."""
    left, top, side = place
    if panel.found is not None:
        inset = 0.08 * side
        axes = picture.add_axes(drawn, left + inset, top, side - 2 * inset, 1.5)
        picture.draw_colour_bar(axes, mappable, panel.limits)
        axes.set_xlabel(short_unit(panel.found), fontsize=picture.SMALL, labelpad=1)
    elif panel.mask and mask is not None:
        at = left
        for number in (int(number) for number in np.unique(mask[mask > 0])):
            name = class_names[number] if number < len(class_names) else f"class {number}"
            needed = 2.6 + 0.2 * picture.SMALL * len(name)
            if at > left and at + needed > left + side:
                at, top = left, top + picture.LINE
            chip = picture.add_axes(drawn, at, top + 0.45, 1.8, 1.8)
            chip.set_facecolor(class_colour(number))
            chip.set_xticks([])
            chip.set_yticks([])
            picture.write(drawn, at + 2.6, top, [name], size=picture.SMALL)
            at += needed + 1.5


def _columns(panels: int, width: float) -> int:
    """Panels side by side that stay legible, rows as even as can be."""
    most = max(1, int((width - 2 * _MARGIN + _GAP) // (_NARROWEST + _GAP)))
    return ceil(panels / ceil(panels / most))


def _footer(panels: Sequence[_Panel]) -> str:
    maps = [panel.found for panel in panels if panel.found is not None]
    record = maps[0].record
    tiles = any(not found.site.comparable_across_tiles for found in maps)
    honest = "Where the block looks, not why." + (" Softmax is taken inside each tile." if tiles else "")
    return f"{record.get('checkpoint', 'network')} ({record.get('network', 'unknown')}). {honest}"
