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
TILES_AT_ONCE = 64  # more need more memory, fewer more time


def _powers(count: int) -> Tensor:
    """Powers 0 to count - 1 of the points, the last row is infinity's: (6, count) in float64."""
    rows = [[point**power for power in range(count)] for point in POINTS]
    return torch.tensor([*rows, [0.0] * (count - 1) + [1.0]], dtype=torch.float64)


class TiledImage:
    """A tensor (B, C, Y, X), cut into tiles for one convolution or for several.

    Args:
        x: The tensor.
        shared: Keep the transformed tiles for further convolutions; else they exist strip by strip.
    """

    def __init__(self, x: Tensor, shared: bool = False) -> None:
        self.x = x
        height, width = x.shape[2:]
        self.grid = rows, columns = -(-height // OUTPUTS), -(-width // OUTPUTS)
        margins = (0, 0, 1, columns * OUTPUTS - width + 1, 1, rows * OUTPUTS - height + 1)
        self._padded = F.pad(x.permute(0, 2, 3, 1), margins)
        self._shared = shared
        self._kept: Tensor | None = None

    def strips(self) -> list[slice]:
        """Rows of tiles that are done together."""
        rows, columns = self.grid
        step = max(1, TILES_AT_ONCE // (columns * len(self.x)))
        return [slice(at, min(at + step, rows)) for at in range(0, rows, step)]

    def spread(self, strip: slice, into: Tensor) -> Tensor:
        """The tiles of a strip in the domain of the products, (tiles, 36, C); ``into`` is the transform."""
        if not self._shared:
            return self._spread(strip, into)
        if self._kept is None:
            spread = self._spread(slice(0, self.grid[0]), into)
            self._kept = spread.view(len(self.x), *self.grid, SIDE * SIDE, -1)
        return self._kept[:, strip].flatten(0, 2)

    def _spread(self, strip: slice, into: Tensor) -> Tensor:
        lines = self._padded[:, strip.start * OUTPUTS : strip.stop * OUTPUTS + TAPS - 1]
        tiles = lines.unfold(1, SIDE, OUTPUTS).unfold(2, SIDE, OUTPUTS).permute(0, 1, 2, 4, 5, 3)
        tiles = tiles.reshape(-1, SIDE * SIDE, self.x.shape[1])
        return torch.bmm(into.expand(len(tiles), -1, -1), tiles)


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
        out = image.x.new_empty(batch, rows, OUTPUTS, columns, OUTPUTS, len(self.bias))
        for strip in image.strips():
            products = torch.bmm(image.spread(strip, self.into).transpose(0, 1), self.kernel).transpose(0, 1)
            found = torch.bmm(self.back.expand(len(products), -1, -1), products)
            found = found.view(batch, -1, columns, OUTPUTS, OUTPUTS, len(self.bias)).transpose(2, 3)
            torch.add(found, self.bias, out=out[:, strip])
        return out.view(batch, rows * OUTPUTS, columns * OUTPUTS, -1)[:, :height, :width].permute(0, 3, 1, 2)


def quick(convolution: nn.Conv2d) -> nn.Module:
    """A 3x3 convolution as `WinogradConv`, if its channels are many enough to outweigh the transforms."""
    if min(convolution.in_channels, convolution.out_channels) < WORTHWHILE_CHANNELS:
        return convolution
    return WinogradConv(convolution)


def convolve(convolution: nn.Module, image: TiledImage) -> Tensor:
    """Apply what `quick` gave to an image that several convolutions share."""
    given = image if isinstance(convolution, WinogradConv) else image.x
    return convolution(given)  # type: ignore[no-any-return]
