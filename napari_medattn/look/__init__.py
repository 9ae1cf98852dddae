"""A network's attention on a scan: live maps, questions about voxels, and whether it matters."""

from napari_medattn.look.atlas import Atlas, Page
from napari_medattn.look.query import Answer, ask, can_ask
from napari_medattn.look.scene import Glance, Scene, Spot

__all__ = ["Answer", "Atlas", "Glance", "Page", "Scene", "Spot", "ask", "can_ask"]
