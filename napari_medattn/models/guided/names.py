"""The authors' key names of multi-scale self-guided attention, translated into ours."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from torch import Tensor, nn

_UNIT = ("conv", "norm", "act")
_BLOCK = {"1": "reduce", "2": "group", "3": "expand"}
_BRANCH = {"pam": "position", "cam": "channel"}
_ATTEND = {"query_conv": "query", "key_conv": "key", "value_conv": "value", "gamma": "gain"}
_GUIDE = {"enc": "encode", "dec": "decode"}
_PART = {"conv": "conv", "bn": "norm"}
# In the state dict, and used by no line of their code.
_UNUSED = re.compile(r"conv[67]_[1-4]\.1\.\w+|(attention|refine)[1-4]\.fuse_attn\..+")


def _block(stage: str, rest: str) -> str:
    """Our name of a tensor in a residual block."""
    rest = re.sub(r"(conv|bn)([123])\.", lambda m: f"{_BLOCK[m[2]]}.{_PART[m[1]]}.", rest)
    rest = re.sub(r"downsample\.([01])\.", lambda m: f"shortcut.{_UNIT[int(m[1])]}.", rest)
    return f"encoder.stage{stage}.{rest}"


def _branch(kind: str, step: str, scale: str, index: int, rest: str) -> str:
    """Our name of a tensor in an attention branch: 0-2 and 4-6 are the units around the attention."""
    prefix = f"step{step}.scale{scale}.{_BRANCH[kind]}"
    if index == 3:
        first, dot, leaf = rest.partition(".")
        return f"{prefix}.attend.{_ATTEND.get(first, first)}{dot}{leaf}"
    unit, part = ("before", index) if index < 3 else ("after", index - 4)
    return f"{prefix}.{unit}.{_UNIT[part]}.{rest}"


def _guide(step: str, kind: str, level: str, index: int, leaf: str) -> str:
    part = "up" if index == 6 else f"{('first', 'second')[index // 3]}.{_UNIT[index % 3]}"
    return f"step{step}.guide.{_GUIDE[kind]}{level}.{part}.{leaf}"


def _fuse(index: int, leaf: str) -> str:
    return f"fuse.{('first', 'second', 'third')[index // 3]}.{_UNIT[index % 3]}.{leaf}"


# (pattern of the authors' key, our key); the first that matches the whole key wins. Where they count from the
# deepest scale, the number is turned round.
_RULES: list[tuple[str, Callable[[re.Match[str]], str]]] = [
    (r"resnext\.layer0\.([01])\.(\w+)", lambda m: f"encoder.stem.{_UNIT[int(m[1])]}.{m[2]}"),
    (r"resnext\.layer1\.1\.(\d+\..+)", lambda m: _block("1", m[1])),
    (r"resnext\.layer([234])\.(\d+\..+)", lambda m: _block(m[1], m[2])),
    (r"down([1-4])\.([012])\.(\w+)", lambda m: f"reduce{m[1]}.{_UNIT[int(m[2])]}.{m[3]}"),
    (r"fuse1\.fuse_attn\.([0-8])\.(\w+)", lambda m: _fuse(int(m[1]), m[2])),
    (
        r"(pam|cam)_attention_([12])_([1-4])\.attn\.([0-6])\.(.+)",
        lambda m: _branch(m[1], m[2], m[3], int(m[4]), m[5]),
    ),
    (
        r"semanticModule_([12])_1\.(enc|dec)([12])\.(?:encode|decode)\.([0-6])\.(\w+)",
        lambda m: _guide(m[1], m[2], m[3], int(m[4]), m[5]),
    ),
    (r"conv_sem_([12])_([1-4])\.(\w+)", lambda m: f"step{m[1]}.scale{5 - int(m[2])}.steer.{m[3]}"),
    (r"conv8_(1?)([1-4])\.(\w+)", lambda m: f"step{2 if m[1] else 1}.scale{5 - int(m[2])}.merge.{m[3]}"),
    (r"predict([1-4])\.(\w+)", lambda m: f"coarse_head{m[1]}.{m[2]}"),
    (r"predict([1-4])_2\.(\w+)", lambda m: f"head{m[1]}.{m[2]}"),
]


def self_guided_name(key: str) -> str | None:
    """Our name for the authors' ``key``; None for what they never use; unknown keys come back as they are."""
    if _UNUSED.fullmatch(key):
        return None
    for pattern, name in _RULES:
        match = re.fullmatch(pattern, key)
        if match:
            return name(match)
    return key


def from_self_guided_names(model: nn.Module, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The authors' state under our names, without what their forward pass never uses."""
    names = {key: self_guided_name(key) for key in state}
    return {name: state[key] for key, name in names.items() if name is not None}
