"""Efficient attention: a softmax over positions and a softmax over channels, without a matrix of all pairs.

Shen et al., "Efficient Attention: Attention with Linear Complexities", arXiv 1812.01243. With queries Q
(each position sums to one over the channels) and keys K (each channel sums to one over the positions) the result is
``Q (K^T V)``; what position i pays to position j is ``sum_c Q[i, c] K[j, c]``, and these sum to one over j.

Because both factors sum to one, linear maps of the values, with their biases, may be applied to the small context
``K^T V`` instead of to every position. That is done wherever there are more positions than channels.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_medattn.models.tap import Tap


def per_head(tokens: Tensor, heads: int) -> Tensor:
    """(B, N, D) -> (B, heads, N, D / heads), a view."""
    batch, count, _ = tokens.shape
    return tokens.view(batch, count, heads, -1).transpose(1, 2)


def softmax_over_positions(keys: Tensor) -> Tensor:
    """(B, N, D) -> the same, each channel summing to one over the N positions."""
    return keys.softmax(dim=1)


def softmax_over_channels(queries: Tensor, heads: int) -> Tensor:
    """(B, N, D) -> the same, each position summing to one over the D / heads channels of a head."""
    return queries.view(*queries.shape[:2], heads, -1).softmax(dim=-1).flatten(2)


def gather_context(keys: Tensor, values: Tensor, heads: int) -> Tensor:
    """What each key channel gathers: (B, N, D) and (B, N, V) -> (B, heads, D / heads, V / heads)."""
    return per_head(keys, heads).mT @ per_head(values, heads)


def spread(queries: Tensor, context: Tensor, projection: nn.Linear) -> Tensor:
    """Hand the context to the positions and project: (B, N, D), (B, heads, d, v) -> (B, N, out)."""
    heads, width = context.shape[1], context.shape[3]
    if queries.shape[1] > queries.shape[2]:
        weights = projection.weight.view(-1, heads, width).permute(1, 2, 0)
        return queries @ (context @ weights).flatten(1, 2) + projection.bias
    gathered = per_head(queries, heads) @ context
    return projection(gathered.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


def emit_factors(tap: Tap, queries: Tensor, keys: Tensor, heads: int, grid: tuple[int, int]) -> None:
    """Emit ``queries`` and ``keys``, each (B, heads, D / heads, Y, X), views of (B, N, D)."""

    def on_grid(tokens: Tensor) -> Tensor:
        return tokens.view(tokens.shape[0], *grid, heads, -1).permute(0, 3, 4, 1, 2)

    tap.emit(queries=on_grid(queries), keys=on_grid(keys))


class EfficientAttention(nn.Module):
    """Efficient self-attention with one head.

    Args:
        channels: Channels D of the tokens, of the keys and of the values.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.queries = nn.Linear(channels, channels)
        self.keys = nn.Linear(channels, channels)
        self.values = nn.Linear(channels, channels)
        self.projection: nn.Linear | None = nn.Linear(channels, channels)
        self.tap = Tap()

    def forward(self, x: Tensor) -> Tensor:
        """(B, Y, X, D) -> the same shape.

        The tap emits ``queries`` and ``keys``, each (B, 1, D, Y, X).
        """
        grid = (x.shape[1], x.shape[2])
        tokens = x.flatten(1, 2)
        queries = softmax_over_channels(self.queries(tokens), 1)
        keys = softmax_over_positions(self.keys(tokens))
        if self.tap.listened:
            emit_factors(self.tap, queries, keys, 1, grid)
        if tokens.shape[1] > tokens.shape[2]:
            context = self.values(gather_context(keys, tokens, 1))
        else:
            context = gather_context(keys, self.values(tokens), 1)
        out = queries @ context[:, 0] if self.projection is None else spread(queries, context, self.projection)
        return self.tap.result(out).view_as(x)

    @torch.no_grad()
    def folded(self) -> EfficientAttention:
        """Values and projection as one linear map; it may carry both biases since queries and keys sum to one."""
        projection = self.projection
        if projection is not None:
            self.values.bias.copy_(F.linear(self.values.bias, projection.weight, projection.bias))
            self.values.weight.copy_(projection.weight @ self.values.weight)
            self.projection = None
        return self
