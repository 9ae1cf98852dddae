"""What the manifest offers to napari: reading, writing and samples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from napari_medattn.layerdata import LayerData, class_names_of, labels_source, volume_to_layer

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
    write_labels(path, labels, labels_source(labels, attributes), class_names_of(attributes))
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
