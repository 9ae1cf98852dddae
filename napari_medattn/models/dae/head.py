"""The head of DAE-Former: every token becomes a square of four times four class logits."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_medattn.models.dae.blocks import Expansion, interleave

SCALE = 4


class ExpandingHead(nn.Module):
    """`Expansion` by four, then class logits of each of the sixteen tokens.

    The logits are computed before they are put in their places, since they are smaller than the tokens.
    """

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.expand = Expansion(channels, channels, SCALE)
        self.classify = nn.Linear(channels, num_classes)

    def forward(self, x: Tensor) -> Tensor:
        """(B, Y, X, D) -> (B, K, 4 Y, 4 X)."""
        return interleave(self.classify(self.expand(x)), SCALE).permute(0, 3, 1, 2)

    def folded(self) -> FoldedHead:
        """The same logits from fewer numbers."""
        return FoldedHead(self)


class FoldedHead(nn.Module):
    """`ExpandingHead` for inference.

    A layer norm is linear but for the division by the deviation. So the logits come straight from the token that is
    expanded, and of the expanded tokens, which centred weights give a mean of zero, only the deviation is needed.
    """

    centred: Tensor
    scores: Tensor
    bias: Tensor

    @torch.no_grad()
    def __init__(self, head: ExpandingHead) -> None:
        super().__init__()
        norm, classify, places = head.expand.norm, head.classify, SCALE * SCALE
        weight = head.expand.linear.weight.view(places, classify.in_features, -1)
        weight = weight - weight.mean(dim=1, keepdim=True)
        self.register_buffer("centred", weight.flatten(0, 1))
        self.register_buffer("scores", ((classify.weight * norm.weight) @ weight).flatten(0, 1))
        self.register_buffer("bias", F.linear(norm.bias, classify.weight, classify.bias))
        self.eps = norm.eps

    def forward(self, x: Tensor) -> Tensor:
        """(B, Y, X, D) -> (B, K, 4 Y, 4 X)."""
        places = (*x.shape[:3], SCALE * SCALE, -1)
        tokens = F.linear(x, self.centred).view(places)
        length = torch.linalg.vector_norm(tokens, dim=-1, keepdim=True)
        scale = (length.square() / tokens.shape[-1] + self.eps).rsqrt()
        logits = F.linear(x, self.scores).view(places) * scale + self.bias
        return interleave(logits, SCALE).permute(0, 3, 1, 2)
