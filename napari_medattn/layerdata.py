"""Everything that becomes a napari layer, and layers that become volumes again.

Layers are handed around as napari's (data, keyword arguments, type) triples, so nothing here needs napari.
A layer that we add carries what made it in ``metadata["medattn"]``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from napari_medattn.data import CT_WINDOWS, Volume
from napari_medattn.data.lazy import is_lazy
from napari_medattn.data.reading import LAZY_BYTES
from napari_medattn.errors import InputError
from napari_medattn.geometry import Grid, Triple
from napari_medattn.palette import class_colour, map_colours

if TYPE_CHECKING:
    from napari_medattn.inference import Prediction
    from napari_medattn.models import AttentionSite

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
        "modality": volume.modality,
        "class_names": volume.class_names,
        "spatial_dims": volume.spatial_dims,
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
    if volume.modality == "CT":
        kwargs["contrast_limits"] = CT_WINDOWS["soft tissue"]
    if volume.channels == 1:
        return array[0], {**kwargs, **place}, "image"
    if volume.channels in (3, 4) and array.dtype == np.uint8:
        return np.moveaxis(array, 0, -1), {**kwargs, **place, "rgb": True}, "image"
    lead = {"scale": 1.0, "translate": 0.0, "units": "pixel", "axis_labels": "channel"}
    return array, {**kwargs, **{key: (lead[key], *place[key]) for key in place}}, "image"


@dataclass(frozen=True)
class Place:
    """Where an image layer lies, known without reading its voxels.

    Attributes:
        grid: Shape (Z, Y, X) and affine.
        spatial_dims: 2 or 3.
        channel_axis: The data axis that holds channels, if any.
        meta: What the reader of the file left in the layer, if the layer still shows that file.
    """

    grid: Grid
    spatial_dims: int
    channel_axis: int | None
    meta: Mapping[str, Any]


def layer_place(layer: Any) -> Place:
    """Where an image layer lies, whoever opened it.

    Raises:
        InputError: If the layer has more axes than an image of channels has.
    """
    if getattr(layer, "multiscale", False):
        raise InputError(
            f"{layer.name} is a multiscale image.",
            "Choose Layers > Data > Full size for segmentation, or open one of its levels as an image of its own.",
        )
    meta = layer.metadata.get(KEY, {})
    axes = len(layer.data.shape)
    channel_axis = axes - 1 if layer.rgb else None
    if channel_axis is None and axes == meta.get("spatial_dims", 3) + 1:
        channel_axis = 0
    shape = [size for axis, size in enumerate(layer.data.shape) if axis != channel_axis]
    if len(shape) not in (2, 3):
        raise InputError(
            f"{layer.name} has {axes} axes.",
            "Use a 2-D image or a volume, split the layer, or choose Layers > Data > Full size for segmentation.",
        )
    spatial_dims = len(shape)
    z, y, x = [1] * (3 - spatial_dims) + shape
    grid: Grid | None = meta.get("grid")
    if grid is None or grid.shape != (z, y, x):
        spacing, units = _spacing(layer, spatial_dims)
        grid, meta = Grid.from_spacing((z, y, x), spacing, units), {}
    return Place(grid, spatial_dims, channel_axis, meta)


def layer_to_volume(layer: Any) -> Volume:
    """The volume that an image layer shows; reads its voxels, unless they are very many and lazy.

    Of its channels, those that were chosen with `choose_channels`.

    Raises:
        InputError: If the layer has more axes than an image of channels has.
        GeometryError: If a channel that was chosen is not there any more.
    """
    place = layer_place(layer)
    large = is_lazy(layer.data) and _bytes(layer.data) > LAZY_BYTES
    data = layer.data if large else np.asarray(layer.data)
    data = data[None] if place.channel_axis is None else np.moveaxis(data, place.channel_axis, 0)
    whole = Volume(
        data if place.spatial_dims == 3 else data[:, None],
        place.grid,
        name=layer.name,
        spatial_dims=place.spatial_dims,
        path=place.meta.get("path"),
        header=place.meta.get("header"),
        notes=tuple(place.meta.get("notes", ())),
        modality=str(place.meta.get("modality", "")),
    )
    chosen = chosen_channels(layer)
    if chosen is None:
        return whole
    note = f"Of its {whole.channels} channels, the network sees {channels_in_words(chosen)}."
    return replace(whole.with_channels(chosen), notes=(*whole.notes, note))


def channel_count(place: Place, layer: Any) -> int:
    """Channels of an image layer."""
    return 1 if place.channel_axis is None else int(layer.data.shape[place.channel_axis])


def chosen_channels(layer: Any) -> tuple[int, ...] | None:
    """The channels of an image layer that networks see, from 0; None for all of them."""
    found = layer.metadata.get(KEY, {}).get("channels")
    return None if found is None else tuple(found)


def choose_channels(layer: Any, channels: Sequence[int] | None) -> None:
    """Let networks see some channels of an image layer only, in this order, or all of them again.

    Raises:
        InputError: If the layer has no such channels, or one is named twice.
    """
    meta = {key: value for key, value in layer.metadata.get(KEY, {}).items() if key != "channels"}
    if channels is not None:
        count = channel_count(layer_place(layer), layer)
        if not channels or min(channels) < 0 or max(channels) >= count or len(set(channels)) < len(channels):
            raise InputError(
                f"{layer.name} has the channels 0 to {count - 1}, not {channels_in_words(channels) or 'none'}.",
                "Choose among those, each once.",
            )
        meta["channels"] = tuple(channels)
    layer.metadata[KEY] = meta


def channels_in_words(channels: Sequence[int]) -> str:
    """``0``, ``0-2`` or ``2, 0, 1``."""
    if len(channels) > 1 and list(channels) == list(range(channels[0], channels[-1] + 1)):
        return f"{channels[0]}-{channels[-1]}"
    return ", ".join(str(channel) for channel in channels)


def one_level(layer: Any) -> LayerData:
    """The finest level of an image of several levels or of needless axes, as a layer that networks can work on.

    Its voxels stay where they are, and lazy.

    Raises:
        InputError: If it has more axes than an image of channels.
    """
    data = layer.data[0] if layer.multiscale else layer.data
    spatial = data.ndim - bool(layer.rgb)
    keep = [axis for axis in range(spatial) if data.shape[axis] > 1 or axis >= spatial - 2]
    if len(keep) > 4:
        raise InputError(
            f"{layer.name} has {len(keep)} axes.", "Use a 2-D image or a volume, or split the layer first."
        )
    index = tuple(slice(None) if axis in keep or axis >= spatial else 0 for axis in range(data.ndim))
    kwargs: dict[str, Any] = {"name": f"{layer.name} full size", "rgb": bool(layer.rgb)}
    for key in ("scale", "translate", "units", "axis_labels"):
        values = tuple(getattr(layer, key))
        kwargs[key] = tuple(values[axis] for axis in keep)
    if len(keep) == 4:
        kwargs["metadata"] = {KEY: {"spatial_dims": 3}}
    return data[index], kwargs, "image"


def _bytes(data: Any) -> float:
    return float(np.prod([float(size) for size in data.shape])) * float(np.dtype(data.dtype).itemsize)


def mask_to_layer(prediction: Prediction, image: Any) -> LayerData:
    """A prediction's mask on the image layer that it was made from."""
    volume = prediction.volume
    labels = prediction.labels if volume.spatial_dims == 3 else prediction.labels[0]
    geometry = {"grid": volume.grid, "header": volume.header}
    return labels_to_layer(labels, prediction.class_names, image, prediction.record, geometry)


def labels_to_layer(
    labels: NDArray[np.integer],
    class_names: Sequence[str],
    image: Any,
    record: Mapping[str, Any],
    geometry: Mapping[str, Any] | None = None,
) -> LayerData:
    """A mask on an image layer.

    Args:
        labels: ([Z,] Y, X) on the image's grid.
        class_names: Names of the labels from 0.
        image: The image layer.
        record: How the mask was made.
        geometry: What it is saved with, see `geometry_of`; the image's own if None.
    """
    geometry = geometry_of(image) if geometry is None else geometry
    meta = {**geometry, "class_names": tuple(class_names), "record": dict(record)}
    return (
        labels,
        {
            "name": f"{image.name} mask",
            "opacity": 0.5,
            "metadata": {KEY: meta},
            **lying_on(image, labels.ndim),
            **_classes(class_names),
        },
        "labels",
    )


def what_if_to_layer(
    labels: NDArray[np.uint8],
    box: tuple[slice, slice, slice],
    image: Any,
    class_names: Sequence[str],
    title: str,
    record: Mapping[str, Any],
) -> LayerData:
    """A mask as it would be, on the image layer; it is nobody's mask to work on.

    Args:
        labels: The classes on a box of the image.
        box: The box (Z, Y, X); everything outside is shown as background.
        image: The image layer.
        class_names: Names of the classes.
        title: What it shows; the image's name goes before it.
        record: How it was made.
    """
    place = layer_place(image)
    whole = np.zeros(place.grid.shape, np.uint8)
    whole[box] = labels
    data = whole if place.spatial_dims == 3 else whole[0]
    # Without names in the metadata it is not taken for the mask of these classes.
    meta = {"kind": "what if", "class_names": (), "record": dict(record), **geometry_of(image)}
    kwargs = {"name": f"{image.name} {title}", "opacity": 0.5, "metadata": {KEY: meta}}
    return data, {**kwargs, **lying_on(image, data.ndim), **_classes(class_names)}, "labels"


def map_to_layer(
    site: AttentionSite, data: Any, image: Any, record: Mapping[str, Any], limits: tuple[float, float]
) -> LayerData:
    """An attention map on the image layer, clear where nothing is attended, so that the scan stays visible.

    Args:
        site: The site that it comes from.
        data: ([Z,] Y, X) on the image's grid, an array or something lazy; softmax maps in multiples of the even share.
        image: The image layer.
        record: How it was made.
        limits: Values that are drawn as nothing and as most, see `inference.prediction.display_limits`.
    """
    signed = site.normalisation == "l2"
    meta = {
        "site": site.key,
        "kind": site.kind,
        "legend": site.legend,
        "comparable_across_tiles": site.comparable_across_tiles,
        "record": dict(record),
        **geometry_of(image),
    }
    colours = {"name": f"attention{' +-' if signed else ''}", "colors": map_colours(signed=signed)}
    return (
        data,
        {
            "name": f"{image.name} {site.title}",
            "colormap": colours,
            "contrast_limits": limits,
            "opacity": 0.8,
            "blending": "translucent_no_depth",
            "projection_mode": "none",
            "cache": False,
            "metadata": {KEY: meta},
            **lying_on(image, data.ndim),
        },
        "image",
    )


def geometry_of(image: Any) -> dict[str, Any]:
    """What a layer on an image must carry in its metadata to be saved with the image's exact geometry."""
    place = layer_place(image)
    return {"grid": place.grid, "header": place.meta.get("header")}


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


def describe_place(place: Place) -> str:
    """Size, orientation and voxel size in a few words, in (x, y, z) order."""
    grid, dims = place.grid, place.spatial_dims
    size = " x ".join(str(n) for n in grid.shape[::-1][:dims])
    voxel = " x ".join(f"{step:.3g}" for step in grid.spacing[::-1][:dims])
    if grid.units != "mm":
        return f"{size}, {voxel} {grid.units}"
    if dims == 2 or not grid.oriented:
        return f"{size}, {voxel} mm"
    oblique = ", oblique: shown along its own axes" if grid.is_oblique else ""
    return f"{size}, {grid.orientation} {voxel} mm{oblique}"


def labels_source(data: NDArray[Any], attributes: Mapping[str, Any]) -> Volume:
    """The volume that a layer of labels or values lies on, as far as its geometry goes, for writing the layer."""
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


def _spacing(layer: Any, spatial_dims: int) -> tuple[Triple, str]:
    """Voxel size (Z, Y, X) of any layer in mm, or in pixels where its units are no lengths."""
    scale = [float(step) for step in layer.scale][-spatial_dims:]
    units = layer.units[-spatial_dims:]
    lengths = all(unit.dimensionality == {"[length]": 1} for unit in units)
    if lengths:
        scale = [step * float((1 * unit).to("mm").magnitude) for step, unit in zip(scale, units, strict=True)]
    z, y, x = [1.0] * (3 - spatial_dims) + scale
    return (z, y, x), "mm" if lengths else "pixel"
