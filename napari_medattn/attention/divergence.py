"""How much one site's attention differs between two captures of the same image.

Distributions are compared by the Jensen-Shannon divergence (Lin, IEEE Trans. Inf. Theory 37, 1991) with base 2, which
lies between 0 (equal) and 1 (nothing in common); gates by the mean absolute difference of their factors, which lies
between 0 and 1 too; weights of unit length by half of one minus their cosine: 0 equal, 0.5 orthogonal, 1 opposite.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_medattn.attention.queries import any_tensor, for_each_query, has_rows
from napari_medattn.attention.records import ChannelRecord, GateRecord, Record
from napari_medattn.errors import InputError
from napari_medattn.models import AttentionSite

Measure = Literal["jensen-shannon", "mean difference", "cosine"]
PerHead = NDArray[np.float64]

MEANS: dict[Measure, str] = {
    "jensen-shannon": "Jensen-Shannon divergence, 0 equal to 1 nothing in common",
    "mean difference": "mean absolute difference of the gate, 0 to 1",
    "cosine": "(1 - cosine) / 2 of the weights, 0 equal to 1 opposite",
}


@dataclass(frozen=True, eq=False)
class Divergence:
    """How much a site's attention differs.

    Attributes:
        measure: How it was measured, see `MEANS`.
        count: How many queries, positions or vectors the means are over.
        rows: (heads,) mean over all of them: over the queries' rows for pairwise, factored and axial attention, over
            the channels' rows for channel attention.
        maps: (heads,) the same of the overviews alone, which is 0 for heads whose rows differ but not their sum; equal
            to ``rows`` where each head has one map; None for channels.
    """

    measure: Measure
    count: float
    rows: PerHead
    maps: PerHead | None


def measure_of(site: AttentionSite) -> Measure:
    """How a site is compared."""
    if site.normalisation == "sigmoid":
        return "mean difference"
    return "cosine" if site.normalisation == "l2" else "jensen-shannon"


@torch.inference_mode()
def divergence(before: Record, after: Record, inside: Tensor | None = None) -> Divergence:
    """Compare two captures of a site, head by head.

    Args:
        before: What was captured of one network.
        after: What was captured of another on the same input.
        inside: (B, *grid) bool, the queries and gate positions that count; all if None.

    Raises:
        InputError: If the captures are not of one kind and size.
    """
    if type(before) is not type(after) or any_tensor(before).shape != any_tensor(after).shape:
        raise InputError(
            f"{before.site.title} gave {_shape(before)} in one network and {_shape(after)} in the other.",
            "Compare two checkpoints of one network on one image.",
        )
    measure = measure_of(before.site)
    if isinstance(before, ChannelRecord):
        one, other = any_tensor(before).float(), any_tensor(after).float()
        return Divergence(measure, len(one), _numpy(jensen_shannon(one, other).mean(dim=(0, 2))), None)
    if inside is None:
        inside = torch.ones(len(any_tensor(before)), *before.grid, dtype=torch.bool)
    inside = inside.to(any_tensor(before).device)
    if measure == "mean difference":
        assert isinstance(before, GateRecord) and isinstance(after, GateRecord)
        found = _mean((after.gate.float() - before.gate.float()).abs(), inside)
        return Divergence(measure, int(inside.sum()), found, found)
    one, other = before.maps().float().flatten(2), after.maps().float().flatten(2)
    if measure == "cosine":
        found = _numpy((1 - torch.nn.functional.cosine_similarity(one, other, dim=-1)).mean(dim=0) / 2).clip(0, 1)
        return Divergence(measure, len(one), found, found)
    whole = _numpy(jensen_shannon(_share(one), _share(other)).mean(dim=0))
    if not has_rows(before):
        return Divergence(measure, len(one), whole, whole)
    (rows,) = for_each_query(lambda _, p, q: (jensen_shannon(p, q),), before, after)
    return Divergence(measure, int(inside.sum()), _mean(rows, inside), whole)


def jensen_shannon(p: Tensor, q: Tensor) -> Tensor:
    """Jensen-Shannon divergence with base 2 over the last axis, 0..1.

    Args:
        p: Distributions (..., n), each summing to one.
        q: Distributions of the same shape.
    """
    mixed: Tensor = torch.special.entr((p + q) / 2) - (torch.special.entr(p) + torch.special.entr(q)) / 2
    return (mixed.sum(dim=-1) / math.log(2)).clamp(0, 1)


def _share(maps: Tensor) -> Tensor:
    """Maps (B, heads, n) as distributions: those of patches and resized gates sum to more than one."""
    return maps / maps.sum(dim=-1, keepdim=True)


def _mean(values: Tensor, inside: Tensor) -> PerHead:
    """(B, heads, *grid) -> (heads,) mean over what is inside."""
    where = inside[:, None].expand_as(values)
    total = torch.where(where, values.double(), 0).sum(dim=[0, *range(2, values.ndim)])
    return _numpy(total / max(int(inside.sum()), 1))


def _numpy(values: Tensor) -> PerHead:
    found: PerHead = values.double().cpu().numpy()
    return found


def _shape(record: Record) -> str:
    return " x ".join(str(side) for side in any_tensor(record).shape)
