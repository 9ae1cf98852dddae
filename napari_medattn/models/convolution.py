"""Convolution blocks for two and three spatial axes from one source."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

CONV: dict[int, Callable[..., nn.Module]] = {2: nn.Conv2d, 3: nn.Conv3d}
BATCH_NORM: dict[int, Callable[..., nn.Module]] = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
LINEAR = {2: "bilinear", 3: "trilinear"}
Size = int | tuple[int, ...]


def resize(x: Tensor, size: tuple[int, ...], align_corners: bool) -> Tensor:
    """Linear interpolation of (B, C, spatial) to a spatial ``size``; a view if it already fits."""
    if tuple(x.shape[2:]) == tuple(size):
        return x
    return F.interpolate(x, size=tuple(size), mode=LINEAR[x.ndim - 2], align_corners=align_corners)


class ConvUnit(nn.Sequential):
    """Convolution with bias, batch norm, ReLU; the size is kept."""

    def __init__(self, dims: int, in_channels: int, out_channels: int, kernel: Size = 3) -> None:
        sizes = (kernel,) * dims if isinstance(kernel, int) else kernel
        padding = tuple(k // 2 for k in sizes)
        super().__init__(
            OrderedDict(
                conv=CONV[dims](in_channels, out_channels, sizes, padding=padding),
                norm=BATCH_NORM[dims](out_channels),
                act=nn.ReLU(inplace=True),
            )
        )


class ConvBlock(nn.Sequential):
    """Two `ConvUnit`s, the first of which changes the number of channels."""

    def __init__(self, dims: int, in_channels: int, out_channels: int, kernel: Size = 3) -> None:
        super().__init__(
            OrderedDict(
                first=ConvUnit(dims, in_channels, out_channels, kernel),
                second=ConvUnit(dims, out_channels, out_channels, kernel),
            )
        )


class UpBlock(nn.Module):
    """Upsample the deep tensor to the skip's size, concatenate (skip, deep), convolve twice."""

    def __init__(
        self, dims: int, skip_channels: int, deep_channels: int, kernel: Size = 3, align_corners: bool = False
    ) -> None:
        super().__init__()
        self.align_corners = align_corners
        self.block = ConvBlock(dims, skip_channels + deep_channels, skip_channels, kernel)

    def forward(self, skip: Tensor, deep: Tensor) -> Tensor:
        """(B, S, spatial) and (B, D, coarser spatial) -> (B, S, spatial)."""
        return self.block(self.joined(skip, deep))  # type: ignore[no-any-return]

    def joined(self, skip: Tensor, deep: Tensor) -> Tensor:
        """(B, S, spatial) and (B, D, coarser spatial) -> (B, S + D, spatial), what `block` convolves."""
        return torch.cat([skip, resize(deep, tuple(skip.shape[2:]), self.align_corners)], dim=1)


def initialise(module: nn.Module) -> None:
    """Initialise as the Attention U-Net authors do: Kaiming convolutions, batch-norm gains N(1, 0.02)."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d | nn.Conv3d):
            nn.init.kaiming_normal_(part.weight, a=0, mode="fan_in")
        elif isinstance(part, nn.BatchNorm2d | nn.BatchNorm3d):
            nn.init.normal_(part.weight, 1.0, 0.02)
            nn.init.zeros_(part.bias)
