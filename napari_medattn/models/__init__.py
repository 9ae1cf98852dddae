"""The networks: one per file, each declaring the attention it exposes. Nothing here reads a file."""

from napari_medattn.models.authors import load_authors_state
from napari_medattn.models.registry import attention_sites, create_model, get_spec, list_models
from napari_medattn.models.site import AttentionSite
from napari_medattn.models.spec import ModelSpec, Recipe

__all__ = [
    "AttentionSite",
    "ModelSpec",
    "Recipe",
    "attention_sites",
    "create_model",
    "get_spec",
    "list_models",
    "load_authors_state",
]
