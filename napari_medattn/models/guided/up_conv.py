"""An upsampling and the convolution behind it as one transposed convolution, for inference."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class UpConv(nn.Module):
    """A transposed convolution (kernel 2, stride 2), then a 3x3 convolution with zero padding of 1.

    With nothing between them the two are one transposed convolution with kernel 4, stride 2 and padding 1, which
    has 16 instead of 4 * 9 + 4 multiplications per position and pair of channels. Only the bias of the first
    meets the border, which sees fewer taps of the second.

    Args:
        up: The transposed convolution.
        convolution: The convolution.
    """

    kernel: Tensor
    bias: Tensor
    bias_taps: Tensor

    def __init__(self, up: nn.ConvTranspose2d, convolution: nn.Conv2d) -> None:
        super().__init__()
        assert up.bias is not None and convolution.bias is not None
        first, second = up.weight.detach().double(), convolution.weight.detach().double().flip(2, 3)
        kernel = first.new_zeros(len(first), len(second), 4, 4)
        for row in range(2):
            for column in range(2):
                kernel[..., row : row + 3, column : column + 3] += torch.einsum(
                    "cm,omij->coij", first[..., row, column], second
                )
        taps = torch.einsum("m,omij->oij", up.bias.detach(), convolution.weight.detach())
        self.register_buffer("kernel", kernel.to(up.weight.dtype))
        self.register_buffer("bias", convolution.bias.detach())
        self.register_buffer("bias_taps", taps[:, None])

    def forward(self, x: Tensor) -> Tensor:
        """(B, in, Y, X) -> (B, out, 2 Y, 2 X)."""
        found = F.conv_transpose2d(x, self.kernel, stride=2, padding=1)
        ones = x.new_ones(1, 1, *found.shape[2:])
        return found.add_(F.conv2d(ones, self.bias_taps, self.bias, padding=1))
