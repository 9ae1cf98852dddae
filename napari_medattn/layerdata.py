"""Everything that becomes a napari layer, and layers that become volumes again.

Layers are handed around as napari's (data, keyword arguments, type) triples, so nothing here needs napari.
A layer that we add carries what made it in ``metadata["medattn"]``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_medattn.data import Volume
from napari_medattn.errors import InputError
from napari_medattn.geometry import Grid, Triple
from napari_medattn.palette import class_colour

if TYPE_CHECKING:
    from napari_medattn.inference import AttentionMap, Prediction

LayerData = tuple[Any, dict[str, Any], str]
KEY = "medattn"
_AXES = ("z", "y", "x")


def volume_to_layer(volume: Volume) -> LayerData:
    """An image, or a mask if the file says that it is one, as a layer."""
    meta = {
        "grid": volume.grid,
        "header": volume.header,
        "path": volume.path,
        "notes": volume.notes,
        "class_names": volume.class_names,
    }
    kwargs: dict[str, Any] = {"name": volume.name, "metadata": {KEY: meta}}
    place = _placement(volume.grid, volume.spatial_dims)
    array = volume.array if volume.spatial_dims == 3 else volume.array[:, 0]
    if volume.class_names and volume.channels == 1:
        return (
            volume.labels().reshape(array.shape[1:]),
            {**kwargs, **place, **_classes(volume.class_names)},
            "labels",
        )
    if volume.channels == 1:
        return array[0], {**kwargs, **place}, "image"
    if volume.channels in (3, 4) and array.dtype == np.uint8:
        return np.moveaxis(array, 0, -1), {**kwargs, **place, "rgb": True}, "image"
    lead = {"scale": 1.0, "translate": 0.0, "units": "pixel", "axis_labels": "channel"}
    return array, {**kwargs, **{key: (lead[key], *place[key]) for key in place}}, "image"


def layer_to_volume(layer: Any) -> Volume:
    """The volume that an image layer shows, whoever opened it.

    Raises:
        InputError: If the layer has more axes than an image of channels has.
    """
    if getattr(layer, "multiscale", False):
        raise InputError(f"{layer.name} is a multiscale image.", "Open one of its levels as an image of its own.")
    data = layer.data
    meta = layer.metadata.get(KEY, {})
    grid: Grid | None = meta.get("grid")
    if layer.rgb:
        data = np.moveaxis(np.asarray(data), -1, 0)
    elif grid is None or data.ndim <= 3:
        data = np.asarray(data)[None]
    if data.ndim not in (3, 4):
        raise InputError(
            f"{layer.name} has {layer.data.ndim} axes.",
            "Use a 2-D image or a volume, or split the layer first.",
        )
    spatial_dims = data.ndim - 1
    array = np.asarray(data if spatial_dims == 3 else data[:, None])
    shape = (array.shape[1], array.shape[2], array.shape[3])
    if grid is None or grid.shape != shape:
        grid = Grid.from_spacing(shape, _spacing(layer, spatial_dims), _units(layer))
        meta = {}
    return Volume(
        array,
        grid,
        name=layer.name,
        spatial_dims=spatial_dims,
        path=meta.get("path"),
        header=meta.get("header"),
        notes=tuple(meta.get("notes", ())),
    )


def mask_to_layer(prediction: Prediction, image: Any) -> LayerData:
    """A prediction's mask on the image layer that it was made from."""
    labels = prediction.labels if prediction.volume.spatial_dims == 3 else prediction.labels[0]
    volume = prediction.volume
    meta = {
        "grid": volume.grid,
        "header": volume.header,
        "class_names": prediction.class_names,
        "record": dict(prediction.record),
    }
    return (
        labels,
        {
            "name": f"{image.name} mask",
            "opacity": 0.5,
            "metadata": {KEY: meta},
            **lying_on(image, labels.ndim),
            **_classes(prediction.class_names),
        },
        "labels",
    )


def attention_to_layer(
    found: AttentionMap, image: Any, record: Mapping[str, Any], on_image: NDArray[np.float32]
) -> LayerData:
    """One attention map on the image layer: limits 0..1 for gates, so that maps compare.

    Args:
        found: The map.
        image: The image layer.
        record: How it was made.
        on_image: What ``found.on_image()`` gave; computed by the caller, off the window's thread.
    """
    mean = on_image.mean(axis=0) if len(on_image) > 1 else on_image[0]
    data = mean if found.prepared.source.spatial_dims == 3 else mean[0]
    limits = (0.0, 1.0) if found.site.normalisation == "sigmoid" else (0.0, float(data.max()) or 1.0)
    meta = {
        "site": found.site.key,
        "kind": found.site.kind,
        "legend": found.site.legend,
        "comparable_across_tiles": found.site.comparable_across_tiles,
        "record": dict(record),
    }
    return (
        data,
        {
            "name": f"{image.name} {found.site.title}",
            "colormap": "inferno",
            "contrast_limits": limits,
            "opacity": 0.6,
            "blending": "translucent",
            "projection_mode": "none",
            "metadata": {KEY: meta},
            **lying_on(image, data.ndim),
        },
        "image",
    )


def lying_on(image: Any, ndim: int) -> dict[str, Any]:
    """Keyword arguments that put a layer of ``ndim`` axes onto an image layer, channel axis left out."""
    kwargs: dict[str, Any] = {
        "scale": tuple(image.scale)[-ndim:],
        "translate": tuple(image.translate)[-ndim:],
        "units": tuple(image.units)[-ndim:],
        "axis_labels": tuple(image.axis_labels)[-ndim:],
    }
    if ndim == image.ndim:
        kwargs |= {"rotate": image.rotate, "shear": image.shear, "affine": image.affine.affine_matrix}
    return kwargs


def describe_place(volume: Volume) -> str:
    """Orientation and voxel size in a few words, e.g. ``"RAS 1 x 1 x 1.5 mm"`` in (x, y, z) order."""
    sizes = volume.grid.spacing[::-1][: volume.spatial_dims]
    text = " x ".join(f"{size:.3g}" for size in sizes)
    if volume.grid.units != "mm":
        return f"{text} {volume.grid.units}"
    return f"{volume.grid.orientation} {text} mm" if volume.spatial_dims == 3 else f"{text} mm"


def labels_source(data: NDArray[Any], attributes: Mapping[str, Any]) -> Volume:
    """The volume that a labels layer lies on, as far as its geometry goes, for writing the mask."""
    meta = attributes.get("metadata", {}).get(KEY, {})
    spatial_dims = data.ndim
    shape = data.shape if spatial_dims == 3 else (1, *data.shape)
    grid: Grid | None = meta.get("grid")
    if grid is None or grid.shape != tuple(shape):
        scale = [float(step) for step in attributes.get("scale", (1.0,) * spatial_dims)]
        spacing: Triple = (scale[-3] if spatial_dims == 3 else 1.0, scale[-2], scale[-1])
        grid, meta = Grid.from_spacing((shape[0], shape[1], shape[2]), spacing), {}
    return Volume(
        np.broadcast_to(np.uint8(0), (1, *shape)),
        grid,
        name=str(attributes.get("name", "mask")),
        spatial_dims=spatial_dims,
        header=meta.get("header"),
    )


def class_names_of(attributes: Mapping[str, Any]) -> Sequence[str]:
    """Class names that a labels layer carries."""
    return tuple(attributes.get("metadata", {}).get(KEY, {}).get("class_names", ()))


def _placement(grid: Grid, spatial_dims: int) -> dict[str, Any]:
    return {
        "scale": grid.spacing[-spatial_dims:],
        "translate": grid.display_translate[-spatial_dims:],
        "units": (grid.units,) * spatial_dims,
        "axis_labels": _AXES[-spatial_dims:],
    }


def _classes(names: Sequence[str]) -> dict[str, Any]:
    """Names in the features table (shown under the cursor) and one fixed colour per class."""
    colours: dict[int | None, str] = {0: "transparent", None: "#999999"}
    colours |= {n: class_colour(n) for n in range(1, len(names))}
    return {"features": {"index": list(range(len(names))), "class": list(names)}, "colormap": colours}


def _spacing(layer: Any, spatial_dims: int) -> Triple:
    scale = [float(step) for step in layer.scale][-spatial_dims:]
    z, y, x = [1.0] * (3 - spatial_dims) + scale
    return z, y, x


def _units(layer: Any) -> str:
    """``"mm"`` if the layer's last axis is in millimetres."""
    return "mm" if f"{layer.units[-1]:~}" == "mm" else "pixel"
