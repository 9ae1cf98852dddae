"""The networks: one per file, each declaring the attention it exposes. Nothing here reads a file."""

from napari_medattn.models.authors import load_authors_state
from napari_medattn.models.axial.block import position_gates
from napari_medattn.models.folding import prepare_for_inference
from napari_medattn.models.outputs import TrainingOutputs, training_outputs
from napari_medattn.models.registry import attention_sites, create_model, get_spec, list_models
from napari_medattn.models.site import AttentionSite
from napari_medattn.models.spec import GatedCRF, ModelSpec, Recipe, Variant

__all__ = [
    "AttentionSite",
    "GatedCRF",
    "ModelSpec",
    "Recipe",
    "TrainingOutputs",
    "Variant",
    "attention_sites",
    "create_model",
    "get_spec",
    "list_models",
    "load_authors_state",
    "position_gates",
    "prepare_for_inference",
    "training_outputs",
]
