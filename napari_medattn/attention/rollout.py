"""Attention rollout: what a position takes from where through several blocks at once.

Abnar and Zuidema, "Quantifying Attention Flow in Transformers", arXiv 2005.00928, section 3 (equation 1): every block
is taken as ``A = (W + I) / 2``, its attention averaged over the heads and its residual, and the blocks are multiplied.
That has a meaning only where the blocks add to one residual stream on one grid and their rows sum to one; `streams`
lists where that is so, `why_no_rollout` says for every other site why not.

It is an approximation: heads are averaged, residual and attention count alike, and what feed-forward parts, their
convolutions, norms and values do is left out. Of the two halves of an axial block, rows after columns, the product
is taken as the block's attention.

Only rows are made: a question about one position, or about the mean of all, is a row vector that is multiplied with one
block after the other, the last block first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from napari_medattn.attention.queries import any_tensor, rows_at_once
from napari_medattn.attention.records import AxialRecord, FactoredRecord, PairwiseRecord, Record
from napari_medattn.errors import InputError
from napari_medattn.models import AttentionSite

LEGEND = (
    "attention rollout in multiples of an even share: what a position takes from where through {blocks}, as the "
    "product of (attention + identity) / 2; an approximation that leaves out values, norms and feed-forward parts"
)
AXIAL_LEGEND = ", and takes rows after columns as one attention"
_NO_ROWS = {
    "gate": "a gate weighs each position by itself and has no rows to multiply",
    "vector": "it gathers one global vector per head and has no row for each position",
    "channel": "it attends between channels, which moves nothing between positions",
}


@dataclass(frozen=True)
class Stream:
    """Successive blocks that add to one residual stream on one grid.

    Attributes:
        name: For people, e.g. ``"encoder 1"``.
        blocks: For each block the sites whose product is its attention, all in forward order.
    """

    name: str
    blocks: tuple[tuple[AttentionSite, ...], ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of all its sites, in forward order."""
        return tuple(site.key for block in self.blocks for site in block)

    @property
    def site(self) -> AttentionSite:
        """One of its sites, for grid and stride."""
        return self.blocks[0][0]

    @property
    def even_axes(self) -> tuple[int, ...]:
        """Axes of a (B, heads, Y, X) map over which a row spreads."""
        return tuple(sorted({axis for block in self.blocks for site in block for axis in site.sums_to_one}))

    @property
    def legend(self) -> str:
        """One line that says what the numbers mean."""
        count = len(self.blocks)
        text = LEGEND.format(blocks=f"the {count} blocks of {self.name}" if count > 1 else f"the block of {self.name}")
        return text + (AXIAL_LEGEND if self.site.kind == "axial" else "")


def streams(sites: Iterable[AttentionSite]) -> list[Stream]:
    """Where rollout is defined in a network, in forward order.

    Args:
        sites: All sites that the network declares.
    """
    found: dict[str, dict[str, list[AttentionSite]]] = {}
    for site in sites:
        if site.stream:
            found.setdefault(site.stream, {}).setdefault(site.key.rpartition(".")[0], []).append(site)
    return [Stream(name, tuple(tuple(block) for block in blocks.values())) for name, blocks in found.items()]


def why_no_rollout(sites: Iterable[AttentionSite]) -> dict[str, str]:
    """For each site of a network that no stream leads through, the reason in a few words."""
    return {site.key: _NO_ROWS.get(site.kind) or site.no_stream for site in sites if not site.stream}


def find_stream(sites: Iterable[AttentionSite], name: str) -> Stream:
    """The stream with this name, or the one that leads through the site with this key.

    Raises:
        InputError: If there is none; the message says why rollout is not defined there.
    """
    sites = list(sites)
    found = streams(sites)
    for stream in found:
        if name == stream.name or name in stream.keys:
            return stream
    known = f"It is for {', '.join(stream.name for stream in found)}." if found else "This network has no such place."
    reason = why_no_rollout(sites).get(name)
    title = next((site.title for site in sites if site.key == name), name)
    if reason:
        raise InputError(f"Rollout is not defined for {title}: {reason}.", known)
    raise InputError(f"There is no residual stream {name!r} to follow.", known)


@torch.inference_mode()
def rollout(records: Mapping[str, Record], stream: Stream, start: Tensor) -> Tensor:
    """Multiply a row vector with all blocks of a stream.

    Args:
        records: What was captured of the stream's sites in one forward pass.
        stream: One of `streams`.
        start: (B, *grid) weights of the positions behind the stream's last block: one at a position to ask about it,
            ``1 / N`` everywhere for the mean of all positions.

    Returns:
        (B, *grid) how much each position in front of the first block counts; sums to what ``start`` sums to.
    """
    carried = start.to(any_tensor(records[stream.site.key]))
    for block in reversed(stream.blocks):
        attended = carried
        for site in reversed(block):
            attended = gather(records[site.key], attended)
        carried = (carried + attended) / 2
    return carried


def gather(record: Record, weights: Tensor) -> Tensor:
    """The rows of a site's attention summed with these weights, and averaged over the heads.

    Args:
        record: Pairwise, factored or axial attention.
        weights: (B, *grid) weight of each query.

    Returns:
        (B, *grid).
    """
    flat = weights.flatten(1)
    if isinstance(record, AxialRecord):
        lines = torch.einsum("bpqlk,bpqlhkj->bpqlhj", record.in_lines(weights), record.weights.to(weights))
        return record.on_grid(lines).mean(dim=1)
    if isinstance(record, FactoredRecord):
        taken = torch.einsum("bn,bhcn->bhc", flat, record.queries.flatten(3).to(weights))
        return torch.einsum("bhc,bhcn->bhn", taken, record.keys.flatten(3).to(weights)).mean(dim=1).view_as(weights)
    assert isinstance(record, PairwiseRecord)
    asked = torch.nonzero(flat.any(dim=0)).flatten()  # one question is one row
    gathered = torch.zeros(*record.keys.shape[:2], flat.shape[1], dtype=weights.dtype, device=weights.device)
    for some in torch.split(asked, rows_at_once(record)):
        gathered += torch.einsum("br,bhrn->bhn", flat[:, some], record.rows(some).to(weights))
    return gathered.mean(dim=1).view_as(weights)
