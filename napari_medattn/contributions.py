"""What the manifest offers to napari: reading, writing and samples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_medattn.layerdata import KEY, LayerData, class_names_of, labels_source, volume_to_layer
from napari_medattn.store.journal import Journal
from napari_medattn.store.mask_record import edited_since, is_record, record_beside, record_path, write_record

if TYPE_CHECKING:
    from napari.viewer import Viewer

    from napari_medattn.data.dicom import Series

_READ = "record_of_file"  # what lay beside a mask when it was read

PathOrPaths = str | Sequence[str]


def get_reader(path: PathOrPaths) -> Callable[[PathOrPaths], list[LayerData]] | None:
    """The reader for files of the formats that are known here and folders of DICOM files, or None for anything else."""
    from napari_medattn.data.formats import find_format

    return read_layers if all(find_format(one) for one in _paths(path)) else None


def read_layers(path: PathOrPaths) -> list[LayerData]:
    """Read one file or several, each as a layer; DICOM images of one series become one layer.

    Of a folder with several series, the user is asked which.
    """
    from napari_medattn.data import read_volume
    from napari_medattn.data.formats import DICOM, find_format

    paths = _paths(path)
    if not all(find_format(one) is DICOM for one in paths) or (len(paths) == 1 and not paths[0].is_dir()):
        return [_told(volume_to_layer(read_volume(one)), one) for one in paths]
    from napari_medattn.data.dicom import list_series, read_series, series_of

    if all(one.is_file() for one in paths):
        found = series_of(paths[0].parent, paths)
    else:
        found = [series for one in paths for series in list_series(one)]
    chosen = found if len(found) == 1 else _ask(found, paths[0])
    layers = [volume_to_layer(read_series(series, paths[0])) for series in chosen]
    return layers or [(None,)]  # type: ignore[list-item]  # napari's way to say that nothing is to be shown


def _ask(found: Sequence[Series], path: Path) -> Sequence[Series]:
    """Which of several series to open.

    Raises:
        ReadError: If there is no window to ask in.
    """
    from qtpy.QtWidgets import QApplication, QInputDialog

    from napari_medattn.errors import ReadError

    labels = [f"{number}: {series.label}" for number, series in enumerate(found, 1)]
    if QApplication.instance() is None:
        raise ReadError(f"{path.name} holds {len(found)} series: {'; '.join(labels[:8])}.", "Open the folder of one.")
    every = f"all {len(found)}"
    choice, chosen = QInputDialog.getItem(None, "DICOM", "Which series?", [*labels, every], 0, False)
    if not chosen:
        return ()
    return found if choice == every else [found[labels.index(choice)]]


def full_size(viewer: Viewer) -> None:
    """Add the finest level of the selected image as a layer of its own, which networks can work on."""
    from napari.layers import Layer

    from napari_medattn.layerdata import one_level

    viewer.add_layer(Layer.create(*one_level(_image_of(viewer))))


def show_soft_tissue(viewer: Viewer) -> None:
    """Show the selected CT in the soft tissue window."""
    _show_window(viewer, "soft tissue")


def show_lung(viewer: Viewer) -> None:
    """Show the selected CT in the lung window."""
    _show_window(viewer, "lung")


def show_bone(viewer: Viewer) -> None:
    """Show the selected CT in the bone window."""
    _show_window(viewer, "bone")


def show_liver(viewer: Viewer) -> None:
    """Show the selected CT in the liver window."""
    _show_window(viewer, "liver")


def show_mediastinum(viewer: Viewer) -> None:
    """Show the selected CT in the mediastinum window."""
    _show_window(viewer, "mediastinum")


def show_brain(viewer: Viewer) -> None:
    """Show the selected CT in the brain window."""
    _show_window(viewer, "brain")


def _show_window(viewer: Viewer, name: str) -> None:
    from napari_medattn.data import ct_window

    image = _image_of(viewer)
    if image.rgb:
        from napari_medattn.errors import InputError

        raise InputError(f"{image.name} is a colour image, no CT.", "Select a CT image.")
    image.contrast_limits = ct_window(name)


def _image_of(viewer: Viewer) -> Any:
    """The selected image layer."""
    from napari.layers import Image

    from napari_medattn.errors import InputError

    layer = viewer.layers.selection.active
    if not isinstance(layer, Image):
        raise InputError("No image layer is selected.", "Select one in the list of layers.")
    return layer


def _told(layer: LayerData, path: Path) -> LayerData:
    """A mask's layer with the record that lies beside its file, if one does."""
    data, kwargs, kind = layer
    found = record_beside(path) if kind == "labels" else None
    if found is not None:
        kwargs["metadata"][KEY][_READ] = found
    return data, kwargs, kind


def record_of(attributes: Mapping[str, Any], size: int) -> dict[str, Any] | None:
    """The record of a labels layer, with the share of its voxels that a person edited; None for one that no run made.

    Args:
        attributes: The layer's attributes; the edits in its metadata count.
        size: Number of its voxels.
    """
    meta = attributes.get("metadata", {}).get(KEY, {})
    found = next((one for one in (meta.get("record"), meta.get(_READ)) if one and is_record(one)), None)
    edits = meta.get("edits")
    return None if found is None else edited_since(found, 0 if edits is None else edits.edited_count, size)


def write_mask(path: str, data: Any, attributes: dict[str, Any]) -> list[str]:
    """Save a labels layer with the exact geometry of the scan that it lies on, and beside it how it was made."""
    from napari_medattn.data import write_labels

    labels = np.asarray(data)
    # Whoever keeps the mask's edits on disk need not offer them back any more.
    recorder = getattr(attributes.get("metadata", {}).get(KEY, {}).get("edits"), "recorder", None)
    if isinstance(recorder, Journal):
        recorder.saving()
    source, names = labels_source(labels, attributes), class_names_of(attributes)
    write_labels(path, labels, source, names)
    record, beside = record_of(attributes, labels.size), record_path(Path(path))
    # A file of that name that is not ours, such as a sidecar of the scanner's, is left alone.
    if record is not None and (not beside.exists() or record_beside(Path(path)) is not None):
        write_record(Path(path), record, labels, names, source.grid)
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
