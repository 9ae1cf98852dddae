"""Vector aggregation attention (VAA) of EMF-former: each position talks to one global vector, not to all positions.

Hao et al., EMF-Former, MICCAI 2024, https://doi.org/10.1007/978-3-031-72111-3_22. Stated by the paper's abstract and by
summaries of it: two vectors are broadcast and multiplied element by element instead of a matrix product, a fully
connected layer replaces the interaction of keys and values, and the cost is linear in the number of positions N.
The equations are inferred, in three readings (`Reading`). In all of them, for tokens x of d channels,

    Q = query(x), K = key(x), alpha = norm(Q w / sqrt d) over the positions, g = sum_i alpha_i Q_i

Heads run in series and each multiplies what it gets with itself, so that unbounded Q and K can grow as a power of 16
over four heads; training then ends in numbers that are none. Q and K are therefore brought to one length, as
SwiftFormer's code does, unless `FeatureNorm` says otherwise.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_medattn.errors import ModelError

Reading = Literal["additive", "outer", "fast"]
TokenNorm = Literal["softmax", "l2"]
FeatureNorm = Literal["rms", "none"]


class VectorAttention(nn.Module):
    """One head of vector aggregation attention; no N x N tensor, no values.

    Args:
        channels: Channels d of the head.
        reading: ``"additive"``: ``mix(g * K_i) + Q_i``, as in SwiftFormer's efficient additive attention (Shaker et
            al., arXiv 2303.15446, section 3.2). ``"outer"``: ``S_i * K_i + Q_i`` with the score
            ``S_i = mix(g * b_i)`` and ``b = K w_b / sqrt d``. ``"fast"``: ``mix(k * Q_i) + Q_i`` with a second global
            vector k that is gathered from ``g * K_i``, as in Fastformer (Wu et al., arXiv 2108.09084, section 3.1),
            where the values are the queries as well.
        token_norm: ``"softmax"``: alpha is positive and sums to one. ``"l2"``: its squares sum to one and it may be
            negative, as in SwiftFormer's code.
        feature_norm: ``"rms"``: each Q_i and K_i is scaled to a mean square of one over its channels. ``"none"``: they
            are left as they are.
    """

    def __init__(
        self,
        channels: int,
        reading: Reading = "additive",
        token_norm: TokenNorm = "softmax",
        feature_norm: FeatureNorm = "rms",
    ) -> None:
        super().__init__()
        for name, value, known in (
            ("reading", reading, get_args(Reading)),
            ("token_norm", token_norm, get_args(TokenNorm)),
            ("feature_norm", feature_norm, get_args(FeatureNorm)),
        ):
            if value not in known:
                raise ModelError(f"There is no {name} {value!r}.", f"Use one of {', '.join(known)}.")
        self.reading, self.token_norm, self.feature_norm = reading, token_norm, feature_norm
        self.scale = channels**-0.5
        self.query = nn.Linear(channels, channels)
        self.key = nn.Linear(channels, channels)
        self.mix = nn.Linear(channels, channels)
        self.query_score = nn.Parameter(torch.randn(channels))
        if reading != "additive":
            self.key_score = nn.Parameter(torch.randn(channels))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N, d) -> the head's output (B, N, d) and the weights alpha (B, N)."""
        query, key = self.query(x), self.key(x)
        if self.feature_norm == "rms":
            query, key = F.rms_norm(query, query.shape[-1:]), F.rms_norm(key, key.shape[-1:])
        alpha = self._weights(query, self.query_score)
        vector = _gather(alpha, query)
        if self.reading == "outer":
            # mix(g * b_i) = b_i * (W g) + bias: the score takes no product over the channels for each position.
            height = (key @ self.key_score)[..., None] * self.scale
            score = torch.addcmul(self.mix.bias, height, F.linear(vector, self.mix.weight))
            return torch.addcmul(query, score, key), alpha
        if self.reading == "fast":
            key = vector * key
            vector = _gather(self._weights(key, self.key_score), key)
            key = query
        return self.mix(vector * key) + query, alpha

    def _weights(self, tokens: Tensor, direction: Tensor) -> Tensor:
        """How much each of the tokens (B, N, d) counts, (B, N)."""
        scores = (tokens @ direction) * self.scale
        return scores.softmax(dim=1) if self.token_norm == "softmax" else F.normalize(scores, dim=1)


def _gather(weights: Tensor, tokens: Tensor) -> Tensor:
    """The weighted sum (B, 1, d) of the tokens."""
    return weights[:, None] @ tokens
