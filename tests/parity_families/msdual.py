"""Multi-scale self-guided attention: the authors' 32 training tensors and attention maps meet ours."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from napari_medattn.attention import capture_attention
from napari_medattn.models import create_model, load_authors_state
from napari_medattn.models.guided.names import self_guided_name
from napari_medattn.models.guided.semantic_guide import SCALES

_KINDS = {"position": "pam", "channel": "cam"}


def knows(meta: dict[str, Any]) -> bool:
    """Whether a golden is of this family."""
    return meta["model"] == "DAF_stack"


def build(meta: dict[str, Any]) -> nn.Module:
    """The network of a golden; the authors' class takes no options and is fixed to one channel, five classes."""
    kwargs = dict(meta["kwargs"])
    classes = kwargs.pop("num_classes", kwargs.pop("n_classes", 5))
    channels = kwargs.pop("in_channels", meta["input_shapes"]["x"][1])
    return create_model("self_guided", in_channels=channels, num_classes=classes, **kwargs)


def load(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Load weights under the authors' names, and remember which of our tensors each became."""
    load_authors_state(model, state)
    names = {key: self_guided_name(key) for key in state}
    for key in [key for key in state if key.endswith("running_mean")]:
        counter = key.replace("running_mean", "num_batches_tracked")
        names[counter] = self_guided_name(counter)
    model.authors_names = {theirs: ours for theirs, ours in names.items() if ours is not None}


def named(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers under the authors' names."""
    own = model.state_dict(keep_vars=True)
    return {theirs: own[ours] for theirs, ours in model.authors_names.items()}


def run(model: nn.Module, inputs: dict[str, Tensor], meta: dict[str, Any]) -> tuple[Any, dict[str, Tensor]]:
    """One forward pass: outputs and full attention maps under the golden's names."""
    if model.training:
        return _training_tensors(model, inputs["x"]), {}
    with capture_attention(model) as captured:
        out = model(inputs["x"])
    return {"out": out}, {_site_name(key): _matrix(record) for key, record in captured.items()}


def _matrix(record: Any) -> Tensor:
    if record.site.kind == "pairwise":
        return record.rows(slice(None))[:, 0]
    return record.maps()[:, 0]


def _site_name(key: str) -> str:
    step, scale, kind, _ = key.split(".")
    return f"{_KINDS[kind]}_attention_{step[-1]}_{scale[-1]}.attn.3"


def _training_tensors(model: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """The 32 tensors that the authors' network returns in training."""
    made, found = model.traced(x), {}
    for at, scale in enumerate(SCALES, start=1):
        found[f"semVector_1_{at}"] = torch.flatten(made.first[scale].code)
        found[f"semVector_2_{at}"] = torch.flatten(made.second[scale].code)
    for at, step in enumerate((made.first, made.second)):
        for scale in SCALES:
            found[f"inp_enc{4 * at + scale - 1}"] = step[scale].guided
            found[f"out_enc{4 * at + scale - 1}"] = step[scale].reconstruction
    for scale in SCALES:
        found[f"outputs{scale - 1}"] = made.coarse[scale]
        found[f"outputs{scale - 1}_2"] = made.refined[scale]
    return found
