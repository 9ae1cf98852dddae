"""3x3 convolutions as 36 matrix products per tile of 4 x 4 outputs, for inference.

Winograd's minimal filtering F(4x4, 3x3) needs a quarter of the multiplications (Lavin and Gray, arXiv
1509.09308, section 4). The interpolation points 0, +-2/3, +-4/3 and infinity keep it as exact in float32 as the
plain convolution; those of the paper lose a digit.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

OUTPUTS = 4
TAPS = 3
SIDE = OUTPUTS + TAPS - 1
POINTS = (0.0, 2 / 3, -2 / 3, 4 / 3, -4 / 3)
WORTHWHILE_CHANNELS = 64


def _powers(count: int) -> Tensor:
    """Powers 0 to count - 1 of the points, the last row is infinity's: (6, count) in float64."""
    rows = [[point**power for power in range(count)] for point in POINTS]
    return torch.tensor([*rows, [0.0] * (count - 1) + [1.0]], dtype=torch.float64)


class TiledImage:
    """A tensor (B, C, Y, X) whose tiles are cut once for all convolutions of it, when the first one asks."""

    def __init__(self, x: Tensor) -> None:
        self.x = x
        self._spread: Tensor | None = None

    @property
    def grid(self) -> tuple[int, int]:
        """Tiles along Y and X."""
        return -(-self.x.shape[2] // OUTPUTS), -(-self.x.shape[3] // OUTPUTS)

    def spread(self, into: Tensor) -> Tensor:
        """The tiles in the domain of the products, (B rows columns, 36, C); ``into`` is the transform."""
        if self._spread is None:
            height, width = self.x.shape[2:]
            rows, columns = self.grid
            margins = (0, 0, 1, columns * OUTPUTS - width + 1, 1, rows * OUTPUTS - height + 1)
            padded = F.pad(self.x.permute(0, 2, 3, 1), margins)
            tiles = padded.unfold(1, SIDE, OUTPUTS).unfold(2, SIDE, OUTPUTS).permute(0, 1, 2, 4, 5, 3)
            tiles = tiles.reshape(-1, SIDE * SIDE, self.x.shape[1])
            self._spread = torch.bmm(into.expand(len(tiles), -1, -1), tiles)
        return self._spread


class WinogradConv(nn.Module):
    """A convolution with kernel 3, stride 1 and zero padding of 1.

    Args:
        convolution: The convolution that it replaces.
    """

    kernel: Tensor
    bias: Tensor
    into: Tensor
    back: Tensor

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        weight = convolution.weight.detach()
        taps = _powers(TAPS).to(weight.device)
        kernel = torch.einsum("ai,ocij,bj->abco", taps, weight.double(), taps).flatten(0, 1)
        into, back = torch.linalg.inv(_powers(SIDE)).T, _powers(OUTPUTS).T
        bias = weight.new_zeros(len(weight)) if convolution.bias is None else convolution.bias.detach()
        self.register_buffer("kernel", kernel.to(weight.dtype).contiguous())
        self.register_buffer("bias", bias)
        self.register_buffer("into", torch.kron(into.contiguous(), into.contiguous()).to(weight))
        self.register_buffer("back", torch.kron(back.contiguous(), back.contiguous()).to(weight))

    def forward(self, x: Tensor | TiledImage) -> Tensor:
        """(B, C, Y, X) -> (B, out, Y, X), channels last."""
        image = x if isinstance(x, TiledImage) else TiledImage(x)
        batch, (height, width), (rows, columns) = len(image.x), image.x.shape[2:], image.grid
        products = torch.bmm(image.spread(self.into).transpose(0, 1), self.kernel).transpose(0, 1)
        found = torch.bmm(self.back.expand(len(products), -1, -1), products)
        found = found.view(batch, rows, columns, OUTPUTS, OUTPUTS, -1).transpose(2, 3) + self.bias
        return found.reshape(batch, rows * OUTPUTS, columns * OUTPUTS, -1)[:, :height, :width].permute(0, 3, 1, 2)


def quick(convolution: nn.Conv2d) -> nn.Module:
    """A 3x3 convolution as `WinogradConv`, if its channels are many enough to outweigh the transforms."""
    if min(convolution.in_channels, convolution.out_channels) < WORTHWHILE_CHANNELS:
        return convolution
    return WinogradConv(convolution)


def convolve(convolution: nn.Module, image: TiledImage) -> Tensor:
    """Apply what `quick` gave to an image that several convolutions share."""
    given = image if isinstance(convolution, WinogradConv) else image.x
    return convolution(given)  # type: ignore[no-any-return]
