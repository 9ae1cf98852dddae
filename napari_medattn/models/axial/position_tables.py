"""Position tables of axial attention: learned vectors by the offset between query and key."""

from __future__ import annotations

import torch
from torch import Tensor


def position_tables(vectors: Tensor, length: int) -> tuple[Tensor, Tensor, Tensor]:
    """Vectors for all pairs of positions on a line.

    Offsets are in feature pixels. A line shorter than the one that the vectors were made for uses the middle of
    them; on a longer one, all offsets beyond the last use the last.

    Args:
        vectors: (4 c, 2 T - 1), rows for queries (c), keys (c) and values (2 c), columns by offset, from
            ``1 - T`` to ``T - 1``.
        length: K, positions on the line.

    Returns:
        For queries (c, K, K) by query and key, where the offset is query minus key; for keys (c, K, K) by key and
        query, where it is key minus query; for values (2 c, K, K) by query and key.
    """
    rows, columns = vectors.shape
    reach = columns // 2
    at = torch.arange(length, device=vectors.device)
    offsets = (at[:, None] - at).clamp(-reach, reach) + reach
    pairs = vectors.index_select(1, offsets.flatten()).view(rows, length, length)
    query, key, value = torch.split(pairs, [rows // 4, rows // 4, rows // 2])
    return query, key, value
