"""Images on disk and in memory, without torch: read, prepare for a network, cut into tiles, stitch, restore."""

from napari_medattn.data.example import Example
from napari_medattn.data.formats import read_labels, read_volume, write_labels
from napari_medattn.data.prepare import Preparation, Prepared, prepare
from napari_medattn.data.volume import Volume

__all__ = ["Example", "Preparation", "Prepared", "Volume", "prepare", "read_labels", "read_volume", "write_labels"]
