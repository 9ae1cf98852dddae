"""How far each head looks and how widely it spreads: mean distance attended and entropy.

Mean distances of attention tell local from global heads (Dosovitskiy et al., arXiv 2010.11929, appendix D.7). All
numbers are means over the queries that lie on the image; rows are made in chunks, never all at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_medattn.attention.queries import any_tensor, for_each_query, has_rows, reach
from napari_medattn.attention.records import AxialRecord, ChannelRecord, GateRecord, Record, VectorRecord

PerHead = NDArray[np.float64]
OPEN = 0.5
ENTROPY_MEANS = "0: all weight on one position; 1: spread evenly over all that can be attended to"


@dataclass(frozen=True, eq=False)
class Statistics:
    """One site's numbers, each (heads,), None where they are not defined.

    Attributes:
        count: How many queries, positions or vectors the means are over.
        entropy: Mean entropy of the weights divided by the logarithm of the number of positions, 0..1.
        distance: Mean distance attended, in the unit of the steps that it was measured with.
        even_distance: What the distance would be if all positions counted alike.
        mean: For gates, the mean factor.
        share_open: For sigmoid gates, the share of positions with a factor above one half.
        note: What the entropy is of, and why there is no distance, where that is not plain.
    """

    count: float
    entropy: PerHead | None = None
    distance: PerHead | None = None
    even_distance: float | None = None
    mean: PerHead | None = None
    share_open: PerHead | None = None
    note: str = ""


@torch.inference_mode()
def statistics(record: Record, steps: Sequence[float], inside: Tensor | None = None) -> Statistics:
    """Measure one site's attention.

    Args:
        record: What was captured.
        steps: Distance between neighbouring positions along each axis of the site's grid; unused for channels.
        inside: (B, *grid) bool, the positions that lie on the image rather than on its padding; all if None. Only
            these are averaged over; what they attend to may lie anywhere.
    """
    if isinstance(record, ChannelRecord):
        entropy = _entropy(record.weights.float()).mean(dim=(0, 2))
        count, note = record.weights.shape[0], "between feature channels, which have no distance"
        return _made(count, note, record.weights.shape[-1], entropy)
    if isinstance(record, VectorRecord):
        return _of_vector(record)
    kept = any_tensor(record)
    if inside is None:
        inside = torch.ones(len(kept), *record.grid, dtype=torch.bool)
    inside = inside.to(kept.device)
    if isinstance(record, GateRecord):
        return _of_gate(record, inside)
    return _of_rows(record, steps, inside)


def pool(parts: Sequence[Statistics]) -> Statistics:
    """The statistics of several captures of one site as if they were one."""
    kept = [part for part in parts if part.count]
    if not kept:
        return parts[0]
    count = sum(part.count for part in kept)

    def mean(name: str) -> PerHead | None:
        values = [getattr(part, name) for part in kept]
        known = [(value, part.count) for value, part in zip(values, kept, strict=True) if value is not None]
        if len(known) < len(kept):
            return None
        return np.asarray(sum(np.asarray(value) * weight for value, weight in known) / count)

    even = mean("even_distance")
    return Statistics(
        count=count,
        entropy=mean("entropy"),
        distance=mean("distance"),
        even_distance=None if even is None else float(even),
        mean=mean("mean"),
        share_open=mean("share_open"),
        note=kept[0].note,
    )


def distances(which: slice, size: Sequence[int], steps: Sequence[float], device: torch.device) -> Tensor:
    """Distances (queries, positions) between positions of a grid by flat index.

    Args:
        which: The queries.
        size: The grid.
        steps: Distance between neighbours along each axis.
        device: Where to.
    """
    axes = [torch.arange(n, device=device, dtype=torch.float32) * step for n, step in zip(size, steps, strict=True)]
    places = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, -2)
    return torch.cdist(places[which], places, compute_mode="donot_use_mm_for_euclid_dist")


def _of_rows(record: Record, steps: Sequence[float], inside: Tensor) -> Statistics:
    assert has_rows(record)
    size, along = record.grid, tuple(steps)
    if isinstance(record, AxialRecord):
        size, along = (reach(record),), (along[(record.site.axis or 2) - 2],)

    def reduce(which: slice, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        apart = distances(which, size, along, rows.device)
        return _entropy(rows), torch.einsum("...qk,qk->...q", rows, apart), apart.mean(dim=-1).expand(rows.shape[:-1])

    entropy, far, even = for_each_query(reduce, record)
    where = inside[:, None].expand_as(entropy)
    count = int(inside.sum())

    def mean(values: Tensor) -> Tensor:
        return torch.where(where, values.double(), 0).sum(dim=[0, *range(2, values.ndim)]) / max(count, 1)

    note = "along its line only" if isinstance(record, AxialRecord) else ""
    made = _made(count, note, reach(record), mean(entropy))
    return Statistics(count, made.entropy, _numpy(mean(far)), float(mean(even)[0]), note=made.note)


def _of_gate(record: GateRecord, inside: Tensor) -> Statistics:
    gate, count = record.gate.double(), int(inside.sum())
    where = inside[:, None].expand_as(gate)
    over = [0, *range(2, gate.ndim)]
    mean = _numpy(torch.where(where, gate, 0).sum(dim=over) / max(count, 1))
    if record.site.normalisation == "sigmoid":
        open_ = _numpy((where & (gate > OPEN)).sum(dim=over) / max(count, 1))
        note = "a gate weighs each position by itself: no entropy, no distance"
        return Statistics(count, mean=mean, share_open=open_, note=note)
    flat = gate.flatten(2)
    entropy = _entropy(flat / flat.sum(dim=-1, keepdim=True)).mean(dim=0)
    note = "entropy of the gate over the positions; no query, so no distance"
    made = _made(count, note, flat.shape[-1], entropy)
    return Statistics(count, entropy=made.entropy, mean=mean, note=made.note)


def _of_vector(record: VectorRecord) -> Statistics:
    weights = record.weights.float().flatten(2)
    squared = record.site.normalisation == "l2"
    what = "the squared weights, which sum to one," if squared else "the weights"
    entropy = _entropy(weights.square() if squared else weights).mean(dim=0)
    note = f"entropy of {what} over the positions; one vector for all, so no distance"
    return _made(len(weights), note, weights.shape[-1], entropy)


def _made(count: int, note: str, positions: int, nats: Tensor) -> Statistics:
    """Statistics of entropies in nats over so many positions."""
    if positions < 2:
        only = "a single position: nothing to choose from"
        return Statistics(count, note=f"{note}; {only}" if note else only)
    return Statistics(count, entropy=_numpy(nats / math.log(positions)).clip(0, 1), note=note)


def _entropy(weights: Tensor) -> Tensor:
    """Entropy over the last axis in nats."""
    found: Tensor = torch.special.entr(weights).sum(dim=-1)
    return found


def _numpy(values: Tensor) -> PerHead:
    found: PerHead = values.double().cpu().numpy()
    return found
