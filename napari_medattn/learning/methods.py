"""What of a network learns when it is fine-tuned, by the method's name."""

from __future__ import annotations

import re
from dataclasses import dataclass

from torch import nn

from napari_medattn.errors import InputError
from napari_medattn.learning.adapters import attach_adapters, projections
from napari_medattn.learning.statistics import batch_norms

# The networks' own words for the parts that turn an image into features.
_ENCODER = re.compile(r"(^|\.)(encode\d+|encoder|bottleneck|stem|layer\d+|detail)(\.|$)")
_GATE = re.compile(r"_gate$")


@dataclass(frozen=True)
class Method:
    """A way to fine-tune.

    Attributes:
        name: As in `LearnPlan.method`.
        title: For people.
        sentence: What it does and when to take it.
    """

    name: str
    title: str
    sentence: str


METHODS: dict[str, Method] = {
    method.name: method
    for method in (
        Method("whole", "Whole network", "All weights learn: the most that corrections can change."),
        Method(
            "decoder",
            "Decoder and gates",
            "The encoder stays as it is; what it finds is put together anew. Quicker, and less is forgotten.",
        ),
        Method(
            "adapters",
            "Adapters on attention",
            "Small matrices beside the attention's projections learn, and are merged into them when saved.",
        ),
        Method(
            "statistics",
            "Batch-norm statistics",
            "No weight learns: only what the network takes for usual brightness and contrast is measured anew.",
        ),
    )
}


def check_method(name: str, model: nn.Module) -> None:
    """Refuse a method that does not exist, or that a network has nothing for.

    Raises:
        InputError: Saying which methods there are, or what the network lacks.
    """
    if name not in METHODS:
        raise InputError(f"There is no way to learn called {name!r}.", f"Use one of {', '.join(METHODS)}.")
    lacks = ""
    if name == "adapters" and not projections(model):
        lacks = "attention projections that an adapter could stand beside"
    elif name == "statistics" and not batch_norms(model):
        lacks = "batch norm and so no statistics to measure"
    if lacks:
        raise InputError(f"{title_of(model)} has no {lacks}.", "Choose another method.")


def learning_parameters(name: str, model: nn.Module) -> list[nn.Parameter] | None:
    """Prepare a network for a method, in place; the parameters that are to learn, or None for all.

    Raises:
        InputError: As `check_method` does.
    """
    check_method(name, model)
    if name == "decoder":
        return decoder_parameters(model)
    if name == "adapters":
        return attach_adapters(model)
    return [] if name == "statistics" else None


def decoder_parameters(model: nn.Module) -> list[nn.Parameter]:
    """Everything behind the encoder, and attention gates wherever they are."""
    return [p for name, p in model.named_parameters() if _GATE.search(name) or not _ENCODER.search(name)]


def title_of(model: nn.Module) -> str:
    """The network's name for people."""
    return str(getattr(getattr(model, "spec", None), "title", type(model).__name__))
