"""A network's attention on a scan: live maps, questions about voxels, and whether it matters."""

from napari_medattn.look.scene import Glance, Scene, Spot

__all__ = ["Glance", "Scene", "Spot"]
