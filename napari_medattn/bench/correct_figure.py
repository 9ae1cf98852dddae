"""The figure of ``medattn bench correct``: Dice over the slices looked at, by order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from napari_medattn.bench.walk import Walk
from napari_medattn.files import atomic_write

_STYLES = {
    "queue": ("#c1272d", "-"),
    "slice order": ("#0072b2", "-"),
    "random": ("#7f7f7f", "-"),
    "best": ("#000000", ":"),
}
_NAMES = {"queue": "review queue", "best": "best order, known only afterwards"}
_SHARES = np.linspace(0, 1, 101)


def draw(walks: Mapping[str, Sequence[Sequence[Walk]]], path: Path) -> None:
    """Draw the mean over the cases, each from none of its slices to all of them.

    Args:
        walks: For each order and case, its walks.
        path: A PNG, PDF or SVG file.

    Raises:
        SaveError: If it cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.8, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for order, found in walks.items():
        colour, line = _STYLES[order]
        mean = np.mean([np.mean([_on_shares(one) for one in draws], axis=0) for draws in found], axis=0)
        axes.plot(100 * _SHARES, mean, line, color=colour, label=_NAMES.get(order, order))
    axes.set(xlabel="slices looked at and corrected (%)", ylabel="mean Dice", xlim=(0, 100))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=120)


def _on_shares(one: Walk) -> NDArray[np.float64]:
    dice = one.by_slice()
    return np.interp(_SHARES, np.linspace(0, 1, len(dice)), dice)
