"""What the Save window does on the worker thread: make the maps that were ordered, and files of them."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_medattn.widgets.case import Case
from napari_medattn.widgets.look.scenes import prediction_of
from napari_medattn.widgets.look.view import Voxel, box_in_view, voxel_in_view

if TYPE_CHECKING:
    from napari_medattn.inference.placement import Box
    from napari_medattn.look import PlacedMap, Scene
    from napari_medattn.look.placed_map import Heads
    from napari_medattn.look.query import Direction

Labels = NDArray[np.integer]
Files = Generator[Any, None, list[Path]]


@dataclass(frozen=True, eq=False)
class Order:
    """Which maps of a case are wanted, as the window was when the button was pressed.

    Attributes:
        case: The scan.
        keys: The sites.
        heads: Which of their heads.
        voxel: The voxel that is asked; None for overviews.
        direction: What it is asked.
        box: The slice (Z, Y, X) of the scan in view.
        mask: The mask (Z, Y, X) as it was then, if there was one.
    """

    case: Case
    keys: list[str]
    heads: Heads
    voxel: Voxel | None
    direction: Direction
    box: Box
    mask: Labels | None

    @property
    def axis(self) -> int:
        """The axis that the slice in view cuts."""
        return next((axis for axis, span in enumerate(self.box) if span.stop - span.start == 1), 0)


def slice_in_view(case: Case) -> Box:
    """One slice of a scan: the one in view, or where the scan is rendered in 3-D, that of the Z slider."""
    z, y, x = box_in_view(case.viewer, case.image)
    if all(span.stop - span.start > 1 for span in (z, y, x)):
        index = round(voxel_in_view(case.viewer, case.image)[0])
        z = slice(index, index + 1)
    return z, y, x


def mask_now(case: Case) -> Labels | None:
    """The mask (Z, Y, X) as it is now; later painting does not change it."""
    if case.mask is None:
        return None
    labels = np.array(case.mask.data)
    return labels if labels.ndim == 3 else labels[None]


def maps_steps(order: Order, scene: Scene, folder: Path, form: str, grid: Any, replace: bool) -> Files:
    """Save the maps of the whole scan."""
    from napari_medattn.look.export import check_free, save_maps_steps, target_files
    from napari_medattn.look.overview import blank_maps

    if not replace:  # told before the network runs, not after
        blanks = blank_maps(scene, order.keys, order.heads, order.voxel, order.direction)
        check_free(target_files(blanks, folder, form))
    found, _ = yield from _make(order, scene)
    return (yield from save_maps_steps(found, folder, form=form, grid=grid, overwrite=replace))


def sheet_steps(order: Order, scene: Scene, path: Path) -> Files:
    """Draw a contact sheet."""
    from napari_medattn.look import contact_sheet

    found, labels = yield from _make(order, scene)
    contact_sheet(found, path, labels=labels if order.mask is None else order.mask, axis=order.axis)
    return [path]


def figure_steps(order: Order, scene: Scene, path: Path, width: float) -> Files:
    """Draw a figure of the slice in view; no more of the scan is run than that."""
    from napari_medattn.look import attention_figure

    found, labels = yield from _make(order, scene, order.box)
    attention_figure(
        found,
        path,
        labels=labels if order.mask is None else order.mask,
        class_names=order.case.class_names or scene.predictor.card.class_names,
        axis=order.axis,
        index=order.box[order.axis].start,
        width=width,
    )
    return [path]


def _make(
    order: Order, scene: Scene, box: Box | None = None
) -> Generator[Any, None, tuple[list[PlacedMap], Labels | None]]:
    """The maps and the network's own mask, by no more forward passes than it takes."""
    from napari_medattn.look import placed
    from napari_medattn.look.overview import answers_steps, overview_steps

    keys, heads, made = order.keys, order.heads, prediction_of(order.case, scene)
    if order.voxel is not None:
        return (yield from answers_steps(scene, keys, order.voxel, direction=order.direction, heads=heads)), None
    if made is not None and all(key in made.attention for key in keys):
        return placed(made, keys, heads), made.labels
    overview = yield from overview_steps(scene, keys, box=box, heads=heads)
    return list(overview.maps.values()), overview.labels
