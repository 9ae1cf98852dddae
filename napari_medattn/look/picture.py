"""The pieces that pictures of maps are drawn from: a slice, a map over it, outlines, scale bar, letters, colour bar."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_medattn.errors import InputError
from napari_medattn.files import atomic_write
from napari_medattn.inference.prediction import display_limits
from napari_medattn.look.card import HONEST, card_of
from napari_medattn.look.placed_map import PlacedMap
from napari_medattn.look.plane import Plane
from napari_medattn.palette import class_colour, map_colours

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Float = NDArray[np.float32]
Limits = tuple[float, float]
MM = 1 / 25.4  # inches
TEXT, SMALL = 7.0, 6.0  # points at the size at which it is printed
LINE = 2.9  # mm from one line of text to the next
FAINT = "#555555"
SUFFIXES = (".png", ".pdf", ".svg")
_OPACITY = 0.8
_one_at_a_time = Lock()
_STYLE: dict[Any, Any] = {
    "text.parse_math": False,  # a dollar in the name of a file is no formula
    "font.family": "DejaVu Sans",
    "font.size": TEXT,
    "axes.linewidth": 0.5,
    "pdf.fonttype": 42,  # TrueType, whole and embedded
    "svg.fonttype": "path",
}


def check_suffix(path: Path | str) -> Path:
    """The path of a picture.

    Raises:
        InputError: If its suffix is none that pictures are saved in.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise InputError(f"{path.name} has no suffix that pictures are saved in.", f"Use one of {', '.join(SUFFIXES)}.")
    return path


@contextmanager
def style() -> Iterator[None]:
    """Fonts and lines as they should be in print; one picture at a time, as matplotlib keeps these for all."""
    import matplotlib as mpl

    with _one_at_a_time, mpl.rc_context(_STYLE):
        yield


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of some size in mm."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * MM, height * MM))
    FigureCanvasAgg(figure)
    return figure


def add_axes(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes at a place in mm from the figure's left and upper edge."""
    w, h = (side / MM for side in figure.get_size_inches())
    return figure.add_axes((left / w, 1 - (top + height) / h, width / w, height / h))


def write(figure: Figure, left: float, top: float, lines: Sequence[str], **options: Any) -> None:
    """Lines of text that begin at a place in mm from the figure's left and upper edge."""
    w, h = (side / MM for side in figure.get_size_inches())
    for number, line in enumerate(lines):
        baseline = top + number * LINE + 0.8 * LINE
        figure.text(left / w, 1 - baseline / h, line, va="baseline", **options)


def wrap(text: str, width: float, size: float = TEXT) -> list[str]:
    """Lines of text that fit a width in mm."""
    return textwrap.wrap(text, max(8, int(width / (0.2 * size))), break_long_words=False)


def metadata(path: Path, title: str, maps: Sequence[PlacedMap]) -> dict[str, str]:
    """What a picture says of itself inside its file: the cards of its maps."""
    cards = json.dumps({"note": HONEST, "maps": [card_of(found) for found in maps]})
    if path.suffix.lower() == ".pdf":
        return {"Title": title, "Subject": HONEST, "Keywords": cards, "Creator": "napari-medattn"}
    return {"Title": title, "Description": cards}


def save(figure: Figure, path: Path, title: str, maps: Sequence[PlacedMap], dpi: int) -> None:
    """Write a figure, whole or not at all."""
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=dpi, metadata=metadata(path, title, maps))


def draw_image(axes: Axes, plane: Plane, window: Limits) -> None:
    """The image's slice in grey, or in its colours."""
    image = plane.image()
    rows, columns = plane.spacing
    axes.imshow(image, cmap="gray", vmin=window[0], vmax=window[1], aspect=rows / columns, interpolation="nearest")
    axes.set_xlim(-0.5, image.shape[1] - 0.5)
    axes.set_ylim(image.shape[0] - 0.5, -0.5)
    axes.set_axis_off()


def draw_map(axes: Axes, plane: Plane, values: Float, signed: bool, limits: Limits) -> Any:
    """A map (rows, columns) over the image, clear where it is low; nan is clear too."""
    rows, columns = plane.spacing
    return axes.imshow(
        np.ma.masked_invalid(values),
        cmap=map_colormap(signed),
        vmin=limits[0],
        vmax=limits[1],
        alpha=_OPACITY,
        aspect=rows / columns,
        interpolation="nearest",
    )


def map_colormap(signed: bool) -> Any:
    """The colours of attention maps, clear where nothing is attended."""
    from matplotlib.colors import ListedColormap

    return ListedColormap(map_colours(signed=signed, steps=256), name="attention")


def draw_outlines(axes: Axes, labels: NDArray[np.integer], width: float = 0.9) -> None:
    """The classes' outlines in their colours on a dark rim, so that they are seen on any map; (rows, columns)."""
    from matplotlib.patheffects import withStroke

    padded = np.pad(labels, 1)
    y, x = (np.arange(-1, size + 1) for size in labels.shape)
    for number in np.unique(labels[labels > 0]):
        drawn = axes.contour(x, y, padded == number, levels=[0.5], colors=[class_colour(int(number))], linewidths=width)
        drawn.set_path_effects([withStroke(linewidth=2.4 * width, foreground="black", alpha=0.75)])


def draw_classes(axes: Axes, plane: Plane, labels: NDArray[np.integer]) -> None:
    """The classes filled, with their outlines; (rows, columns)."""
    from matplotlib.colors import to_rgba

    colours = np.zeros((*labels.shape, 4))
    for number in np.unique(labels[labels > 0]):
        colours[labels == number] = to_rgba(class_colour(int(number)), 0.45)
    rows, columns = plane.spacing
    axes.imshow(colours, aspect=rows / columns, interpolation="nearest")
    draw_outlines(axes, labels)


def draw_letters(axes: Axes, plane: Plane) -> None:
    """Where right, left, front, back, head and feet are."""
    sides = (0.02, 0.5, "left", "center"), (0.98, 0.5, "right", "center")
    ends = (0.5, 0.98, "center", "top"), (0.5, 0.02, "center", "bottom")
    for letter, (x, y, ha, va) in zip(plane.letters, (*sides, *ends), strict=True):
        _write_on(axes, x, y, letter, ha=ha, va=va)


def draw_scale_bar(axes: Axes, plane: Plane) -> None:
    """A bar of a round length, about a quarter of the slice, and what it stands for."""
    from matplotlib.patheffects import withStroke

    width = plane.size[1]
    length = round_length(width / 4)
    unit = plane.volume.grid.units.replace("pixel", "px")
    bar = axes.plot(
        [0.04, 0.04 + length / width], [0.05, 0.05], color="white", lw=1.6, transform=axes.transAxes, clip_on=False
    )
    bar[0].set_path_effects([withStroke(linewidth=2.8, foreground="black")])
    bar[0].set_solid_capstyle("butt")
    _write_on(axes, 0.04, 0.075, f"{length:g} {unit}", ha="left", va="bottom", size=SMALL)


def round_length(most: float) -> float:
    """The largest of 1, 2 and 5 times a power of ten that is no more than ``most``."""
    power = 10.0 ** np.floor(np.log10(most))
    return float(max(step * power for step in (1, 2, 5) if step * power <= most * (1 + 1e-9)))


def draw_query(axes: Axes, plane: Plane, found: PlacedMap) -> None:
    """A cross at the voxel that was asked, if this slice has it."""
    at = plane.find(found.asked.voxel) if found.asked is not None else None
    if at is not None:
        for colour, width in (("black", 2.0), ("white", 0.9)):
            axes.plot(at[1], at[0], "+", color=colour, ms=6 + width, mew=width)


def draw_colour_bar(axes: Axes, mappable: Any, limits: Limits, *, vertical: bool = False) -> None:
    """The colours as they appear on a dark image, with the ends of the scale and its middle."""
    side = "vertical" if vertical else "horizontal"
    axes.set_facecolor("#303030")
    bar = axes.figure.colorbar(mappable, cax=axes, orientation=side)
    bar.set_ticks([limits[0], (limits[0] + limits[1]) / 2, limits[1]])
    bar.set_ticklabels([_number(at) for at in (limits[0], (limits[0] + limits[1]) / 2, limits[1])])
    bar.ax.tick_params(labelsize=SMALL, length=1.5, width=0.5, pad=1.5)
    bar.outline.set_linewidth(0.5)


def common_limits(found: PlacedMap, values: Sequence[Float]) -> Limits:
    """Display limits for several drawings of one site."""
    return display_limits(found.site, np.concatenate([part.ravel() for part in values]))


def _number(value: float) -> str:
    return f"{value:.2g}" if abs(value) < 10 else f"{value:.0f}"


def _write_on(axes: Axes, x: float, y: float, text: str, *, size: float = TEXT, **options: Any) -> None:
    from matplotlib.patheffects import withStroke

    rim = [withStroke(linewidth=1.6, foreground="black")]
    axes.text(x, y, text, color="white", size=size, transform=axes.transAxes, path_effects=rim, **options)
