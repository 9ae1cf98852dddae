"""The product at the heart of axial attention, a few lines at a time and with its own gradient.

A line is one row or column of one head. Its logits are ``q_i k_j + q_i P_ij + k_j R_ji`` with position tables P
and R, its result is ``sum_j A_ij v_j`` and ``sum_j A_ij V_ij`` (Wang et al., "Axial-DeepLab", arXiv 2003.07853,
equation 4, without adding the two up). The attention A is made for as many lines as fit the processor's cache,
used and dropped; the gradient makes it again instead of keeping it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Attention weights at once: 1 MB, the second-level cache of a core; a GPU wants much more to do at a time.
CPU_WEIGHTS, GPU_WEIGHTS = 2**18, 2**26
# On the CPU, softmax over lines shorter than this takes seven times as long as its parts (torch 2.13).
SHORT = 16


@dataclass(frozen=True, eq=False)
class Positions:
    """What the position terms need for n lines of length K.

    Attributes:
        query: (n, c, K), queries for the query table, scaled on their own.
        key: (n, c, K), keys for the key table, scaled on their own.
        query_table: (c, K, K), indexed by query and key.
        key_table: (c, K, K), indexed by key and query.
        value_table: (d, K, K), indexed by query and key.
    """

    query: Tensor
    key: Tensor
    query_table: Tensor
    key_table: Tensor
    value_table: Tensor

    def __iter__(self) -> Iterator[Tensor]:
        return iter((self.query, self.key, self.query_table, self.key_table, self.value_table))


def axial_weights(query: Tensor, key: Tensor, positions: Positions | None) -> Tensor:
    """Attention of lines.

    Args:
        query: (n, c, K).
        key: (n, c, K).
        positions: The position terms, None to attend by content alone.

    Returns:
        (n, K, K), indexed by query and key; each row sums to one.
    """
    if positions is None:
        return _weights(query, key, None, None, None, None)
    turned = positions.key_table.transpose(1, 2).contiguous()
    return _weights(query, key, positions.query, positions.key, positions.query_table, turned)


def axial_product(query: Tensor, key: Tensor, value: Tensor, positions: Positions | None) -> tuple[Tensor, Tensor]:
    """What attention gathers.

    Args:
        query: (n, c, K).
        key: (n, c, K).
        value: (n, d, K).
        positions: The position terms, None to attend by content alone.

    Returns:
        (n, d, K) gathered from the values and (n, d, K) gathered from the value table (empty without one).
    """
    more = (None,) * 5 if positions is None else tuple(positions)
    return _AxialProduct.apply(query, key, value, *more)  # type: ignore[no-any-return, no-untyped-call]


def _weights(
    query: Tensor,
    key: Tensor,
    query_on_table: Tensor | None,
    key_on_table: Tensor | None,
    query_table: Tensor | None,
    key_table: Tensor | None,
) -> Tensor:
    """As `axial_weights`, with the key table turned to (c, queries, keys)."""
    turned = query.transpose(1, 2)
    logits = turned * key if query.shape[1] == 1 else torch.bmm(turned, key)
    if query_on_table is not None and key_on_table is not None and query_table is not None and key_table is not None:
        for channel in range(len(query_table)):
            logits.addcmul_(query_on_table[:, channel, :, None], query_table[channel])
            logits.addcmul_(key_on_table[:, channel, None, :], key_table[channel])
    if logits.shape[-1] >= SHORT:
        return logits.softmax(dim=-1)
    weights = logits.sub_(logits.amax(dim=-1, keepdim=True)).exp_()
    return weights.div_(weights.sum(dim=-1, keepdim=True))


def _chunks(lines: Tensor) -> list[slice]:
    count, _, length = lines.shape
    room = CPU_WEIGHTS if lines.device.type == "cpu" else GPU_WEIGHTS
    step = max(1, room // length**2)
    return [slice(at, at + step) for at in range(0, count, step)]


class _AxialProduct(torch.autograd.Function):
    """`axial_product`; in the gradient's names, ``to_x`` is the gradient with respect to x."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        query_on_table: Tensor | None,
        key_on_table: Tensor | None,
        query_table: Tensor | None,
        key_table: Tensor | None,
        value_table: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(query, key, value, query_on_table, key_on_table, query_table, key_table, value_table)
        by_content = torch.empty_like(value)
        by_position = torch.empty_like(value) if value_table is not None else value.new_empty(0)
        turned = None if key_table is None else key_table.transpose(1, 2).contiguous()
        for part in _chunks(query):
            on_query, on_key = (None if t is None else t[part] for t in (query_on_table, key_on_table))
            weights = _weights(query[part], key[part], on_query, on_key, query_table, turned)
            torch.bmm(value[part], weights.transpose(1, 2), out=by_content[part])
            if value_table is not None:
                by_position[part] = torch.bmm(value_table.transpose(0, 1), weights.permute(1, 2, 0)).permute(2, 1, 0)
        return by_content, by_position

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, to_content: Tensor, to_position: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, query_on_table, key_on_table, query_table, key_table, value_table = ctx.saved_tensors
        to_content, placed = to_content.contiguous(), query_table is not None
        to_query, to_key, to_value = (torch.empty_like(t) for t in (query, key, value))
        if not placed:
            for part in _chunks(query):
                weights = _weights(query[part], key[part], None, None, None, None)
                to_weights = torch.bmm(to_content[part].transpose(1, 2), value[part])
                torch.bmm(to_content[part], weights, out=to_value[part])
                to_logits = _through_softmax(to_weights, weights)
                torch.bmm(key[part], to_logits.transpose(1, 2), out=to_query[part])
                torch.bmm(query[part], to_logits, out=to_key[part])
            return (to_query, to_key, to_value, *(None,) * 5)

        to_position = to_position.contiguous()
        to_query_on_table, to_key_on_table = torch.empty_like(query), torch.empty_like(key)
        # Tables with their own position in front, as the products over positions want and give them.
        tables = [t.transpose(0, 1).contiguous() for t in (query_table, key_table, value_table)]
        to_tables = [torch.zeros_like(t) for t in tables]
        turned = key_table.transpose(1, 2).contiguous()
        for part in _chunks(query):
            on_query, on_key = query_on_table[part], key_on_table[part]
            weights = _weights(query[part], key[part], on_query, on_key, query_table, turned)
            to_weights = torch.bmm(to_content[part].transpose(1, 2), value[part])
            to_placed = _by_position(to_position[part])
            to_weights += torch.bmm(to_placed.transpose(1, 2), tables[2]).transpose(0, 1)
            torch.bmm(to_content[part], weights, out=to_value[part])
            to_tables[2] += torch.bmm(to_placed, weights.transpose(0, 1))
            to_logits = _through_softmax(to_weights, weights)
            torch.bmm(key[part], to_logits.transpose(1, 2), out=to_query[part])
            torch.bmm(query[part], to_logits, out=to_key[part])
            to_query_on_table[part] = torch.bmm(tables[0], to_logits.permute(1, 2, 0)).permute(2, 1, 0)
            to_tables[0] += torch.bmm(_by_position(on_query), to_logits.transpose(0, 1))
            by_key = to_logits.permute(2, 0, 1).contiguous()
            to_key_on_table[part] = torch.bmm(tables[1], by_key.transpose(1, 2)).permute(2, 1, 0)
            to_tables[1] += torch.bmm(_by_position(on_key), by_key)
        of_tables = (t.transpose(0, 1) for t in to_tables)
        return (to_query, to_key, to_value, to_query_on_table, to_key_on_table, *of_tables)


def _by_position(vectors: Tensor) -> Tensor:
    """(n, c, K) -> (K, c, n), laid out so that products over lines are one call."""
    return vectors.permute(2, 1, 0).contiguous()


def _through_softmax(to_weights: Tensor, weights: Tensor) -> Tensor:
    """The gradient of the logits; ``to_weights`` is used up."""
    to_weights *= weights
    return to_weights.addcmul_(weights, to_weights.sum(dim=-1, keepdim=True), value=-1)
