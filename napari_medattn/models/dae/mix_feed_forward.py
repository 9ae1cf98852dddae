"""The feed-forward part of DAE-Former: two linear layers with a depthwise convolution between them.

Xie et al., "SegFormer", arXiv 2105.15203, equation 3 (``"mix"``), with the skip and the norm that
MISSFormer (arXiv 2109.07162) adds around the convolution (``"mix_skip"``).
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

FeedForward = Literal["mix_skip", "mix"]


class MixFeedForward(nn.Module):
    """``narrow(GELU(norm(depthwise(h) + h)))`` with ``h = widen(x)``; ``"mix"`` leaves out the skip and the norm.

    Args:
        channels: Channels of the tokens.
        hidden: Channels between the two linear layers.
        kind: ``"mix_skip"`` or ``"mix"``.
    """

    centre: Tensor | None

    def __init__(self, channels: int, hidden: int, kind: FeedForward) -> None:
        super().__init__()
        self.widen = nn.Linear(channels, hidden)
        self.depthwise = nn.Conv2d(hidden, hidden, 3, padding=1, groups=hidden)
        self.norm = nn.LayerNorm(hidden) if kind == "mix_skip" else nn.Identity()
        self.narrow = nn.Linear(hidden, channels)
        # The skip is a one in the middle of every kernel.
        centre = F.pad(torch.ones(1, 1, 1, 1), (1, 1, 1, 1)) if kind == "mix_skip" else None
        self.register_buffer("centre", centre, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, Y, X, channels) -> the same shape."""
        convolution = self.depthwise
        kernel = convolution.weight if self.centre is None else convolution.weight + self.centre
        image = self.widen(x).permute(0, 3, 1, 2)
        image = F.conv2d(image, kernel, convolution.bias, padding=1, groups=convolution.groups)
        return self.narrow(F.gelu(self.norm(image.permute(0, 2, 3, 1))))  # type: ignore[no-any-return]

    @torch.no_grad()
    def folded(self) -> MixFeedForward:
        """The skip as a part of the kernels."""
        if self.centre is not None:
            self.depthwise.weight += self.centre
            self.centre = None
        return self
