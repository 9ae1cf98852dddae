"""napari-medattn: segment volumes with attention networks, see where they look, correct the mask, learn from it.

Everything here is loaded when it is first used: importing the package imports neither torch nor napari.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from napari_medattn._version import __version__

if TYPE_CHECKING:  # the same doors as below, for type checkers and editors
    from napari_medattn.attention import capture_attention as capture_attention
    from napari_medattn.data import (
        Example as Example,
        Volume as Volume,
        read_labels as read_labels,
        read_volume as read_volume,
        write_labels as write_labels,
    )
    from napari_medattn.errors import MedAttnError as MedAttnError
    from napari_medattn.inference import Prediction as Prediction, segment as segment
    from napari_medattn.learning.finetune import finetune as finetune
    from napari_medattn.look import (
        attention_figure as attention_figure,
        attention_maps as attention_maps,
        contact_sheet as contact_sheet,
        save_maps as save_maps,
    )
    from napari_medattn.models import (
        AttentionSite as AttentionSite,
        attention_sites as attention_sites,
        create_model as create_model,
        list_models as list_models,
    )
    from napari_medattn.store import (
        Checkpoint as Checkpoint,
        list_checkpoints as list_checkpoints,
        load_checkpoint as load_checkpoint,
    )
    from napari_medattn.store.authors import load_authors_weights as load_authors_weights
    from napari_medattn.training.metrics import evaluate as evaluate

_DOORS = {
    "AttentionSite": "models",
    "Checkpoint": "store",
    "Example": "data",
    "MedAttnError": "errors",
    "Prediction": "inference",
    "Volume": "data",
    "attention_figure": "look",
    "attention_maps": "look",
    "attention_sites": "models",
    "capture_attention": "attention",
    "contact_sheet": "look",
    "create_model": "models",
    "evaluate": "training.metrics",
    "finetune": "learning.finetune",
    "list_checkpoints": "store",
    "list_models": "models",
    "load_authors_weights": "store.authors",
    "load_checkpoint": "store",
    "read_labels": "data",
    "read_volume": "data",
    "save_maps": "look",
    "segment": "inference",
    "write_labels": "data",
}

__all__ = ["__version__", *_DOORS]  # noqa: PLE0604 - the doors are named once, above


def __getattr__(name: str) -> Any:
    if name not in _DOORS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_DOORS[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
