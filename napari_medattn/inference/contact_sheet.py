"""A contact sheet: the mask and every attention map on a few slices, as a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medattn.files import atomic_write
from napari_medattn.inference.prediction import Prediction
from napari_medattn.palette import class_colour


def contact_sheet(prediction: Prediction, path: Path | str, *, columns: int = 4) -> None:
    """Draw image, mask and maps of up to ``columns`` slices into a PNG or PDF.

    Args:
        prediction: A prediction with the attention maps to draw.
        path: Where to; the suffix chooses the format.
        columns: Number of slices, spread evenly over those that hold foreground.

    Raises:
        SaveError: If the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    image = prediction.volume.array[0]
    slices = spread_slices(prediction.labels, columns)
    rows: list[tuple[str, NDArray[Any] | None, tuple[float, float]]] = [("mask", None, (0, 1))]
    for found in prediction.attention.values():
        if found.site.spatial:
            mean = found.on_image().mean(axis=0)
            rows.append((found.site.title, mean, found.limits(mean)))
    _, dy, dx = prediction.volume.grid.spacing
    figure = Figure(figsize=(2.3 * len(slices) + 1.6, 2.3 * len(rows) + 0.7), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(rows), len(slices), squeeze=False)
    low, high = np.percentile(image, (1, 99))
    for (title, values, (lowest, highest)), line in zip(rows, axes, strict=True):
        drawn = None
        for axis, z in zip(line, slices, strict=True):
            axis.imshow(image[z], cmap="gray", vmin=low, vmax=high, aspect=dy / dx)
            if values is None:
                _draw_classes(axis, prediction.labels[z], len(prediction.class_names), dy / dx)
            else:
                drawn = axis.imshow(values[z], cmap="inferno", vmin=lowest, vmax=highest, alpha=0.65, aspect=dy / dx)
            axis.set_xticks([])
            axis.set_yticks([])
        line[0].set_ylabel(title)
        if drawn is not None:
            figure.colorbar(drawn, ax=list(line), shrink=0.8)
    for axis, z in zip(axes[0], slices, strict=True):
        axis.set_title(f"slice {z}", fontsize=9)
    record = prediction.record
    figure.suptitle(f"{record['image']}, {record['checkpoint']}: where each block looks, not why", fontsize=10)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=110)


def spread_slices(labels: NDArray[np.integer], count: int) -> list[int]:
    """Up to ``count`` slice indices spread evenly over the slices that hold foreground, or over all."""
    filled = np.flatnonzero(labels.any(axis=(1, 2)))
    pool = filled if filled.size else np.arange(labels.shape[0])
    picked = np.linspace(0, len(pool) - 1, min(count, len(pool)) + 2)[1:-1] if len(pool) > count else range(len(pool))
    return [int(pool[round(index)]) for index in picked]


def _draw_classes(axis: Any, labels: NDArray[np.integer], count: int, aspect: float) -> None:
    from matplotlib.colors import ListedColormap

    colours = [class_colour(number) for number in range(1, max(count, 2))]
    shown = np.ma.masked_equal(labels, 0)
    axis.imshow(shown, cmap=ListedColormap(colours), vmin=1, vmax=max(count - 1, 1) + 1e-6, alpha=0.55, aspect=aspect)
