"""Transpose attention: channels attend to channels.

Ali et al., "XCiT: Cross-Covariance Image Transformers", arXiv 2106.09681, as DAE-Former uses it
(arXiv 2212.13504): queries and keys are scaled to length one over the positions.

Three shortcuts are exact: the product of queries and keys is divided by their lengths afterwards instead of scaling
both first; the projection is multiplied with the small attention matrices instead of with every position; and where
there are more positions than channels, so are the values.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_medattn.models.dae.efficient_attention import per_head
from napari_medattn.models.tap import Tap

HEADS = 8
SHORTEST = 1e-12


class TransposeAttention(nn.Module):
    """Attention between the channels of each of eight heads.

    Args:
        channels: Channels D of the tokens, a multiple of 8.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.temperature = nn.Parameter(torch.ones(HEADS, 1, 1))
        self.qkv = nn.Linear(channels, 3 * channels, bias=False)
        self.projection = nn.Linear(channels, channels)
        self.tap = Tap()

    def forward(self, x: Tensor) -> Tensor:
        """(B, Y, X, D) -> the same shape.

        The tap emits ``weights`` (B, 8, D / 8, D / 8), summing to one over the last axis.
        """
        tokens = x.flatten(1, 2)
        to_queries, to_keys, to_values = self.qkv.weight.chunk(3)
        weights = self._weights(F.linear(tokens, to_queries), F.linear(tokens, to_keys))
        if self.tap.listened:
            self.tap.emit(weights=weights)
        weights = self.tap.heads(weights, 1, HEADS)  # what a head gathers is zero where its weights are
        projection = self.projection.weight.view(x.shape[3], HEADS, -1).transpose(0, 1)
        mixer = (projection @ weights).transpose(1, 2).flatten(2)
        if tokens.shape[1] > tokens.shape[2]:
            out = tokens @ (mixer @ to_values).mT
        else:
            out = F.linear(tokens, to_values) @ mixer.mT
        return self.tap.result(out + self.projection.bias).view_as(x)

    def _weights(self, queries: Tensor, keys: Tensor) -> Tensor:
        """(B, N, D) each -> (B, 8, D / 8, D / 8)."""
        scores: Tensor = per_head(queries, HEADS).mT @ per_head(keys, HEADS)
        scores = scores * _inverse_length(queries).unsqueeze(-1) * _inverse_length(keys).unsqueeze(-2)
        return (scores * self.temperature).softmax(dim=-1)


def _inverse_length(tokens: Tensor) -> Tensor:
    """One over each channel's length over the positions, (B, N, D) -> (B, 8, D / 8)."""
    squared = tokens.square().sum(dim=1).clamp_min(SHORTEST**2)
    return squared.rsqrt().view(len(tokens), HEADS, -1)
