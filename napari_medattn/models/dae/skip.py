"""The skip of DAE-Former: decoder and encoder are fused by cross attention (arXiv 2212.13504)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_medattn.models.dae.efficient_attention import (
    emit_factors,
    gather_context,
    softmax_over_channels,
    softmax_over_positions,
    spread,
)
from napari_medattn.models.dae.mix_feed_forward import FeedForward, MixFeedForward
from napari_medattn.models.tap import Tap

SkipAttention = Literal["encoder_queries_and_keys", "encoder_queries"]


class CrossAttention(nn.Module):
    """Efficient attention between decoder and encoder, without projections in front.

    Args:
        channels: Channels D of either side.
        heads: Heads into which the channels are cut.
        source: ``"encoder_queries_and_keys"`` (the values alone come from the decoder, as in the authors' code) or
            ``"encoder_queries"`` (keys and values come from the decoder, as in the paper).
    """

    def __init__(self, channels: int, heads: int, source: SkipAttention) -> None:
        super().__init__()
        self.heads, self.source = heads, source
        self.projection = nn.Linear(channels, 2 * channels)
        self.norm = nn.LayerNorm(2 * channels)
        self.tap = Tap()

    def forward(self, decoder: Tensor, encoder: Tensor) -> Tensor:
        """(B, Y, X, D) each -> (B, Y, X, 2 D).

        The tap emits ``queries`` and ``keys``, each (B, heads, D / heads, Y, X).
        """
        grid = (decoder.shape[1], decoder.shape[2])
        values, skip = decoder.flatten(1, 2), encoder.flatten(1, 2)
        queries = softmax_over_channels(skip, self.heads)
        keys = softmax_over_positions(skip if self.source == "encoder_queries_and_keys" else values)
        if self.tap.listened:
            emit_factors(self.tap, queries, keys, self.heads, grid)
        context = self.tap.heads(gather_context(keys, values, self.heads), 1, self.heads)
        out = spread(queries, context, self.projection)
        return self.tap.result(self.norm(out.view(*decoder.shape[:3], -1)))


class FusedSkip(nn.Module):
    """Cross attention and a feed-forward part on the two sides laid next to each other, then a linear map to D.

    One layer norm serves both sides, as in the authors' code.
    """

    def __init__(self, channels: int, heads: int, source: SkipAttention, feed_forward: FeedForward) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.cross = CrossAttention(channels, heads, source)
        self.norm2 = nn.LayerNorm(2 * channels)
        self.feed_forward = MixFeedForward(2 * channels, 4 * channels, feed_forward)
        self.merge = nn.Linear(2 * channels, channels)
        self.merged = False

    def forward(self, decoder: Tensor, encoder: Tensor) -> Tensor:
        """(B, Y, X, D) each -> (B, Y, X, D)."""
        both = torch.cat([decoder, encoder], dim=-1)
        both = both + self.cross(self.norm1(decoder), self.norm1(encoder))
        more = self.feed_forward(self.norm2(both))
        return self.merge(both) + more if self.merged else self.merge(both + more)  # type: ignore[no-any-return]

    @torch.no_grad()
    def folded(self) -> FusedSkip:
        """The last linear layer of the feed-forward part goes straight to D channels."""
        narrow, merge = self.feed_forward.narrow, self.merge
        if not self.merged:
            straight = nn.Linear(narrow.in_features, merge.out_features).to(merge.weight)
            straight.weight.copy_(merge.weight @ narrow.weight)
            straight.bias.copy_(F.linear(narrow.bias, merge.weight))
            self.feed_forward.narrow = straight
            self.merged = True
        return self
