"""Position and channel attention, each between two convolutions.

The pair comes from DANet (Fu et al., arXiv 1809.02983, section 3); here as in Sinha and Dolz, arXiv 1906.02849.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from napari_medattn.models.guided.row_attention import row_attention
from napari_medattn.models.tap import Tap

QUERY_SHARE = 8


def prelu_unit(in_channels: int, out_channels: int, kernel: int = 3) -> nn.Sequential:
    """Convolution with bias, batch norm and a PReLU with one slope; the size is kept."""
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2),
            norm=nn.BatchNorm2d(out_channels),
            act=nn.PReLU(),
        )
    )


class PositionAttention(nn.Module):
    """Every position gathers from all others: ``gain * softmax(q k^T) v + x``, without scaling.

    Queries and keys have an eighth of the channels. ``gain`` starts at zero, so that the module starts as
    the identity.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query = nn.Conv2d(channels, channels // QUERY_SHARE, 1)
        self.key = nn.Conv2d(channels, channels // QUERY_SHARE, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.gain = nn.Parameter(torch.zeros(1))
        self.tap = Tap()

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, Y, X), same shape back.

        The tap emits ``queries`` and ``keys``, each (B, 1, channels / 8, Y, X).
        """
        queries, keys, values = self.query(x), self.key(x), self.value(x)
        if self.tap.listened:
            self.tap.emit(queries=queries[:, None], keys=keys[:, None])
        found = self.tap.result(row_attention(*(_as_rows(t) for t in (queries, keys, values))))
        return torch.addcmul(x, self.gain, _as_image(found, x))

    def folded(self) -> FoldedPositionAttention:
        """One convolution instead of three."""
        return FoldedPositionAttention(self)


class FoldedPositionAttention(nn.Module):
    """`PositionAttention` for inference: one convolution for queries, keys and values, the gain in the values.

    Args:
        attention: The module that it replaces.
    """

    def __init__(self, attention: PositionAttention) -> None:
        super().__init__()
        parts = (attention.query, attention.key, attention.value)
        self.sizes = [part.out_channels for part in parts]
        self.project = nn.Conv2d(attention.value.in_channels, sum(self.sizes), 1)
        gain = attention.gain.detach()
        gains = (torch.ones_like(gain), torch.ones_like(gain), gain)
        weights = [part.weight * factor for part, factor in zip(parts, gains, strict=True)]
        biases = [part.bias * factor for part, factor in zip(parts, gains, strict=True) if part.bias is not None]
        self.project.weight = nn.Parameter(torch.cat(weights))
        self.project.bias = nn.Parameter(torch.cat(biases))
        self.tap = attention.tap

    def forward(self, x: Tensor) -> Tensor:
        """As `PositionAttention`'s."""
        queries, keys, values = self.project(x).split(self.sizes, dim=1)
        if self.tap.listened:
            self.tap.emit(queries=queries[:, None], keys=keys[:, None])
        found = self.tap.result(row_attention(*(_as_rows(t) for t in (queries, keys, values))))
        return _as_image(found, x).add_(x)


class ChannelAttention(nn.Module):
    """Every channel gathers from all others: ``gain * softmax(-E) x + x`` with ``E = x x^T`` over positions.

    The minus sign is the code's, as in DANet's: a channel attends to those that are least like it. The energy
    is not divided by the number of positions, so that weights are close to one or zero on real features.
    """

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.zeros(1))
        self.tap = Tap()

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, Y, X), same shape back.

        The tap emits ``weights`` (B, 1, channels, channels).
        """
        rows = _as_rows(x)
        energy = rows.transpose(1, 2) @ rows
        weights = energy.neg_().softmax(dim=-1)
        if self.tap.listened:
            self.tap.emit(weights=weights[:, None])
        found = self.tap.result(rows @ weights.transpose(1, 2))
        return torch.addcmul(x, self.gain, _as_image(found, x))


class AttentionBranch(nn.Module):
    """Convolution from two tensors' channels to one's, attention, convolution.

    Args:
        in_channels: Channels of what comes in.
        channels: Channels of what comes out.
        attend: `PositionAttention` or `ChannelAttention` of ``channels``.
    """

    def __init__(self, in_channels: int, channels: int, attend: nn.Module) -> None:
        super().__init__()
        self.before = prelu_unit(in_channels, channels)
        self.attend = attend
        self.after = prelu_unit(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, Y, X) -> (B, channels, Y, X)."""
        return self.after(self.attend(self.before(x)))  # type: ignore[no-any-return]


def _as_rows(x: Tensor) -> Tensor:
    """(B, C, Y, X) -> (B, Y X, C), contiguous; a view of a channels-last tensor."""
    return x.permute(0, 2, 3, 1).contiguous().flatten(1, 2)


def _as_image(rows: Tensor, x: Tensor) -> Tensor:
    """(B, Y X, C) -> a channels-last (B, C, Y, X) of the size of ``x``."""
    return rows.unflatten(1, x.shape[2:]).permute(0, 3, 1, 2)  # type: ignore[no-untyped-call, no-any-return]
