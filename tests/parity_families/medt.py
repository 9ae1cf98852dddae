"""The Medical Transformer family: the authors' models, options and key names meet ours."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from napari_medattn.attention import capture_attention
from napari_medattn.attention.records import AxialRecord
from napari_medattn.models import create_model, load_authors_state
from napari_medattn.models.axial.names import medt_name

_NETWORKS = {"MedT": "medt", "logo": "logo", "gated": "gated_axial_unet", "axialunet": "axial_unet"}
_SIDES = {"column_attention": "hight_block", "row_attention": "width_block"}


def knows(meta: dict[str, Any]) -> bool:
    """Whether a golden is of this family."""
    return meta["model"] in _NETWORKS


def build(meta: dict[str, Any]) -> nn.Module:
    """The network of a golden."""
    kwargs = meta["kwargs"]
    return create_model(
        _NETWORKS[meta["model"]],
        in_channels=kwargs.get("imgchan", 3),
        num_classes=kwargs.get("num_classes", 2),
        image_size=kwargs.get("img_size", 128),
    )


def load(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Load weights under the authors' names, and remember which of our tensors each became."""
    load_authors_state(model, state)
    names = {key: name for key in state if (name := medt_name(key)) is not None}
    counters = {k: v for k, v in names.items() if k.endswith("running_mean")}
    model.authors_names = names | {_counter(theirs): _counter(ours) for theirs, ours in counters.items()}


def named(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers under the authors' names; projections in their 1-D shape."""
    own = model.state_dict(keep_vars=True)
    return {theirs: _without_last_axis(own[ours]) if theirs.endswith("qkv_transform.weight") else own[ours]
            for theirs, ours in model.authors_names.items()}  # fmt: skip


def run(model: nn.Module, inputs: dict[str, Tensor], meta: dict[str, Any]) -> tuple[Any, dict[str, Tensor]]:
    """One forward pass: outputs and full attention maps under the golden's names."""
    with capture_attention(model) as captured:
        out = model(**inputs)
    return {"out": out}, {_site_name(key): _weights(record) for key, record in captured.items()}


def _weights(record: AxialRecord) -> Tensor:
    weights = record.weights
    if record.site.key.startswith("local."):
        return weights.permute(1, 2, 0, 3, 4, 5, 6).flatten(2, 3).flatten(0, 1)
    return weights.flatten(0, 3)


def _site_name(key: str) -> str:
    *before, block, side = key.removeprefix("local.").split(".")
    stage = f"{before[0]}_p" if key.startswith("local.") else before[0]
    return f"{stage}.{block}.{_SIDES[side]}"


def _without_last_axis(kernel: Tensor) -> Tensor:
    flat = kernel.detach().squeeze(-1)
    flat.grad = None if kernel.grad is None else kernel.grad.squeeze(-1)
    return flat


def _counter(key: str) -> str:
    return key.replace("running_mean", "num_batches_tracked")
