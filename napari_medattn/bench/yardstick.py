"""A yard: how long this machine takes for a fixed piece of work, so that costs measured elsewhere compare.

The work is a mix of what networks are made of: a 3x3 convolution, a matrix product, a softmax, a layer norm and an
addition, each twice, in float32. A cost divided by the yard of the same minute is a number of yards.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch.nn import functional as F

Work = Callable[[], object]


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let torch use ``count`` threads in the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def clock(work: Work, repeats: int) -> float:
    """Median wall time of ``work()`` in seconds, after one call to warm up."""
    work()
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work()
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def make_yard() -> Work:
    """The fixed piece of work."""
    draw = torch.Generator().manual_seed(0)
    image = torch.randn(1, 64, 128, 128, generator=draw)
    kernel = torch.randn(64, 64, 3, 3, generator=draw) / 24
    left, right = torch.randn(1024, 512, generator=draw), torch.randn(1024, 512, generator=draw)
    rows = torch.randn(512, 64, 64, generator=draw)
    tokens = torch.randn(3136, 256, generator=draw)

    @torch.inference_mode()
    def yard() -> None:
        for _ in range(2):
            F.conv2d(image, kernel, padding=1)
            left @ right.T
            rows.softmax(dim=-1)
            F.layer_norm(tokens, (256,))
            image + image

    return yard


def in_yards(work: Work, rounds: int = 5) -> float:
    """Median over rounds of the cost of ``work()`` over the yard taken just before and after it."""
    yard = make_yard()
    ratios = []
    for _ in range(rounds):
        before = clock(yard, 7)
        cost = clock(work, 3)
        ratios.append(2 * cost / (before + clock(yard, 7)))
    return statistics.median(ratios)


def in_turn(first: Work, second: Work, rounds: int = 5) -> float:
    """Median over rounds of the cost of ``first()`` over that of ``second()``, taken alternately."""
    return statistics.median(clock(first, 1) / clock(second, 1) for _ in range(rounds))
