"""The residual encoders ResNet and ResNeXt as a ladder of five feature maps, without their classifier.

He et al., arXiv 1512.03385, and Xie et al., arXiv 1611.05431. The bottleneck has its stride in the 3x3
convolution, as in the common implementations, and not in the first 1x1 as in the first paper.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional as F

from napari_medattn.errors import ModelError

EXPANSION = 4


@dataclass(frozen=True)
class Backbone:
    """Size of an encoder.

    Attributes:
        depths: Blocks of the four stages.
        groups: Groups of the 3x3 convolution.
        group_width: Channels of a group in the first stage of an encoder whose width is 64.
    """

    depths: tuple[int, int, int, int]
    groups: int
    group_width: int


BACKBONES = {
    "resnext101_32x8d": Backbone((3, 4, 23, 3), 32, 8),
    "resnext50_32x4d": Backbone((3, 4, 6, 3), 32, 4),
    "resnext26_8x8d": Backbone((2, 2, 2, 2), 8, 8),
    "resnet101": Backbone((3, 4, 23, 3), 1, 64),
    "resnet50": Backbone((3, 4, 6, 3), 1, 64),
}


def _unit(
    in_channels: int, out_channels: int, kernel: int, stride: int = 1, groups: int = 1
) -> OrderedDict[str, nn.Module]:
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2, groups=groups, bias=False)
    return OrderedDict(conv=conv, norm=nn.BatchNorm2d(out_channels))


def _active(unit: OrderedDict[str, nn.Module]) -> nn.Sequential:
    return nn.Sequential(OrderedDict(unit, act=nn.ReLU(inplace=True)))


class Bottleneck(nn.Module):
    """1x1, grouped 3x3 and 1x1 convolution around a shortcut."""

    def __init__(self, in_channels: int, inner: int, out_channels: int, stride: int, groups: int) -> None:
        super().__init__()
        self.reduce = _active(_unit(in_channels, inner, 1))
        self.group = _active(_unit(inner, inner, 3, stride, groups))
        self.expand = nn.Sequential(_unit(inner, out_channels, 1))
        changed = stride != 1 or in_channels != out_channels
        self.shortcut = nn.Sequential(_unit(in_channels, out_channels, 1, stride)) if changed else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, Y, X) -> (B, out, Y / stride, X / stride)."""
        return F.relu_(self.expand(self.group(self.reduce(x))).add_(self.shortcut(x)))


class ResidualEncoder(nn.Module):
    """A stem and four stages of `Bottleneck`s.

    Args:
        in_channels: Image channels C.
        name: One of `BACKBONES`.
        width: Channels behind the stem; everything else follows. 64 in the papers, a multiple of 8.

    Attributes:
        channels: Channels of what the four stages give.
    """

    def __init__(self, in_channels: int, name: str, width: int) -> None:
        super().__init__()
        if name not in BACKBONES:
            raise ModelError(f"There is no backbone {name!r}.", f"Use one of {', '.join(BACKBONES)}.")
        size = BACKBONES[name]
        inner = width * size.group_width * size.groups // 64
        if width < 1 or inner % size.groups or (width * size.group_width * size.groups) % 64:
            raise ModelError(
                f"backbone_width {width} does not fit the groups of {name}.", "Use a multiple of 8, 64 as published."
            )
        self.stem = _active(_unit(in_channels, width, 7, 2))
        self.channels = tuple(EXPANSION * width * 2**stage for stage in range(4))
        before = width
        for stage, (depth, after) in enumerate(zip(size.depths, self.channels, strict=True)):
            blocks = []
            for block in range(depth):
                stride = 2 if stage and not block else 1
                blocks.append(Bottleneck(before, inner * 2**stage, after, stride, size.groups))
                before = after
            self.add_module(f"stage{stage + 1}", nn.Sequential(*blocks))

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, C, Y, X) -> what the stages give, at strides 4, 8, 16 and 32; odd sizes are rounded up."""
        x = F.max_pool2d(self.stem(x), 3, stride=2, padding=1)
        ladder = []
        for stage in (1, 2, 3, 4):
            x = self.get_submodule(f"stage{stage}")(x)
            ladder.append(x)
        return ladder
