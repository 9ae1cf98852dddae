"""Softmax attention between all positions, some rows at a time.

No more than `ROWS_AT_ONCE` rows of the N x N weights exist at any moment, in training too: the backward pass makes
them again from queries and keys (Dao et al., arXiv 2205.14135, section 3).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

ROWS_AT_ONCE = 256


def row_attention(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """``softmax(queries keys^T) values`` without scaling.

    Args:
        queries: (B, N, d).
        keys: (B, M, d).
        values: (B, M, c).

    Returns:
        (B, N, c).
    """
    # Products into given memory and in-place softmaxes need one type, which autocast would mix up on a GPU.
    queries, keys = queries.to(values.dtype), keys.to(values.dtype)
    with torch.autocast(values.device.type, enabled=False):
        if torch.is_grad_enabled() and any(t.requires_grad for t in (queries, keys, values)):
            return _RowAttention.apply(queries, keys, values)  # type: ignore[no-any-return, no-untyped-call]
        return _attend(queries, keys, values)


def _rows(count: int) -> list[slice]:
    return [slice(at, at + ROWS_AT_ONCE) for at in range(0, count, ROWS_AT_ONCE)]


def _weights(queries: Tensor, turned_keys: Tensor) -> Tensor:
    """(B, some, d) and (B, d, M) -> (B, some, M), each row sums to one."""
    energy = queries @ turned_keys
    # On the processor the softmax goes row by row and may write over what it reads, which stays in the cache.
    return torch.softmax(energy, dim=-1, out=energy if energy.is_cpu else None)


def _attend(queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    turned = keys.transpose(1, 2).contiguous()
    out = values.new_empty(*queries.shape[:2], values.shape[2])
    for rows in _rows(queries.shape[1]):
        torch.bmm(_weights(queries[:, rows], turned), values, out=out[:, rows])
    return out


class _RowAttention(torch.autograd.Function):
    """Attention that keeps nothing of the weights for its backward pass."""

    @staticmethod
    def forward(ctx: FunctionCtx, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        out = _attend(queries, keys, values)
        ctx.save_for_backward(queries, keys, values, out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        queries, keys, values, out = ctx.saved_tensors  # type: ignore[attr-defined]
        turned_keys, turned_values = keys.transpose(1, 2).contiguous(), values.transpose(1, 2).contiguous()
        # The softmax takes the mean of its gradient, weighted by itself, off each row; that mean is known beforehand.
        mean = (grad * out).sum(dim=-1, keepdim=True)
        grad_queries, grad_keys, grad_values = (torch.zeros_like(t) for t in (queries, keys, values))
        for rows in _rows(queries.shape[1]):
            some, some_grad = queries[:, rows], grad[:, rows]
            weights = _weights(some, turned_keys)
            grad_values += weights.transpose(1, 2) @ some_grad
            grad_energy = (some_grad @ turned_values).sub_(mean[:, rows]).mul_(weights)
            grad_queries[:, rows] = grad_energy @ keys
            grad_keys += grad_energy.transpose(1, 2) @ some
        return grad_queries, grad_keys, grad_values
