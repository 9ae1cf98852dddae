"""Serial multi-head attention (S-MHA) of EMF-former, and the transformer block around it.

Hao et al., EMF-Former, MICCAI 2024, https://doi.org/10.1007/978-3-031-72111-3_22. Stated by the paper's abstract and by
summaries of it: the heads run one after another and some of them are ignored. Inferred: a head gets its share of the
channels plus what the head before it gave, as in EfficientViT's cascaded group attention (Liu et al., arXiv 2305.07027,
section 3.2), and the share of an ignored head goes unchanged into the projection. Tokens are (B, [Z,] Y, X, C).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_medattn.errors import ModelError
from napari_medattn.models.emf.depthwise import DEPTHWISE
from napari_medattn.models.emf.vector_attention import FeatureNorm, Reading, TokenNorm, VectorAttention
from napari_medattn.models.tap import Tap


class SerialHeads(nn.Module):
    """Heads of `VectorAttention` one after another, then a projection.

    Args:
        channels: Channels C.
        heads: Parts into which the channels are cut.
        active_heads: Heads that compute; the parts of the others pass.
        reading: See `VectorAttention`.
        token_norm: See `VectorAttention`.
        feature_norm: See `VectorAttention`.
    """

    def __init__(
        self,
        channels: int,
        heads: int = 4,
        active_heads: int = 4,
        reading: Reading = "additive",
        token_norm: TokenNorm = "softmax",
        feature_norm: FeatureNorm = "rms",
    ) -> None:
        super().__init__()
        if heads < 1 or channels % heads:
            raise ModelError(f"{channels} channels cannot be cut into {heads} heads.", "Use a divisor of the widths.")
        if not 1 <= active_heads <= heads:
            raise ModelError(f"active_heads {active_heads} of {heads} heads is impossible.", f"Use 1 to {heads}.")
        self.width = channels // heads
        self.heads = nn.ModuleList(
            VectorAttention(self.width, reading, token_norm, feature_norm) for _ in range(active_heads)
        )
        self.project = nn.Linear(channels, channels)
        self.tap = Tap()

    def forward(self, x: Tensor) -> Tensor:
        """(B, spatial, C) -> the same shape.

        The tap emits ``weights`` (B, active heads, spatial): how much each position counts in a head's global vector.
        """
        mixed, weights = self.mixed(x.flatten(1, -2))
        if self.tap.listened:
            self.tap.emit(weights=torch.stack(weights, dim=1).view(len(x), -1, *x.shape[1:-1]))
        return self.tap.result(self.project(mixed)).view(x.shape)

    def mixed(self, tokens: Tensor) -> tuple[Tensor, list[Tensor]]:
        """What goes into the projection, (B, N, C), and each active head's weights (B, N)."""
        parts = list(torch.split(tokens, self.width, dim=-1))
        weights = []
        for number, head in enumerate(self.heads):
            own = parts[number] if number == 0 else parts[number] + parts[number - 1]
            found, alpha = head(own)
            parts[number] = self.tap.head(found, number)
            weights.append(alpha)
        return torch.cat(parts, dim=-1), weights


class FeedForward(nn.Module):
    """Two linear layers with a 3x3 depthwise convolution between them, which tells positions apart at any size."""

    def __init__(self, dims: int, channels: int, ratio: float) -> None:
        super().__init__()
        hidden = round(channels * ratio)
        if hidden < 1:
            raise ModelError(f"ffn_ratio {ratio} leaves no channels.", "Use a positive number such as 2.")
        self.widen = nn.Linear(channels, hidden)
        self.position = DEPTHWISE[dims](hidden, 3)
        self.narrow = nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, spatial, C) -> the same shape."""
        hidden = self.position(self.widen(x).movedim(-1, 1)).movedim(1, -1)
        return self.narrow(F.gelu(hidden))  # type: ignore[no-any-return]


class SerialBlock(nn.Module):
    """``x + attention(norm x)``, then ``x + feed-forward(norm x)``."""

    def __init__(self, dims: int, channels: int, attention: SerialHeads, ffn_ratio: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(channels)
        self.attention = attention
        self.feed_norm = nn.LayerNorm(channels)
        self.feed = FeedForward(dims, channels, ffn_ratio)

    def forward(self, x: Tensor) -> Tensor:
        """(B, spatial, C) -> the same shape."""
        x = x + self.attention(self.attention_norm(x))
        return x + self.feed(self.feed_norm(x))  # type: ignore[no-any-return]
