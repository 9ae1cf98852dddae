"""A slice of an image as the viewer's canvas lays it out, for pictures beside the canvas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from napari.components import ViewerModel
from napari.layers import Image, Labels
from numpy.typing import NDArray

from napari_medattn.layerdata import layer_place
from napari_medattn.palette import CLASS_COLOURS
from napari_medattn.widgets.look.view import box_in_view

if TYPE_CHECKING:
    from napari_medattn.inference.placement import Box

Number = TypeVar("Number", bound=np.generic)


@dataclass(frozen=True)
class Cut:
    """A slice in view.

    Attributes:
        box: Slices (Z, Y, X) of the image, one voxel thick.
        down: The image's axis, 0 to 2 for Z, Y, X, that runs down the canvas.
        across: The one that runs across it, from left to right.
        steps: Size of a voxel down and across, in the viewer's world; negative where the layer is mirrored.
    """

    box: Box
    down: int
    across: int
    steps: tuple[float, float]

    @property
    def size(self) -> tuple[float, float]:
        """Extent down and across, in the viewer's world."""
        tall, wide = (
            (self.box[axis].stop - self.box[axis].start) * abs(step)
            for axis, step in zip((self.down, self.across), self.steps, strict=True)
        )
        return tall, wide

    def lay(self, values: NDArray[Number]) -> NDArray[Number]:
        """(Z, Y, X) values of the box as rows from top to bottom and columns from left to right."""
        thin = 3 - self.down - self.across
        return values.transpose(self.down, self.across, thin)[..., 0]


def cut_in_view(viewer: ViewerModel, image: Image) -> Cut | None:
    """The slice of an image that is in view; None where the viewer renders in 3-D, or along other axes."""
    place = layer_place(image)
    axes = [axis - viewer.dims.ndim + 3 for axis in viewer.dims.displayed]
    if len(axes) != 2 or min(axes) < 3 - place.spatial_dims:
        return None
    scale = image.scale[-place.spatial_dims :] if place.channel_axis != 0 else image.scale[1:]
    down, across = axes
    steps = [float(scale[axis - 3]) for axis in axes]
    return Cut(box_in_view(viewer, image), down, across, (steps[0], steps[1]))


def grey_of(viewer: ViewerModel, image: Image, cut: Cut) -> NDArray[np.uint8]:
    """The slice in grey, (rows, columns), with the layer's own contrast; colours are averaged."""
    place = layer_place(image)
    index: list[slice | int] = list(cut.box[3 - place.spatial_dims :])
    if place.channel_axis == 0 and not image.rgb:
        at = image.world_to_data(viewer.dims.point[-image.ndim :])[0]
        index.insert(0, min(max(round(float(at)), 0), image.data.shape[0] - 1))
    values = np.asarray(image.data[tuple(index)], dtype=np.float32)
    values = values.mean(axis=-1) if image.rgb else values
    low, high = (0.0, 255.0 if image.dtype == np.uint8 else 1.0) if image.rgb else image.contrast_limits
    return to_bytes(cut.lay(values.reshape(values.shape if values.ndim == 3 else (1, *values.shape))), (low, high))


def outline_of(mask: Labels, cut: Cut) -> NDArray[np.uint8] | None:
    """Borders of classes, (rows, columns): 0 for none, else 1 + the number of the class's colour.

    None if the mask is not shown, or does not lie voxel by voxel on the image.
    """
    data = mask.data if mask.ndim == 3 else mask.data[None]
    if not mask.visible or any(span.stop > size for span, size in zip(cut.box, data.shape, strict=True)):
        return None
    labels = cut.lay(np.asarray(data[cut.box]))
    edge = np.zeros(labels.shape, bool)
    for axis in (0, 1):
        ahead, behind = ([slice(None), slice(None)] for _ in range(2))
        ahead[axis], behind[axis] = slice(1, None), slice(None, -1)
        differs = labels[tuple(ahead)] != labels[tuple(behind)]
        edge[tuple(ahead)] |= differs
        edge[tuple(behind)] |= differs
    colours = 1 + (labels.astype(np.int64) - 1) % len(CLASS_COLOURS)
    return np.where(edge & (labels > 0), colours, 0).astype(np.uint8)


def to_bytes(values: NDArray[np.float32], limits: tuple[float, float]) -> NDArray[np.uint8]:
    """Values between two limits as 0 to 255; unknown ones (nan) as nothing, which is 127 if zero is in the middle."""
    low, high = limits
    scaled = np.clip((values - low) * (255 / max(high - low, 1e-12)), 0, 255)
    return np.nan_to_num(scaled, nan=127.0 if low < 0 else 0.0).astype(np.uint8)
