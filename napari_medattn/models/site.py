"""`AttentionSite`: one place in a network where attention can be looked at."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

SiteKind = Literal["gate", "pairwise", "axial", "factored", "channel", "vector"]

_MEANING: dict[SiteKind, str] = {
    "gate": "how much of each voxel's skip feature is let through",
    "pairwise": "how much one position attends to every other",
    "axial": "how much one position attends to its row or column",
    "factored": "position weights times channel weights",
    "channel": "how much one feature channel attends to every other",
    "vector": "how much each position contributes to a global vector",
}


@dataclass(frozen=True)
class AttentionSite:
    """What a network declares about one of its attention maps.

    Attributes:
        key: Dotted path of the module that holds the site's tap; unique in the network.
        path: The way to the site in words for people, from the outside of the network to the inside, e.g.
            ``("decoder 3", "gate")``.
        kind: What kind of attention it is.
        stride: Input voxels per map position along each spatial axis, in array order; empty for channel
            attention, which has no place in space.
        heads: Number of maps side by side.
        normalisation: ``"sigmoid"`` (each value in 0..1 by itself), ``"softmax"``, or ``"l2"`` (the squares sum to one
            over the positions, values may be negative).
        sums_to_one: Axes of the (B, heads, ...) map over which it sums to one, in each patch; empty for sigmoid.
        axis: For axial attention, the attended axis of the (B, heads, Y, X) map: 2 along columns, 3 along rows.
        patches: Patches along each side into which the image is cut before this site sees it.
        channels: For channel attention, the number of channels in a head.
        stream: Name of the residual stream on one grid that the site's block adds to; the blocks of a stream are
            declared in their order, and sites with one parent module share their block's residual. Empty for none.
        no_stream: For a site whose positions attend to positions, why no such stream leads through it.
    """

    key: str
    path: tuple[str, ...]
    kind: SiteKind
    stride: tuple[int, ...]
    heads: int = 1
    normalisation: Literal["sigmoid", "softmax", "l2"] = "sigmoid"
    sums_to_one: tuple[int, ...] = ()
    axis: int | None = None
    patches: int = 1
    channels: int = 0
    stream: str = ""
    no_stream: str = ""

    @property
    def title(self) -> str:
        """The site's name for people, e.g. ``"decoder 3 gate"``."""
        return " ".join(self.path)

    @property
    def spatial(self) -> bool:
        """Whether the map has a place on the image."""
        return self.kind != "channel"

    @property
    def comparable_across_tiles(self) -> bool:
        """Whether values from two tiles may be compared: sigmoids may, softmax maps may not."""
        return self.normalisation == "sigmoid"

    def even_share(self, tile: Sequence[int]) -> float:
        """What a softmax map would be everywhere if it preferred no position; 1 for other maps.

        Args:
            tile: Size of the network's input along each of its spatial axes (leading ones are ignored).
        """
        axes = [axis - 2 - len(self.stride) for axis in self.sums_to_one] if self.spatial else []
        return 1.0 / math.prod(tile[axis] / self.stride[axis] / self.patches for axis in axes)

    @property
    def legend(self) -> str:
        """One line that says what the numbers mean."""
        if self.normalisation == "sigmoid":
            return f"sigmoid gate 0..1: {_MEANING[self.kind]}"
        if self.normalisation == "l2":
            return f"unit length inside its tile, either sign: {_MEANING[self.kind]}"
        unit = " in multiples of an even share" if self.sums_to_one and self.spatial else ""
        return f"softmax, normalised inside its tile{unit}: {_MEANING[self.kind]}"
