"""The authors' key names of the Attention U-Net family, translated into ours."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from torch import Tensor, nn

_UNIT = {"0": "conv", "1": "norm"}
_BLOCK = {"conv1": "first", "conv2": "second"}


def _unit(prefix: str, part: str, index: str, leaf: str) -> str:
    return f"{prefix}.{_BLOCK[part]}.{_UNIT[index]}.{leaf}"


# (pattern of the authors' key, our key); the first that matches the whole key wins.
_RULES: list[tuple[str, Callable[[re.Match[str]], str]]] = [
    (r"conv(\d)\.(conv[12])\.([01])\.(\w+)", lambda m: _unit(f"encode{m[1]}", m[2], m[3], m[4])),
    (r"center\.(conv[12])\.([01])\.(\w+)", lambda m: _unit("bottleneck", m[1], m[2], m[3])),
    (
        r"up_concat(\d)\.conv\.(conv[12])\.([01])\.(\w+)",
        lambda m: _unit(f"decode{m[1]}.block", m[2], m[3], m[4]),
    ),
    (r"gating\.conv1\.([01])\.(\w+)", lambda m: f"gating_signal.{_UNIT[m[1]]}.{m[2]}"),
    (
        r"attentionblock(\d)\.combine_gates\.([01])\.(\w+)",
        lambda m: f"skip{m[1]}.combine.{_UNIT[m[2]]}.{m[3]}",
    ),
    (
        r"attentionblock(\d)\.gate_block_(\d)\.(.+)",
        lambda m: f"skip{m[1]}.gate{m[2]}.{gate_name(m[3])}",
    ),
    (r"attentionblock(\d)\.(.+)", lambda m: f"skip{m[1]}.gate1.{gate_name(m[2])}"),
    (r"dsv(\d)\.(?:dsv\.0\.)?(weight|bias)", lambda m: f"head{m[1]}.conv.{m[2]}"),
]


def gate_name(key: str) -> str:
    """Our name of a tensor inside an attention gate: ``W.0`` and ``W.1`` are its transform."""
    return re.sub(r"^W\.([01])\.", lambda m: f"transform.{_UNIT[m[1]]}.", key)


def unet_name(key: str, final: str = "fuse") -> str:
    """Our name for the authors' ``key``; unknown keys come back as they are."""
    for pattern, name in _RULES:
        match = re.fullmatch(pattern, key)
        if match:
            return name(match)
    return re.sub(r"^final\.", f"{final}.", key)


def from_unet_names(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' state under our names.

    Kernels turn from the authors' (X, Y, Z) axis order into (Z, Y, X) where the network's slices lie
    along axis 0, see `GridGatingUNet`.
    """
    final = "fuse" if hasattr(model, "fuse") else "head"
    turn = getattr(model, "slice_axis", 2) == 0
    return {
        unet_name(key, final): tensor.movedim(-1, 2) if turn and tensor.ndim == 5 else tensor
        for key, tensor in state.items()
    }
