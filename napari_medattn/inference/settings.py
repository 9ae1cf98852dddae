"""`RunSettings`: what a run asks of the engine, and `Attempt`: what it settles on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from napari_medattn.data.tiles import Shape
from napari_medattn.errors import InputError

Place = Literal["device", "memory", "disk"]
AXES = "zyx"


@dataclass(frozen=True)
class RunSettings:
    """How a volume is gone through.

    Attributes:
        overlap: Share of a tile that neighbouring tiles have in common, 0 <= overlap < 1.
        flips: Letters of the prepared axes to mirror along, e.g. ``"x"`` or ``"zyx"``: the network sees every
            combination, and the mean of its probabilities counts.
        skip_below: Tiles without a voxel brighter than this, in the image's own intensities, are background; None
            to ask the network about every tile.
        tile: (Z, Y, X) of the tiles; None for the checkpoint's own.
        batch: Tiles at a time; None to choose by the device.
        accumulator: Where unfinished slices are kept: ``"device"``, ``"memory"``, ``"disk"``, or ``"auto"`` by size.
        half: Keep them in half precision, which takes half of the memory.
    """

    overlap: float = 0.25
    flips: str = ""
    skip_below: float | None = None
    tile: tuple[int, int, int] | None = None
    batch: int | None = None
    accumulator: Literal["auto", "device", "memory", "disk"] = "auto"
    half: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.overlap < 1:
            raise InputError(f"Tiles cannot overlap by {self.overlap}.", "Use a share from 0 to below 1.")
        if any(letter not in AXES for letter in self.flips) or len(set(self.flips)) != len(self.flips):
            raise InputError(f"A volume cannot be mirrored along {self.flips!r}.", "Use some of the letters z, y, x.")
        if self.tile is not None and min(self.tile) < 1:
            raise InputError(f"There are no tiles of {self.tile}.", "Use three sizes from 1 up.")
        if self.batch is not None and self.batch < 1:
            raise InputError(f"There are no batches of {self.batch} tiles.", "Use 1 or more.")
        if self.accumulator not in ("auto", "device", "memory", "disk"):
            raise InputError(f"There is no accumulator {self.accumulator!r}.", "Use auto, device, memory or disk.")

    def combinations(self, spatial_dims: int) -> list[tuple[int, ...]]:
        """Axes of (Z, Y, X) to mirror along, one entry per forward pass; the first is empty.

        Raises:
            InputError: If a 2-D network was to see slices mirrored along Z.
        """
        if spatial_dims == 2 and "z" in self.flips:
            raise InputError("A 2-D network sees no z axis to mirror along.", "Use some of the letters y, x.")
        found: list[tuple[int, ...]] = [()]
        for letter in sorted(self.flips, key=AXES.index):
            found += [(*axes, AXES.index(letter)) for axes in found]
        return found


@dataclass(frozen=True)
class Attempt:
    """What one attempt at a run works with; each rung of the ladder changes one of it.

    Attributes:
        device: Device name.
        precision: ``"fp32"``, ``"bf16"`` or ``"fp16"``.
        tile: (Z, Y, X) of the tiles.
        batch: Tiles at a time.
        accumulator: Where unfinished slices are kept.
    """

    device: str
    precision: str
    tile: Shape
    batch: int
    accumulator: Place


@dataclass(frozen=True)
class Limits:
    """How far down the ladder goes.

    Attributes:
        stride: Multiples that the network needs along each axis.
        smallest: Tile below which no tile goes.
        first: The first attempt; on the CPU everything begins again from its tile and precision.
        precisions: Precisions that are allowed.
    """

    stride: Shape
    smallest: Shape
    first: Attempt
    precisions: Sequence[str] = field(default=("fp32", "bf16"))
