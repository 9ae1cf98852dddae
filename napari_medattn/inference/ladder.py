"""The ladder: what is tried, one rung after the other, when memory does not suffice.

Smaller batch, smaller tile, half precision, unfinished slices elsewhere, CPU. The order is fixed, so that the same
machine takes the same rungs, and each is told and recorded.
"""

from __future__ import annotations

from dataclasses import replace

from napari_medattn.data.tiles import Shape
from napari_medattn.inference.settings import Attempt, Limits

_BELOW = {"device": "memory", "memory": "disk"}


def step_down(attempt: Attempt, limits: Limits, accumulator_only: bool = False) -> tuple[Attempt, str] | None:
    """The next rung.

    Args:
        attempt: What did not fit.
        limits: How far down to go.
        accumulator_only: It was the unfinished slices that did not fit, which no smaller batch would mend.

    Returns:
        What to try instead, and in words what is different; None at the bottom.
    """
    if not accumulator_only:
        if attempt.batch > 1:
            batch = attempt.batch // 2
            return replace(attempt, batch=batch), f"{batch} instead of {attempt.batch} tiles at a time"
        if (tile := _smaller(attempt.tile, limits)) is not None:
            return replace(attempt, tile=tile), f"tiles of {_sizes(tile)} instead of {_sizes(attempt.tile)} voxels"
        if attempt.precision == "fp32" and "bf16" in limits.precisions:
            return replace(attempt, precision="bf16"), "half precision (bf16) instead of single"
    on_cpu = attempt.device == "cpu"
    below = "disk" if on_cpu and attempt.accumulator == "device" else _BELOW.get(attempt.accumulator)
    if below is not None:
        moved = replace(attempt, accumulator=below)  # type: ignore[arg-type]
        return moved, f"unfinished slices {'on disk' if below == 'disk' else 'in main memory'}"
    if not on_cpu:
        first = limits.first
        begun = Attempt("cpu", first.precision, first.tile, 1, "device")
        return begun, f"the CPU instead of {attempt.device}"
    return None


def _smaller(tile: Shape, limits: Limits) -> Shape | None:
    """The tile with its longest side halved, to a multiple of the stride; None if it may not be smaller."""
    halves = [
        max(least, size // 2 // step * step)
        for size, step, least in zip(tile, limits.stride, limits.smallest, strict=True)
    ]
    for axis in sorted(range(3), key=lambda axis: -tile[axis]):
        if halves[axis] < tile[axis]:
            return tuple(halves[axis] if a == axis else size for a, size in enumerate(tile))
    return None


def _sizes(tile: Shape) -> str:
    return " x ".join(str(size) for size in tile)
