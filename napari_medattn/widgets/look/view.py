"""What a viewer shows of an image, in the image's own voxels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari.components import ViewerModel
from napari.layers import Image

from napari_medattn.layerdata import layer_place

if TYPE_CHECKING:
    from napari_medattn.inference.placement import Box
    from napari_medattn.look import Scene

Voxel = tuple[float, float, float]


def voxel_at(image: Image, world: tuple[float, ...]) -> Voxel:
    """The voxel (Z, Y, X) of an image at a point of the viewer's world; Z = 0 for a 2-D image."""
    place = layer_place(image)
    data = [float(at) for at in image.world_to_data(world[-image.ndim :])]
    if place.channel_axis is not None and not image.rgb:
        del data[place.channel_axis]
    z, y, x = [0.0] * (3 - place.spatial_dims) + data[-place.spatial_dims :]
    return z, y, x


def voxel_in_view(viewer: ViewerModel, image: Image) -> Voxel:
    """The voxel at the viewer's sliders, brought inside the image."""
    at = voxel_at(image, tuple(viewer.dims.point))
    sizes = layer_place(image).grid.shape
    z, y, x = (min(max(where, 0.0), size - 1.0) for where, size in zip(at, sizes, strict=True))
    return z, y, x


def box_in_view(viewer: ViewerModel, image: Image) -> Box:
    """The part (Z, Y, X) of an image that the viewer shows: a slice of it, or all where it is rendered in 3-D."""
    place = layer_place(image)
    at = voxel_in_view(viewer, image)
    shown = {axis - viewer.dims.ndim for axis in viewer.dims.displayed}  # counted from the last axis
    spans = []
    for axis in range(3):
        if axis - 3 in shown or axis < 3 - place.spatial_dims:
            spans.append(slice(0, place.grid.shape[axis]))
        else:
            index = round(at[axis])
            spans.append(slice(index, index + 1))
    return spans[0], spans[1], spans[2]


def frames_in_view(viewer: ViewerModel, image: Image, scene: Scene, focus: Voxel | None = None) -> list[int]:
    """The frames that the view shows, the nearest to its middle first; for a 3-D network the tile in focus.

    Args:
        viewer: The viewer.
        image: The image.
        scene: The image before a network.
        focus: A voxel that somebody points at; the sliders' if None.
    """
    voxel = focus or voxel_in_view(viewer, image)
    middle = scene.locate(voxel).frame
    if not scene.flat:
        return [middle]
    planes = scene.planes(box_in_view(viewer, image))
    return sorted(planes, key=lambda frame: abs(frame - middle))
