"""What the paper of EMF-former claims of its parts, measured on the reconstruction.

    python benchmarks/emf_former.py

Three claims: a DSPConv has fewer parameters than a 3x3 convolution, the time and memory of vector attention grow with
the number of positions N and not with its square, and heads one after another need less memory than heads side by side.

Peak memory is the sum of all tensors alive at the same time beyond those at the start, as seen operation by operation;
scratch space inside an operation is not in it. *Training* is a forward and a backward pass.
MFLOP are those of matrix products.
"""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from napari_medattn.models.emf.dsp_conv import DSPConv
from napari_medattn.models.emf.serial_heads import SerialHeads
from napari_medattn.models.emf.vector_attention import VectorAttention

THREADS = 1
CHANNELS, HEADS = 128, 4
WIDTH = CHANNELS // HEADS


class PeakMemory(TorchDispatchMode):
    """Bytes of the tensors that operations make and that are alive at the same time, at most."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._seen = weakref.WeakSet[torch.UntypedStorage]()

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Run an operation and count what it made."""
        for given in tree_leaves((args, kwargs)):
            if isinstance(given, Tensor):
                self._seen.add(given.untyped_storage())
        result = func(*args, **(kwargs or {}))
        for made in tree_leaves(result):
            if isinstance(made, Tensor) and made.untyped_storage() not in self._seen:
                self._count(made.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        size = storage.nbytes()
        self._seen.add(storage)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._free, size)

    def _free(self, size: int) -> None:
        self.now -= size


class SoftmaxAttention(nn.Module):
    """One head with the N x N matrix, or with torch's fused operation that never makes it whole."""

    def __init__(self, channels: int, fused: bool) -> None:
        super().__init__()
        self.fused = fused
        self.parts = nn.ModuleList(nn.Linear(channels, channels) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, d) -> (B, N, d)."""
        query, key, value = (part(x) for part in self.parts[:3])
        if self.fused:
            mixed = F.scaled_dot_product_attention(query[:, None], key[:, None], value[:, None])[:, 0]
        else:
            mixed = (query @ key.transpose(1, 2) * x.shape[-1] ** -0.5).softmax(-1) @ value
        return self.parts[3](mixed)  # type: ignore[no-any-return]


class ParallelHeads(SerialHeads):
    """The same heads side by side: none hears of another, and each step is done for all of them at once."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, C) -> (B, N, C)."""
        batch, count, channels = x.shape
        parts = x.view(batch, count, len(self.heads), self.width).permute(2, 0, 1, 3).flatten(1, 2)
        query, key = self._linear(parts, "query"), self._linear(parts, "key")
        direction = torch.stack([head.query_score for head in self.heads])[:, :, None]
        scores = (query @ direction).view(-1, batch, 1, count) * self.heads[0].scale
        vector = scores.softmax(-1) @ query.view(-1, batch, count, self.width)
        mixed = self._linear((vector * key.view(-1, batch, count, self.width)).flatten(1, 2), "mix") + query
        mixed = mixed.view(-1, batch, count, self.width).permute(1, 2, 0, 3).reshape(batch, count, channels)
        return self.project(mixed)  # type: ignore[no-any-return]

    def _linear(self, x: Tensor, name: str) -> Tensor:
        """The linear layer ``name`` of each head on its part of (heads, B * N, d)."""
        layers = [getattr(head, name) for head in self.heads]
        weight = torch.stack([layer.weight.t() for layer in layers])
        return torch.baddbmm(torch.stack([layer.bias for layer in layers])[:, None], x, weight)


def peak(module: nn.Module, x: Tensor, training: bool) -> float:
    """MiB at the peak of a forward pass, or of a training step."""
    module.zero_grad()
    with torch.set_grad_enabled(training), PeakMemory() as memory:
        result = module(x)
        result = result[0] if isinstance(result, tuple) else result
        if training:
            result.sum().backward()
    return memory.peak / 2**20


def flops(module: nn.Module, x: Tensor) -> float:
    """Million floating-point operations of a forward pass."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(x)
    return counter.get_total_flops() / 1e6


@torch.inference_mode()
def milliseconds(module: nn.Module, x: Tensor, repeats: int = 15) -> float:
    """Time of the fastest of some forward passes, because the machine has other things to do as well."""
    module(x)
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        module(x)
        times.append((time.perf_counter() - start) * 1e3)
    return min(times)


def parameters(module: nn.Module) -> int:
    """Number of parameters."""
    return sum(p.numel() for p in module.parameters())


def convolutions() -> Table:
    """Parameters of a DSPConv and of a 3x3 convolution with batch norm."""
    table = Table("axes", "channels", "3x3 convolution", "DSPConv, 4 groups", "DSPConv, 1 group")
    for dims, conv, norm in ((2, nn.Conv2d, nn.BatchNorm2d), (3, nn.Conv3d, nn.BatchNorm3d)):
        for width in (32, 64):
            plain = parameters(nn.Sequential(conv(width, width, 3, bias=False), norm(width)))
            ours = (parameters(DSPConv(dims, width, width, pointwise_groups=groups)) for groups in (4, 1))
            table.add_row(str(dims), str(width), f"{plain:,}", *(f"{n:,} ({n / plain:.1%})" for n in ours))
    return table


def attention() -> Table:
    """Vector attention and softmax attention against the number of positions."""
    table = Table("N", "head", "MFLOP", "ms", "MiB inference", "MiB training")
    heads: dict[str, nn.Module] = {
        f"vector, {reading}": VectorAttention(WIDTH, reading) for reading in ("additive", "outer", "fast")
    }
    heads |= {"softmax": SoftmaxAttention(WIDTH, False), "softmax, fused": SoftmaxAttention(WIDTH, True)}
    for count in (512, 2048, 8192):
        tokens = torch.randn(1, count, WIDTH)
        for name, head in heads.items():
            memory = (peak(head, tokens, training) for training in (False, True))
            # The counter does not see into the fused operation, which computes what the plain one does.
            counted = heads["softmax"] if name == "softmax, fused" else head
            table.add_row(
                str(count),
                name,
                f"{flops(counted, tokens):.1f}",
                f"{milliseconds(head, tokens):.2f}",
                *(f"{found:.1f}" for found in memory),
            )
    return table


def heads() -> Table:
    """Heads one after another and side by side."""
    table = Table("N", "heads", "MFLOP", "ms", "MiB inference", "MiB training")
    layers = {
        "side by side": ParallelHeads(CHANNELS, HEADS, HEADS),
        "serial": SerialHeads(CHANNELS, HEADS, HEADS),
        "serial, 2 of 4 active": SerialHeads(CHANNELS, HEADS, 2),
    }
    for count in (512, 8192):
        tokens = torch.randn(1, count, CHANNELS)
        for name, layer in layers.items():
            memory = (peak(layer, tokens, training) for training in (False, True))
            table.add_row(
                str(count),
                name,
                f"{flops(layer, tokens):.1f}",
                f"{milliseconds(layer, tokens):.2f}",
                *(f"{found:.1f}" for found in memory),
            )
    return table


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_num_threads(THREADS)
    console = Console()
    for table in (convolutions(), attention(), heads()):
        console.print(table)
