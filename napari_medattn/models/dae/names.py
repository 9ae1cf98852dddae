"""The authors' key names of DAE-Former, translated into ours."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor, nn

_PARTS = {
    "attn.reprojection": "efficient.projection",
    "attn": "efficient",
    "channel_attn.proj": "channel.projection",
    "channel_attn": "channel",
    "mlp1": "feed_forward1",
    "mlp2": "feed_forward2",
}
_SKIP_PARTS = {
    "attn.reprojection": "cross.projection",
    "attn.norm": "cross.norm",
    "mlp": "feed_forward",
}
_FEED_FORWARD = {"fc1": "widen", "dwconv.dwconv": "depthwise", "fc2": "narrow", "norm1": "norm"}

# The deepest decoder stage only expands; the rest of it, and two norms of every feed-forward part, is never used.
_NEVER_USED = re.compile(
    r"decoder_2\.(x1_linear|cross_attn|concat_linear|layer_former_[12])\..+|.+\.mlp[12]?\.norm[23]\.(weight|bias)"
)


def _translate(key: str, table: Mapping[str, str]) -> str:
    """Replace the first dotted prefix that the table knows."""
    for theirs, ours in table.items():
        if key.startswith(f"{theirs}."):
            return f"{ours}{key.removeprefix(theirs)}"
    return key


def _inside(key: str, table: Mapping[str, str]) -> str:
    """Our name of a tensor inside a dual block or a skip."""
    name = _translate(key, table)
    head, dot, rest = name.partition(".")
    return f"{head}{dot}{_translate(rest, _FEED_FORWARD)}" if head.startswith("feed_forward") else name


def dae_name(key: str) -> str | None:
    """Our name for the authors' ``key``; unknown keys come back as they are, what is never used as None."""
    if _NEVER_USED.fullmatch(key):
        return None
    if match := re.fullmatch(r"backbone\.patch_embed(\d)\.(proj|norm)\.(\w+)", key):
        part = {"proj": "convolution", "norm": "norm"}[match[2]]
        return f"encode{match[1]}.embed.{part}.{match[3]}"
    if match := re.fullmatch(r"backbone\.norm(\d)\.(\w+)", key):
        return f"encode{match[1]}.norm.{match[2]}"
    if match := re.fullmatch(r"backbone\.block(\d)\.(\d+)\.(.+)", key):
        return f"encode{match[1]}.block{int(match[2]) + 1}.{_inside(match[3], _PARTS)}"
    if match := re.fullmatch(r"decoder_(\d)\.layer_up\.(expand|norm)\.(\w+)", key):
        # Their decoder stages are numbered by the expansion at their end, ours by the grid that they work on.
        stage = {"2": "expand3", "1": "expand2", "0": "head.expand"}.get(match[1])
        part = {"expand": "linear", "norm": "norm"}[match[2]]
        return key if stage is None else f"{stage}.{part}.{match[3]}"
    if match := re.fullmatch(r"decoder_0\.last_layer\.(\w+)", key):
        return f"head.classify.{match[1]}"
    if match := re.fullmatch(r"decoder_([01])\.(.+)", key):
        return _decoder_name(f"decode{int(match[1]) + 1}", match[2]) or key
    return key


def _decoder_name(stage: str, key: str) -> str | None:
    if match := re.fullmatch(r"layer_former_([12])\.(.+)", key):
        return f"{stage}.block{match[1]}.{_inside(match[2], _PARTS)}"
    if match := re.fullmatch(r"cross_attn\.(.+)", key):
        return f"{stage}.skip.{_inside(match[1], _SKIP_PARTS)}"
    if match := re.fullmatch(r"(x1_linear|concat_linear)\.(\w+)", key):
        part = {"x1_linear": "lift", "concat_linear": "skip.merge"}[match[1]]
        return f"{stage}.{part}.{match[2]}"
    return None


def from_dae_names(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' state under our names, without what they never use; their 1x1 convolutions are linear maps here."""
    wanted = {name: parameter.ndim for name, parameter in model.named_parameters()}
    found = {}
    for key, tensor in state.items():
        name = dae_name(key)
        if name is not None:
            found[name] = tensor.flatten(1) if _is_linear_map(tensor, wanted.get(name)) else tensor
    return found


def _is_linear_map(tensor: Tensor, wanted_axes: int | None) -> bool:
    return wanted_axes == 2 and tensor.ndim == 4 and tuple(tensor.shape[2:]) == (1, 1)
