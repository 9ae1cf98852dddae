"""What to do when memory runs out: smaller batches, then smaller patches, then the CPU."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

Triple = tuple[int, int, int]


@dataclass(frozen=True)
class Room:
    """What a training takes up.

    Attributes:
        batch: Patches per step.
        patch: Their size (Z, Y, X).
        device: Where they are.
    """

    batch: int
    patch: Triple
    device: torch.device


def next_rung(room: Room, stride: Triple) -> tuple[Room, str] | None:
    """The next smaller way to go on, and a sentence that tells of it; None if there is none.

    Args:
        room: What was too much.
        stride: Multiples that the network needs along (Z, Y, X); no patch gets smaller than that.
    """
    if room.batch > 1:
        room = replace(room, batch=room.batch // 2)
        return room, f"Memory ran out: going on with {room.batch} patch(es) per step."
    z, y, x = (max(step, side // 2 // step * step) for side, step in zip(room.patch, stride, strict=True))
    if (z, y, x) != room.patch:
        return replace(room, patch=(z, y, x)), f"Memory ran out: going on with patches of {z} x {y} x {x} voxels."
    if room.device.type != "cpu":
        return replace(room, device=torch.device("cpu")), "Memory ran out: going on on the CPU."
    return None
