"""DSPConv, the depthwise separable shuffled convolution of EMF-former, and the channel shuffle in it.

Hao et al., EMF-Former, MICCAI 2024, https://doi.org/10.1007/978-3-031-72111-3_22. Stated by the paper's abstract and by
summaries of it: depthwise convolution, channel shuffle, pointwise convolution. Inferred: batch norm and activation
behind both convolutions, the residual, and that the pointwise convolution is grouped. (In front of a dense one the
shuffle would be absorbed by its columns and change nothing; ``pointwise_groups=1`` is that literal reading.)
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_medattn.errors import ModelError
from napari_medattn.models.convolution import BATCH_NORM
from napari_medattn.models.emf.depthwise import DEPTHWISE

Activation = Literal["relu", "gelu"]


def activation_layer(name: Activation) -> nn.Module:
    """ReLU or GELU.

    Raises:
        ModelError: For another name.
    """
    if name not in get_args(Activation):
        raise ModelError(f"There is no activation {name!r}.", f"Use one of {', '.join(get_args(Activation))}.")
    return nn.ReLU(inplace=True) if name == "relu" else nn.GELU()


def shuffle_order(channels: int, groups: int) -> Tensor:
    """Where the channels of a shuffle come from: channel ``i`` behind it is channel ``order[i]`` in front of it.

    The channels of each group are dealt out evenly, as in ShuffleNet (Zhang et al., arXiv 1707.01083, section 3.1).
    ``shuffle_order(channels, channels // groups)`` is the way back.
    """
    return torch.arange(channels).view(groups, channels // groups).t().flatten()


def pointwise(x: Tensor, matrix: Tensor, bias: Tensor | None = None) -> Tensor:
    """A 1x1 convolution of (B, in, spatial) with an (out, in) matrix, with channels last in memory.

    As a matrix product: torch has no quick 1x1 convolution of few channels on a CPU.
    """
    return F.linear(x.movedim(1, -1), matrix, bias).movedim(-1, 1)


class Pointwise2d(nn.Conv2d):
    """A 1x1 convolution, see `pointwise`."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, Y, X) -> (B, out, Y, X)."""
        return pointwise(x, self.weight.flatten(1), self.bias)


class Pointwise3d(nn.Conv3d):
    """A 1x1 convolution, see `pointwise`."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, Z, Y, X) -> (B, out, Z, Y, X)."""
        return pointwise(x, self.weight.flatten(1), self.bias)


POINTWISE: dict[int, Callable[[int, int], Pointwise2d | Pointwise3d]] = {2: Pointwise2d, 3: Pointwise3d}


class ShuffledPointwise(nn.Module):
    """Channel shuffle and grouped 1x1 convolution without bias, computed as one matrix product.

    The shuffle and the groups only say which entries of the (out, in) matrix may differ from zero, so both are free.

    Args:
        dims: Spatial axes, 2 or 3.
        in_channels: Channels that come in.
        out_channels: Channels that go out.
        shuffle_groups: Groups of the shuffle; 1 is no shuffle.
        groups: Groups of the convolution.
    """

    sources: Tensor

    def __init__(self, dims: int, in_channels: int, out_channels: int, shuffle_groups: int, groups: int) -> None:
        super().__init__()
        for name, parts, channels in (
            ("shuffle_groups", shuffle_groups, in_channels),
            ("pointwise_groups", groups, math.gcd(in_channels, out_channels)),
        ):
            if parts < 1 or channels % parts:
                raise ModelError(
                    f"{name} {parts} does not divide {in_channels} into {out_channels} channels.",
                    "Use a smaller number, or widths that are multiples of it.",
                )
        self.dims, self.in_channels, self.groups = dims, in_channels, groups
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels // groups))
        nn.init.kaiming_normal_(self.weight)
        sources = shuffle_order(in_channels, shuffle_groups).view(groups, -1)
        sources = sources.repeat_interleave(out_channels // groups, dim=0)
        self.register_buffer("sources", sources, persistent=False)

    def matrix(self) -> Tensor:
        """The (out, in) matrix over the channels in their order before the shuffle."""
        zeros = self.weight.new_zeros(len(self.weight), self.in_channels)
        return zeros.scatter(1, self.sources, self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, spatial) -> (B, out, spatial), with channels last in memory."""
        return pointwise(x, self.matrix())

    def folded(self) -> nn.Module:
        """The 1x1 convolution with the whole matrix."""
        dense = POINTWISE[self.dims](self.in_channels, len(self.weight))
        dense.weight = nn.Parameter(self.matrix().detach()[(..., *[None] * self.dims)])
        dense.bias = None
        return dense.eval()


class PointwiseUnit(nn.Sequential):
    """`ShuffledPointwise`, batch norm, and an activation unless it is None."""

    def __init__(
        self,
        dims: int,
        in_channels: int,
        out_channels: int,
        shuffle_groups: int = 1,
        groups: int = 1,
        activation: Activation | None = "relu",
    ) -> None:
        parts: OrderedDict[str, nn.Module] = OrderedDict(
            conv=ShuffledPointwise(dims, in_channels, out_channels, shuffle_groups, groups),
            norm=BATCH_NORM[dims](out_channels),
        )
        if activation is not None:
            parts["act"] = activation_layer(activation)
        super().__init__(parts)


class DSPConv(nn.Module):
    """Depthwise convolution, shuffle, pointwise convolution; with a residual where the shapes match.

    Args:
        dims: Spatial axes, 2 or 3.
        in_channels: Channels that come in.
        out_channels: Channels that go out.
        kernel: Odd side of the depthwise kernel.
        stride: Divides the sides.
        shuffle_groups: Groups of the channel shuffle.
        pointwise_groups: Groups of the pointwise convolution.
        activation: ``"relu"`` or ``"gelu"``.
    """

    def __init__(
        self,
        dims: int,
        in_channels: int,
        out_channels: int,
        *,
        kernel: int = 3,
        stride: int = 1,
        shuffle_groups: int = 4,
        pointwise_groups: int = 4,
        activation: Activation = "relu",
    ) -> None:
        super().__init__()
        self.residual = stride == 1 and in_channels == out_channels
        if kernel % 2 == 0:
            raise ModelError(f"A depthwise kernel of side {kernel} has no centre.", "Use an odd number.")
        self.depthwise = nn.Sequential(
            OrderedDict(
                conv=DEPTHWISE[dims](in_channels, kernel, stride),
                norm=BATCH_NORM[dims](in_channels),
                act=activation_layer(activation),
            )
        )
        self.pointwise = PointwiseUnit(dims, in_channels, out_channels, shuffle_groups, pointwise_groups, activation)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, spatial) -> (B, out, spatial / stride)."""
        y: Tensor = self.pointwise(self.depthwise(x))
        return x + y if self.residual else y
