"""Numbers for every query of a site, without all rows of its attention at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from napari_medattn.attention.records import AxialRecord, FactoredRecord, PairwiseRecord, Record
from napari_medattn.errors import InputError

ELEMENTS = 1 << 22  # weights of one record that are in memory at once

Rows = PairwiseRecord | FactoredRecord
Reduce = Callable[..., tuple[Tensor, ...]]


def has_rows(record: Record) -> bool:
    """Whether every position of a site has a row of its own: what it attends to."""
    return isinstance(record, PairwiseRecord | FactoredRecord | AxialRecord)


def reach(record: Record) -> int:
    """How many positions a query of pairwise, factored or axial attention can attend to."""
    if isinstance(record, AxialRecord):
        return int(record.weights.shape[-1])
    return int(torch.Size(record.grid).numel())


def rows_at_once(record: Rows) -> int:
    """How many rows of each batch item and head may be in memory together."""
    batch, heads = record.keys.shape[:2]
    return max(1, ELEMENTS // (batch * heads * reach(record)))


def for_each_query(reduce: Reduce, *records: Record) -> tuple[Tensor, ...]:
    """Reduce the row of every query to a few numbers.

    Args:
        reduce: Called with a slice of queries and the rows of each record, (..., queries, positions attended to) in
            float32, and gives one or more (..., queries). Queries and positions are flat indices on the grid, for
            axial attention indices along the line.
        records: One site's attention, captured once or several times.

    Returns:
        A (B, heads, *grid) for each number.

    Raises:
        InputError: If the records are not alike, or attention of this kind has no rows.
    """
    first = records[0]
    if any(type(other) is not type(first) or other.grid != first.grid for other in records[1:]):
        raise InputError(
            f"The attention of {first.site.title} was captured on grids of {_sizes(records)}.",
            "Compare what was captured on images of one size.",
        )
    if isinstance(first, AxialRecord):
        weights = [record.weights.float() for record in records if isinstance(record, AxialRecord)]
        return tuple(first.on_grid(found) for found in reduce(slice(0, reach(first)), *weights))
    if isinstance(first, PairwiseRecord | FactoredRecord):
        alike = [record for record in records if isinstance(record, PairwiseRecord | FactoredRecord)]
        step = rows_at_once(first)
        spans = [slice(at, min(at + step, reach(first))) for at in range(0, reach(first), step)]
        chunks = [reduce(span, *(record.rows(span).float() for record in alike)) for span in spans]
        shape = (*first.keys.shape[:2], *first.grid)
        return tuple(torch.cat(found, dim=2).view(shape) for found in zip(*chunks, strict=True))
    raise InputError(f"{first.site.title} {first.why_no_query}, so it has no rows.", "Read its map instead.")


def any_tensor(record: Record) -> Tensor:
    """One of the tensors that were kept, (B, ...)."""
    return next(kept for kept in vars(record).values() if isinstance(kept, Tensor))


def _sizes(records: Sequence[Record]) -> str:
    return " and ".join(" x ".join(str(side) for side in record.grid) for record in records)
