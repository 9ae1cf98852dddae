"""DAE-Former: the authors' model, options and key names meet ours."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from napari_medattn.attention import capture_attention
from napari_medattn.models import create_model, load_authors_state
from napari_medattn.models.dae.efficient_attention import EfficientAttention, gather_context
from napari_medattn.models.dae.names import dae_name


def knows(meta: dict[str, Any]) -> bool:
    """Whether a golden is of this family."""
    return meta["model"] == "DAEFormer"


def build(meta: dict[str, Any]) -> nn.Module:
    """The network of a golden."""
    kwargs = meta["kwargs"]
    return create_model(
        "dae_former",
        in_channels=meta["input_shapes"]["x"][1],
        num_classes=kwargs["num_classes"],
        cross_heads=kwargs.get("head_count", 1),
        feed_forward=kwargs.get("token_mlp_mode", "mix_skip"),
    )


def load(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Load weights under the authors' names, and remember which of our tensors each became, and its shape."""
    load_authors_state(model, state)
    names = {key: dae_name(key) for key in state}
    model.authors_names = {key: (name, state[key].shape) for key, name in names.items() if name is not None}


def named(model: nn.Module) -> dict[str, Tensor]:
    """Parameters under the authors' names and in their shapes: theirs are 1x1 convolutions where ours are linear."""
    own = dict(model.named_parameters())
    found = {}
    for theirs, (ours, shape) in model.authors_names.items():
        found[theirs] = own[ours].detach().view(shape)
        if own[ours].grad is not None:
            found[theirs].grad = own[ours].grad.view(shape)
    return found


def run(model: nn.Module, inputs: dict[str, Tensor], meta: dict[str, Any]) -> tuple[Any, dict[str, Tensor]]:
    """One forward pass: outputs and full attention maps under the golden's names."""
    values: dict[str, Tensor] = {}
    hooks = [
        model.get_submodule(site.key).register_forward_pre_hook(_keep_values(values, site.key))
        for site in model.sites()
        if site.kind == "factored"
    ]
    with capture_attention(model) as captured:
        out = model(**inputs)
    for hook in hooks:
        hook.remove()

    maps = {}
    for key, record in captured.items():
        theirs = _site_name(key)
        if record.site.kind == "channel":
            maps[theirs] = record.weights
            continue
        keys = record.keys.flatten(3)
        maps[f"{theirs}.key"], maps[f"{theirs}.query"] = keys, record.queries.flatten(3)
        maps[f"{theirs}.context"] = gather_context(keys.flatten(1, 2).mT, values[key], keys.shape[1])
    return {"out": out}, maps


def _keep_values(values: dict[str, Tensor], key: str) -> Any:
    @torch.no_grad()
    def keep(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        tokens = given[0].flatten(1, 2)
        values[key] = module.values(tokens) if isinstance(module, EfficientAttention) else tokens

    return keep


def _site_name(key: str) -> str:
    stage, block, part = key.split(".")
    number = int(stage[-1])
    part = {"efficient": "attn", "channel": "channel_attn", "cross": "cross_attn.attn"}[part]
    if stage.startswith("encode"):
        return f"backbone.block{number}.{int(block.removeprefix('block')) - 1}.{part}"
    layer = "" if block == "skip" else f"layer_former_{block.removeprefix('block')}."
    return f"decoder_{number - 1}.{layer}{part}"
