"""What is kept of one site's attention after a forward pass, one class per kind of attention.

Every record has ``maps()``, the site's overview for each head, ``query(position)``, what one position attends to, and
``received(position)``, who attends to it; kinds without queries say so. All tensors are detached and stay on the
network's device.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from napari_medattn.errors import InputError
from napari_medattn.models import AttentionSite

ROWS_AT_ONCE = 256


@dataclass(frozen=True, eq=False)
class Record:
    """What all kinds have in common.

    Attributes:
        site: The site that it was captured at.
    """

    site: AttentionSite
    why_no_query: ClassVar[str] = ""

    def maps(self) -> Tensor:
        """The overview (B, heads, [Z,] Y, X) on the site's grid."""
        raise NotImplementedError

    @property
    def grid(self) -> tuple[int, ...]:
        """The map's size ([Z,] Y, X); for channel attention (channels, channels)."""
        raise NotImplementedError

    def query(self, position: tuple[int, ...]) -> Tensor:
        """What ``position`` attends to, (B, heads, [Z,] Y, X); sums to one over what the site sums over.

        Args:
            position: Indices on the site's grid.

        Raises:
            InputError: If the position lies outside the grid, or attention of this kind has no queries.
        """
        self._check(position)
        return self._row(position)

    def received(self, position: tuple[int, ...]) -> Tensor:
        """Who attends to ``position``: the weight that each query gives to it, (B, heads, [Z,] Y, X).

        Args:
            position: Indices on the site's grid.

        Raises:
            InputError: As for `query`.
        """
        self._check(position)
        return self._column(position)

    def _check(self, position: tuple[int, ...]) -> None:
        if self.why_no_query:
            raise InputError(
                f"{self.site.title} {self.why_no_query}, so {position} attends to nothing.",
                "Read the map itself, or query a pairwise, axial or factored site.",
            )
        inside = len(position) == len(self.grid)
        if not inside or not all(0 <= at < n for at, n in zip(position, self.grid, strict=True)):
            raise InputError(
                f"{position} lies outside the map of {self.site.title}.", f"The map's size is {self.grid}."
            )

    def _row(self, position: tuple[int, ...]) -> Tensor:
        raise NotImplementedError

    def _column(self, position: tuple[int, ...]) -> Tensor:
        raise NotImplementedError


@dataclass(frozen=True, eq=False)
class GateRecord(Record):
    """The factor that each position of a skip was multiplied with.

    Attributes:
        gate: (B, 1, [Z,] Y, X) on the site's grid.
    """

    gate: Tensor
    why_no_query: ClassVar[str] = "is a gate: it weighs each position by itself"

    @property
    def grid(self) -> tuple[int, ...]:
        """The map's size."""
        return tuple(self.gate.shape[2:])

    def maps(self) -> Tensor:
        """The gate itself."""
        return self.gate


@dataclass(frozen=True, eq=False)
class VectorRecord(Record):
    """How much each position contributes to a head's global vector.

    Attributes:
        weights: (B, heads, [Z,] Y, X), summing to one over the positions.
    """

    weights: Tensor
    why_no_query: ClassVar[str] = "gathers one global vector per head"

    @property
    def grid(self) -> tuple[int, ...]:
        """The map's size."""
        return tuple(self.weights.shape[2:])

    def maps(self) -> Tensor:
        """The weights themselves."""
        return self.weights


@dataclass(frozen=True, eq=False)
class ChannelRecord(Record):
    """How much each feature channel attends to every other.

    Attributes:
        weights: (B, heads, channels that attend, channels attended to), summing to one over the last axis.
    """

    weights: Tensor
    why_no_query: ClassVar[str] = "attends between channels, which have no place in space"

    @property
    def grid(self) -> tuple[int, ...]:
        """The matrix' size."""
        return tuple(self.weights.shape[2:])

    def maps(self) -> Tensor:
        """The matrices (B, heads, channels, channels)."""
        return self.weights


@dataclass(frozen=True, eq=False)
class PairwiseRecord(Record):
    """Attention between all pairs of positions, kept as queries and keys; rows are made when asked for.

    Attributes:
        queries: (B, heads, d, [Z,] Y, X), with any scaling already in them.
        keys: (B, heads, d, [Z,] Y, X).
    """

    queries: Tensor
    keys: Tensor

    @property
    def grid(self) -> tuple[int, ...]:
        """The map's size."""
        return tuple(self.keys.shape[3:])

    def rows(self, which: slice | Tensor) -> Tensor:
        """Weights (B, heads, chosen queries, N) of queries by flat index; each row sums to one."""
        queries, keys = self.queries.flatten(3), self.keys.flatten(3)
        return (queries[..., which].transpose(-1, -2) @ keys).softmax(dim=-1)

    def maps(self) -> Tensor:
        """How much each position is attended to, averaged over all queries."""
        count = self.queries[0, 0, 0].numel()
        chunks = (self.rows(slice(at, at + ROWS_AT_ONCE)).sum(dim=2) for at in range(0, count, ROWS_AT_ONCE))
        return (torch.stack(list(chunks)).sum(dim=0) / count).view(*self.keys.shape[:2], *self.keys.shape[3:])

    def _row(self, position: tuple[int, ...]) -> Tensor:
        at = _flat_index(position, self.grid)
        return self.rows(slice(at, at + 1)).view(*self.keys.shape[:2], *self.grid)

    def _column(self, position: tuple[int, ...]) -> Tensor:
        key = self.keys.flatten(3)[..., _flat_index(position, self.grid)]
        scores = torch.einsum("bhdn,bhd->bhn", self.queries.flatten(3), key)
        return (scores - self._log_sums).exp().view(*self.keys.shape[:2], *self.grid)

    @cached_property
    def _log_sums(self) -> Tensor:
        """The logarithm of each query's softmax denominator, (B, heads, N); costs one pass over all pairs."""
        queries, keys = self.queries.flatten(3).transpose(-1, -2), self.keys.flatten(3)
        chunks = torch.split(queries, ROWS_AT_ONCE, dim=2)
        return torch.cat([(chunk @ keys).logsumexp(dim=-1) for chunk in chunks], dim=-1)


@dataclass(frozen=True, eq=False)
class FactoredRecord(Record):
    """Efficient attention: a softmax over positions times a softmax over channels (Shen et al., arXiv 1812.01243).

    The row of a query is exact, ``sum_c queries[c, i] keys[c, j]``, and sums to one.

    Attributes:
        queries: (B, heads, d, [Z,] Y, X), summing to one over d.
        keys: (B, heads, d, [Z,] Y, X), summing to one over the positions.
    """

    queries: Tensor
    keys: Tensor

    @property
    def grid(self) -> tuple[int, ...]:
        """The map's size."""
        return tuple(self.keys.shape[3:])

    def rows(self, which: slice | Tensor) -> Tensor:
        """Weights (B, heads, chosen queries, N) of queries by flat index; each row sums to one."""
        queries, keys = self.queries.flatten(3), self.keys.flatten(3)
        return queries[..., which].transpose(-1, -2) @ keys

    def maps(self) -> Tensor:
        """How much each position is attended to, averaged over all queries."""
        mean = self.queries.flatten(3).mean(dim=-1)
        return torch.einsum("bhc,bhc...->bh...", mean, self.keys)

    def _row(self, position: tuple[int, ...]) -> Tensor:
        at = _flat_index(position, self.grid)
        return torch.einsum("bhc,bhc...->bh...", self.queries.flatten(3)[..., at], self.keys)

    def _column(self, position: tuple[int, ...]) -> Tensor:
        at = _flat_index(position, self.grid)
        return torch.einsum("bhc...,bhc->bh...", self.queries, self.keys.flatten(3)[..., at])


@dataclass(frozen=True, eq=False)
class AxialRecord(Record):
    """Attention along the rows or the columns of an image, or of patches of it.

    Attributes:
        weights: (B, patch rows, patch columns, lines, heads, queries, keys), summing to one over the keys.
            For ``site.axis`` 2 a line is a column of a patch, for 3 it is a row.
    """

    weights: Tensor

    @property
    def grid(self) -> tuple[int, ...]:
        """The map's size (Y, X)."""
        _, rows, columns, lines, _, length, _ = self.weights.shape
        height, width = (length, lines) if self.site.axis == 2 else (lines, length)
        return rows * height, columns * width

    def maps(self) -> Tensor:
        """How much each position is attended to by its line, averaged over the line's queries."""
        return self.on_grid(self.weights.mean(dim=-2))

    def _row(self, position: tuple[int, ...]) -> Tensor:
        line, at = self._line(position)
        return self._in_line(line, self.weights[(slice(None), *line)][..., at, :])

    def _column(self, position: tuple[int, ...]) -> Tensor:
        line, at = self._line(position)
        return self._in_line(line, self.weights[(slice(None), *line)][..., at])

    def _line(self, position: tuple[int, ...]) -> tuple[tuple[int, int, int], int]:
        """The line of a position as (patch row, patch column, line), and the position's place in it."""
        length, lines = self.weights.shape[-1], self.weights.shape[3]
        along, across = position if self.site.axis == 2 else position[::-1]
        patch_along, at = divmod(along, length)
        patch_across, line = divmod(across, lines)
        row, column = (patch_along, patch_across) if self.site.axis == 2 else (patch_across, patch_along)
        return (row, column, line), at

    def _in_line(self, line: tuple[int, int, int], values: Tensor) -> Tensor:
        """(B, heads, length) of one line as (B, heads, Y, X), zero elsewhere."""
        found = torch.zeros_like(self.weights[..., 0, :])
        found[(slice(None), *line)] = values
        return self.on_grid(found)

    def on_grid(self, values: Tensor) -> Tensor:
        """Values of each line, (B, patch rows, patch columns, lines, heads, length) -> (B, heads, Y, X)."""
        order = (0, 4, 1, 5, 2, 3) if self.site.axis == 2 else (0, 4, 1, 3, 2, 5)
        turned = values.permute(order)
        batch, heads, rows, height, columns, width = turned.shape
        return turned.reshape(batch, heads, rows * height, columns * width)

    def in_lines(self, values: Tensor) -> Tensor:
        """Back from `on_grid`: (B, Y, X) -> (B, patch rows, patch columns, lines, length)."""
        _, rows, columns, lines, _, length, _ = self.weights.shape
        height, width = (length, lines) if self.site.axis == 2 else (lines, length)
        cut = values.reshape(-1, rows, height, columns, width)
        return cut.permute((0, 1, 3, 4, 2) if self.site.axis == 2 else (0, 1, 3, 2, 4))


RECORDS: dict[str, type[Record]] = {
    "gate": GateRecord,
    "vector": VectorRecord,
    "channel": ChannelRecord,
    "pairwise": PairwiseRecord,
    "factored": FactoredRecord,
    "axial": AxialRecord,
}


def _flat_index(position: tuple[int, ...], grid: tuple[int, ...]) -> int:
    index = 0
    for at, size in zip(position, grid, strict=True):
        index = index * size + at
    return index
