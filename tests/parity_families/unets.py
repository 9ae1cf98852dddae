"""Attention U-Net and its gates: the authors' models, options and key names meet ours."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from napari_medattn.attention import capture_attention
from napari_medattn.models import create_model, load_authors_state
from napari_medattn.models.unet.grid_gate import GridGate
from napari_medattn.models.unet.names import gate_name, unet_name

_NETWORKS: dict[str, tuple[str, dict[str, Any]]] = {
    "unet_ct_single_att_dsv": ("attention_unet", {"gates_per_skip": 1}),
    "unet_ct_multi_att_dsv": ("attention_unet", {"gates_per_skip": 2}),
    "unet_ct_dsv": ("attention_unet", {"gates_per_skip": 0}),
    # The authors' arrays are (X, Y, Z): their slices lie along the last axis.
    "unet_grid_gating": ("grid_gating_unet", {"slice_axis": 2}),
}
_GATES = {"GridAttentionBlock2D": 2, "GridAttentionBlock3D": 3}


def knows(meta: dict[str, Any]) -> bool:
    """Whether a golden is of this family."""
    return meta["model"] in _NETWORKS or meta["model"] in _GATES


class BareGate(nn.Module):
    """A `GridGate` alone, with the two inputs of the golden."""

    def __init__(self, dims: int, kwargs: dict[str, Any], align_corners: bool) -> None:
        super().__init__()
        self.gate = GridGate(
            dims,
            kwargs["in_channels"],
            kwargs["gating_channels"],
            inter_channels=kwargs["inter_channels"],
            subsample=tuple(kwargs["sub_sample_factor"]),
            compatibility=kwargs["mode"],
            align_corners=align_corners,
        )

    def forward(self, x: Tensor, g: Tensor) -> tuple[Tensor, Tensor]:
        seen: dict[str, Tensor] = {}
        self.gate.tap.attach(seen.update)
        try:
            return self.gate(x, g), seen["gate"]
        finally:
            self.gate.tap.detach(seen.update)


def build(meta: dict[str, Any]) -> nn.Module:
    """The network of a golden."""
    kwargs, align = meta["kwargs"], bool(meta.get("align_corners"))
    if meta["model"] in _GATES:
        return BareGate(_GATES[meta["model"]], kwargs, align)
    name, options = _NETWORKS[meta["model"]]
    return create_model(
        name,
        in_channels=kwargs["in_channels"],
        num_classes=kwargs["n_classes"],
        spatial_dims=int(kwargs["tensor_dim"][0]),
        feature_scale=kwargs["feature_scale"],
        compatibility=kwargs.get("nonlocal_mode", "concatenation"),
        align_corners=align,
        **options,
    )


def load(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Load weights under the authors' names, and remember which of our tensors each became."""
    if isinstance(model, BareGate):
        names = {key: f"gate.{gate_name(key)}" for key in state}
        model.load_state_dict({names[key]: tensor for key, tensor in state.items()}, strict=False)
    else:
        names = {key: unet_name(key, "fuse" if hasattr(model, "fuse") else "head") for key in state}
        load_authors_state(model, state)
    counters = {k: v for k, v in names.items() if k.endswith("running_mean")}
    for theirs, ours in counters.items():
        names[_counter(theirs)] = _counter(ours)
    model.authors_names = names


def named(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers under the authors' names."""
    own = model.state_dict(keep_vars=True)
    return {theirs: own[ours] for theirs, ours in model.authors_names.items()}


def run(model: nn.Module, inputs: dict[str, Tensor], meta: dict[str, Any]) -> tuple[Any, dict[str, Tensor]]:
    """One forward pass: outputs and full attention maps under the golden's names."""
    if isinstance(model, BareGate):
        out, att = model(**inputs)
        return {"out": out}, {"att": att}
    if not model.sites():
        return {"out": model(**inputs)}, {}
    with capture_attention(model) as captured:
        out = model(**inputs)
    return {"out": out}, {_site_name(key, meta): record.maps() for key, record in captured.items()}


def _site_name(key: str, meta: dict[str, Any]) -> str:
    skip, gate = key.split(".")
    block = skip.replace("skip", "attentionblock")
    return block if meta["model"] == "unet_grid_gating" else f"{block}.{gate.replace('gate', 'gate_block_')}"


def _counter(key: str) -> str:
    return key.replace("running_mean", "num_batches_tracked")
