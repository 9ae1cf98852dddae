"""Batch norm of attention logits that are never all built.

The logits of axial attention are a sum of products, and a batch norm stands on each product. Its shift is the
same for all keys of a query and cancels in the softmax, so only the scale is needed; and the variance of a product
follows from small Gram matrices of its factors. Both are exact.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from napari_medattn.models.axial.patch_norm import follow

Moments = tuple[Tensor, Tensor]


class LogitNorm(nn.BatchNorm2d):
    """The scales that a batch norm over the maps of ``terms * heads`` products would apply.

    Args:
        terms: Products in the sum: content, query table, key table; or content alone.
        heads: Heads.
    """

    def __init__(self, terms: int, heads: int) -> None:
        super().__init__(terms * heads)
        self.terms = terms

    def forward(self, moments: list[Moments], count: int) -> Tensor:  # type: ignore[override]
        """Scales (patches, terms, heads); in evaluation mode those of all patches are the same, (1, terms, heads).

        Args:
            moments: For each term, mean and mean square of its product, each (patches, heads); not read in
                evaluation mode.
            count: Values that each mean was taken over.
        """
        if self.training:
            means = torch.cat([mean for mean, _ in moments], dim=1)
            variances = torch.cat([square for _, square in moments], dim=1) - means.square()
            variances = variances.clamp_min(0)
            follow(self, means.detach(), variances.detach() * (count / max(1, count - 1)))
        else:
            assert self.running_var is not None
            variances = self.running_var[None]
        scale = self.weight / (variances + self.eps).sqrt().to(self.weight.dtype)
        # The bias has no influence, see above; this gives it the gradient that says so.
        return torch.unflatten(scale + 0 * self.bias, 1, (self.terms, -1))


def content_moments(query: Tensor, key: Tensor) -> Moments:
    """Mean and mean square of ``q_i k_j``, each (patches, heads), from (heads, B, patches, lines, c, K)."""
    query, key = _wide(query), _wide(key)
    total = (query.sum(-1) * key.sum(-1)).sum(dim=(1, 3, 4))
    squares = ((query @ query.mT) * (key @ key.mT)).sum(dim=(1, 3, 4, 5))
    return _means(total, squares, query)


def position_moments(vectors: Tensor, table: Tensor, gate: Tensor | None) -> Moments:
    """Mean and mean square of ``gate * x_i P_ij``, each (patches, heads).

    Args:
        vectors: x, (heads, B, patches, lines, c, K).
        table: P, (c, K, K), indexed first by the position of x.
        gate: A factor without axes.
    """
    vectors, table = _wide(vectors), _wide(table)
    by_position = vectors.permute(0, 2, 5, 4, 1, 3).flatten(4)
    gram = by_position @ by_position.mT
    total = (by_position.sum(-1) * table.sum(-1).T).sum(dim=(2, 3))
    table = table.transpose(0, 1)
    squares = (gram * (table @ table.mT)).sum(dim=(2, 3, 4))
    if gate is not None:
        total, squares = total * gate, squares * gate**2
    return _means(total, squares, vectors)


def _means(total: Tensor, squares: Tensor, vectors: Tensor) -> Moments:
    _, batch, _, lines, _, length = vectors.shape
    count = batch * lines * length**2
    return total.T / count, squares.T / count


def _wide(x: Tensor) -> Tensor:
    """In double precision, for a variance is a small difference; Apple's GPUs have none."""
    return x if x.device.type == "mps" else x.double()
