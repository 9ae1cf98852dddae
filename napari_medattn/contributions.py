"""What the manifest offers to napari: reading, writing and samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_medattn.layerdata import KEY, LayerData, class_names_of, labels_source, volume_to_layer
from napari_medattn.store.journal import Journal

PathOrPaths = str | Sequence[str]


def get_reader(path: PathOrPaths) -> Callable[[PathOrPaths], list[LayerData]] | None:
    """The reader for NIfTI and TIFF files, or None for anything else."""
    from napari_medattn.data.formats import find_format

    return read_layers if all(find_format(one) for one in _paths(path)) else None


def read_layers(path: PathOrPaths) -> list[LayerData]:
    """Read one file or several, each as a layer."""
    from napari_medattn.data import read_volume

    return [volume_to_layer(read_volume(one)) for one in _paths(path)]


def write_mask(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Save a labels layer with the exact geometry of the scan that it lies on."""
    from napari_medattn.data import write_labels

    labels = np.asarray(data)
    # Whoever keeps the mask's edits on disk need not offer them back any more.
    recorder = getattr(attributes.get("metadata", {}).get(KEY, {}).get("edits"), "recorder", None)
    if isinstance(recorder, Journal):
        recorder.saving()
    write_labels(path, labels, labels_source(labels, attributes), class_names_of(attributes))
    if isinstance(recorder, Journal):
        recorder.saved()
    return [path]


def write_map(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Save an attention map, or another image of one channel, with the exact geometry of the scan that it lies on.

    Raises:
        InputError: If it has other axes or values, or is a map that was made only in part.
    """
    from napari_medattn.data.formats import open_values
    from napari_medattn.errors import InputError

    name = attributes.get("name", "the layer")
    axes, kind = getattr(data, "ndim", 0), getattr(data, "dtype", None)
    exact = kind is not None and (kind.kind == "f" or (kind.kind in "bui" and kind.itemsize <= 2))
    if axes not in (2, 3) or attributes.get("rgb") or not exact:
        raise InputError(f"{name} is no image of one channel that 32-bit floats can hold.", "Save it as TIFF.")
    meta = attributes.get("metadata", {}).get(KEY, {})
    about = {key: meta[key] for key in ("site", "kind", "legend", "comparable_across_tiles", "record") if key in meta}
    whole = data if axes == 3 else data[None]
    with open_values(path, labels_source(data, attributes), None, {"attention": about} if about else None) as put:
        for index in range(whole.shape[0]):  # slice by slice: a map that is shown may be drawn on demand
            plane = np.asarray(whole[index : index + 1], dtype=np.float32)
            if about and np.isnan(plane).any():
                raise InputError(f"{name} was made only in part so far.", "Use Save in Look, which makes all of it.")
            put(plane)
    return [path]


def sample_volume() -> list[LayerData]:
    """A phantom volume that the demo network has not seen."""
    from napari_medattn.data.phantom import phantom

    return [volume_to_layer(phantom(1)[0].renamed("phantom volume"))]


def sample_slice() -> list[LayerData]:
    """A single phantom slice that the demo network has not seen."""
    from napari_medattn.data.phantom import phantom

    return [volume_to_layer(phantom(2, shape=(1, 160, 160), spacing=(1.0, 0.75, 0.75))[0].renamed("phantom slice"))]


def _paths(path: PathOrPaths) -> list[Path]:
    return [Path(path)] if isinstance(path, str | Path) else [Path(one) for one in path]
