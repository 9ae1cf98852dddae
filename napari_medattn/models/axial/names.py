"""The authors' key names of the axial attention networks, translated into ours."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor, nn

# Never used by the authors' code, or, as the last, following from the sizes.
_DEAD = re.compile(r"adjust_p\.(weight|bias)|layer\d(_p)?\.\d+\.conv1\.(weight|bias)|.*\.flatten_index")

_ATTENTION = {
    "qkv_transform.weight": "project.conv.weight",
    "relative": "vectors",
    "f_qr": "query_gate",
    "f_kr": "key_gate",
    "f_sve": "value_table_gate",
    "f_sv": "value_gate",
}
_ATTENTION_NORMS = {"bn_qkv": "project.norm", "bn_similarity": "logit_norm", "bn_output": "output_norm"}
_SIDES = {"hight_block": "column_attention", "width_block": "row_attention"}
_BLOCK = {
    "conv_down": "reduce.conv",
    "bn1": "reduce.norm",
    "conv_up": "expand.conv",
    "bn2": "expand.norm",
    "downsample.0": "shortcut.conv",
    "downsample.1": "shortcut.norm",
}


def medt_name(key: str) -> str | None:
    """Our name for the authors' ``key``; unknown keys come back as they are, dead ones as None."""
    if _DEAD.fullmatch(key):
        return None
    if key.startswith("decoderf."):
        return key.replace("decoderf", "merge")
    if key.startswith("adjust."):
        return key.replace("adjust", "head")
    found = re.fullmatch(r"(conv|bn|layer|decoder)(\d)(_p)?\.(.+)", key)
    if not found:
        return key
    part, number, local, rest = found.groups()
    branch = "local." if local else ""
    if part == "layer":
        return f"{branch}layer{number}.{_in_block(rest)}"
    ours = {"conv": "stem.conv", "bn": "stem.norm", "decoder": "decode"}[part]
    return f"{branch}{ours}{number}.{rest}"


def _in_block(key: str) -> str:
    number, _, key = key.partition(".")
    side, _, rest = key.partition(".")
    if side in _SIDES:
        norm, _, leaf = rest.partition(".")
        inside = _ATTENTION.get(rest) or (f"{_ATTENTION_NORMS[norm]}.{leaf}" if norm in _ATTENTION_NORMS else rest)
        return f"{number}.{_SIDES[side]}.{inside}"
    part, _, leaf = key.rpartition(".")
    return f"{number}.{_BLOCK.get(part, part)}.{leaf}"


def from_medt_names(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' state under our names; their 1-D projections become 1x1 convolutions."""
    ours: dict[str, Tensor] = {}
    for key, tensor in state.items():
        name = medt_name(key)
        if name is not None:
            ours[name] = tensor.unsqueeze(-1) if name.endswith("project.conv.weight") else tensor
    return ours
