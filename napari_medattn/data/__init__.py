"""Images on disk and in memory, without torch: read, prepare for a network, cut into tiles, stitch, restore."""

from napari_medattn.data.example import Example
from napari_medattn.data.formats import read_labels, read_volume, write_labels
from napari_medattn.data.prepare import Preparation, Prepared, prepare
from napari_medattn.data.volume import Volume
from napari_medattn.data.windows import CT_WINDOWS, ct_window

__all__ = [
    "CT_WINDOWS",
    "Example",
    "Preparation",
    "Prepared",
    "Volume",
    "ct_window",
    "prepare",
    "read_labels",
    "read_volume",
    "write_labels",
]
