"""The blocks of DAE-Former between its attentions: embedding, dual block, expansion.

All of them pass images with the channels last, (B, Y, X, D): read row by row these are the tokens of the paper, and
the convolutions take them as they are.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_medattn.models.dae.efficient_attention import EfficientAttention
from napari_medattn.models.dae.mix_feed_forward import FeedForward, MixFeedForward
from napari_medattn.models.dae.transpose_attention import TransposeAttention


class PatchEmbedding(nn.Module):
    """Overlapping patches: a strided convolution, then a layer norm.

    Args:
        in_channels: Channels of the image.
        channels: Channels of the tokens.
        kernel: Side of the convolution's kernel.
        stride: Its stride.
        copies: The convolution sees the image so many times side by side. That equals summing its kernels.
    """

    def __init__(self, in_channels: int, channels: int, kernel: int, stride: int, copies: int = 1) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(in_channels * copies, channels, kernel, stride=stride, padding=kernel // 2)
        self.norm = nn.LayerNorm(channels)
        self.copies = copies

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, Y, X) -> (B, Y / stride, X / stride, D)."""
        convolution = self.convolution
        kernel = convolution.weight
        if self.copies > 1:
            kernel = self._summed()
        padding = (convolution.kernel_size[0] // 2, convolution.kernel_size[1] // 2)
        embedded = F.conv2d(image, kernel, convolution.bias, convolution.stride, padding)
        return self.norm(embedded.permute(0, 2, 3, 1).contiguous())  # type: ignore[no-any-return]

    @torch.no_grad()
    def folded(self) -> PatchEmbedding:
        """The kernels of the copies summed once."""
        if self.copies > 1:
            self.convolution.weight = nn.Parameter(self._summed())
            self.copies = 1
        return self

    def _summed(self) -> Tensor:
        kernel = self.convolution.weight
        return kernel.reshape(len(kernel), self.copies, -1, *kernel.shape[2:]).sum(dim=1)


class DualBlock(nn.Module):
    """Efficient attention and transpose attention, each followed by a feed-forward part; all with residuals.

    The efficient dual attention of arXiv 2212.13504. The authors' code hands a head count to this block and
    ignores it: the efficient attention has one head, the transpose attention eight.
    """

    def __init__(self, channels: int, feed_forward: FeedForward) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.efficient = EfficientAttention(channels)
        self.norm2 = nn.LayerNorm(channels)
        self.feed_forward1 = MixFeedForward(channels, 4 * channels, feed_forward)
        self.norm3 = nn.LayerNorm(channels)
        self.channel = TransposeAttention(channels)
        self.norm4 = nn.LayerNorm(channels)
        self.feed_forward2 = MixFeedForward(channels, 4 * channels, feed_forward)

    def forward(self, x: Tensor) -> Tensor:
        """(B, Y, X, D) -> the same shape."""
        x = x + self.efficient(self.norm1(x))
        x = x + self.feed_forward1(self.norm2(x))
        x = x + self.channel(self.norm3(x))
        return x + self.feed_forward2(self.norm4(x))  # type: ignore[no-any-return]


class Expansion(nn.Module):
    """A linear map to ``scale * scale`` tokens in the place of each, and a layer norm of each of them.

    Args:
        channels: Channels before.
        out_channels: Channels after.
        scale: Tokens along each side that one becomes.
    """

    def __init__(self, channels: int, out_channels: int, scale: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, scale * scale * out_channels, bias=False)
        self.norm = nn.LayerNorm(out_channels)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """(B, Y, X, D) -> (B, Y, X, scale * scale, out_channels); `interleave` puts the tokens in their places."""
        return self.norm(self.linear(x).view(*x.shape[:3], self.scale**2, -1))  # type: ignore[no-any-return]


def interleave(tokens: Tensor, scale: int) -> Tensor:
    """(B, Y, X, scale * scale, D) -> (B, scale * Y, scale * X, D), the offset along Y being the slower one."""
    batch, rows, columns, _, channels = tokens.shape
    split = tokens.view(batch, rows, columns, scale, scale, channels).transpose(2, 3)
    return split.reshape(batch, scale * rows, scale * columns, channels)
