"""A network's attention on a scan: live maps, questions about voxels, whether it matters, and maps as files."""

from napari_medattn.look.atlas import Atlas, Page
from napari_medattn.look.export import save_maps
from napari_medattn.look.figure import attention_figure
from napari_medattn.look.overview import attention_maps
from napari_medattn.look.placed_map import PlacedMap, placed
from napari_medattn.look.query import Answer, ask, can_ask
from napari_medattn.look.scene import Glance, Scene, Spot
from napari_medattn.look.sheet import contact_sheet

__all__ = [
    "Answer",
    "Atlas",
    "Glance",
    "Page",
    "PlacedMap",
    "Scene",
    "Spot",
    "ask",
    "attention_figure",
    "attention_maps",
    "can_ask",
    "contact_sheet",
    "placed",
    "save_maps",
]
