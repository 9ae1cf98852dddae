"""`PlacedMap`: a site's map with its place on the image, ready to be saved or drawn, wherever it came from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from napari_medattn.data import Prepared, Volume
from napari_medattn.errors import InputError
from napari_medattn.geometry import Grid, Triple
from napari_medattn.inference import Prediction
from napari_medattn.inference.placement import Box, Placement
from napari_medattn.look.part_of_map import draw_part
from napari_medattn.models import AttentionSite

Float = NDArray[np.float32]
Heads = int | Literal["mean", "all"]
Shape = tuple[int, int, int]
SLAB = 1 << 24  # bytes of a slab that is drawn at once


@dataclass(frozen=True)
class Asked:
    """The question that a map answers, where it is about one voxel.

    Attributes:
        voxel: (Z, Y, X) in the source image.
        world: Its (x, y, z) in mm.
        position: Its place on the site's grid, in its tile.
        direction: ``"to"``: what it attends to; ``"from"``: who attends to it; ``"through"``: what it reaches through
            rows and columns composed, an approximation.
    """

    voxel: Shape
    world: Triple
    position: tuple[int, ...]
    direction: str


@dataclass(frozen=True, eq=False)
class PlacedMap:
    """Some or all of a site's map.

    Attributes:
        site: The site.
        heads: Which heads the values are of: one, the mean of all, or all.
        values: (n, Z, Y, X) at the site's stride; for channel attention (n, 1, C, C).
        prepared: The scan as the network saw it.
        tile: (Z, Y, X) voxels of a tile.
        padded: (Z, Y, X) voxels of the whole scan as the network saw it, with its padding.
        even_share: What the network's own values would be everywhere if no position were preferred; 1 where there is
            no such thing.
        in_shares: Whether ``values`` are in multiples of the even share already.
        begin: Where in the whole map the values begin, in map positions (Z, Y, X); outside of them nothing is known.
        asked: The question, if the map answers one; None for an overview.
        record: How it was made, as plain data.
    """

    site: AttentionSite
    heads: Heads
    values: Float
    prepared: Prepared
    tile: tuple[int, ...]
    padded: Shape
    even_share: float = 1.0
    in_shares: bool = False
    begin: Shape = (0, 0, 0)
    asked: Asked | None = None
    record: Mapping[str, Any] = field(default_factory=dict)

    @property
    def source(self) -> Volume:
        """The image that it lies on."""
        return self.prepared.source

    @property
    def title(self) -> str:
        """The site and which of its heads, for people."""
        several = self.site.heads > 1
        head = f", head {self.heads + 1}" if isinstance(self.heads, int) else ", mean of heads"
        return self.site.title + (head if several and self.heads != "all" else "")

    @property
    def stride(self) -> Shape:
        """Prepared voxels per map position along (Z, Y, X)."""
        z, y, x = (1,) * (3 - len(self.site.stride)) + self.site.stride
        return z, y, x

    @cached_property
    def placement(self) -> Placement:
        """Where the whole map lies on the image.

        Raises:
            InputError: For channel attention.
        """
        if not self.site.spatial:
            raise InputError(
                f"{self.site.title} is channel attention, which has no place on the image.",
                "Save its matrix, or choose another site.",
            )
        return Placement(self.prepared, self.padded, self.stride)

    @property
    def partial(self) -> bool:
        """Whether it covers less than the whole scan."""
        whole = tuple(size // step for size, step in zip(self.padded, self.stride, strict=True))
        return self.values.shape[1:] != whole

    def one(self, head: int) -> PlacedMap:
        """The map of one of the heads that it has, by its place among them."""
        which = head if self.heads == "all" else self.heads
        return replace(self, heads=which, values=self.values[head : head + 1])

    def draw(self, box: Box) -> Float:
        """The map on a box of the image, softmax ones in multiples of the even share.

        Args:
            box: Slices (Z, Y, X) of the source image.

        Returns:
            (n, *box) float32; nan where the map is not known.
        """
        single = self.values.shape[1] == 1 < self.padded[0] and self.stride[0] == 1  # what a 2-D network answers
        slice_of = self.prepared if single else None
        return self._counted(draw_part(self.placement, self.values, self.begin, box, slice_of))

    def slabs(self) -> Iterator[Float]:
        """The map on the image as slabs (z, Y, X) of bounded size: all of the first head, then the next."""
        z, y, x = self.source.grid.shape
        thick = max(1, SLAB // (4 * y * x))
        for head in range(len(self.values)):
            one = self.one(head)
            for first in range(0, z, thick):
                yield one.draw((slice(first, min(first + thick, z)), slice(0, y), slice(0, x)))[0]

    @cached_property
    def network_grid(self) -> Grid:
        """The grid that the values lie on, in the world: the network's own, without the padding."""
        to_voxel, shape = np.zeros((4, 4)), []
        to_voxel[3, 3] = 1
        for axis, (step, begin, size) in enumerate(zip(self.stride, self.begin, self.values.shape[1:], strict=True)):
            inside, turned = self.prepared.array.shape[1 + axis], self.prepared.turned_shape[axis]
            scale = turned / inside
            first = (begin * step + step / 2) * scale - 0.5
            source, flipped = self.prepared.turn.order[axis], self.prepared.turn.flips[axis]
            to_voxel[source, axis] = -step * scale if flipped else step * scale
            to_voxel[source, 3] = turned - 1 - first if flipped else first
            shape.append(min(size, -(-inside // step) - begin))
        return self.source.grid.regridded((shape[0], shape[1], shape[2]), to_voxel)

    def on_network_grid(self) -> Float:
        """The values (n, Z, Y, X) on `network_grid`, softmax ones in multiples of the even share."""
        z, y, x = self.network_grid.shape
        return self._counted(self.values[:, :z, :y, :x])

    def _counted(self, values: Float) -> Float:
        """Values in multiples of the even share."""
        return values if self.in_shares or self.even_share == 1 else values / np.float32(self.even_share)


def choose_heads(values: Float, site: AttentionSite, heads: Heads, axis: int = 0) -> Float:
    """One head, the mean of all or all, the axis staying.

    Raises:
        InputError: If the site has no such head.
    """
    if heads == "all":
        return values
    if heads == "mean":
        return values.mean(axis=axis, keepdims=True) if site.heads > 1 else values
    if not 0 <= heads < site.heads:
        raise InputError(
            f"{site.title} has no head {heads + 1}.",
            f"It has {site.heads}: choose 1 to {site.heads}, or mean or all." if site.heads > 1 else "It has only one.",
        )
    return values.take([heads], axis=axis)


def placed(prediction: Prediction, sites: Iterable[str] | None = None, heads: Heads = "mean") -> list[PlacedMap]:
    """The maps of a prediction, ready to be saved or drawn.

    Args:
        prediction: Made with ``segment(..., attention=...)``.
        sites: Keys of the sites; all maps that it has if None.
        heads: Which head, counted from 0, the mean, or all.

    Raises:
        InputError: If it has no such map, or the site no such head.
    """
    keys = list(prediction.attention) if sites is None else list(sites)
    missing = [key for key in keys if key not in prediction.attention]
    if missing:
        raise InputError(
            f"The prediction has no map of {', '.join(missing)}.", "Ask for it with segment(..., attention=[...])."
        )
    made = []
    for found in (prediction.attention[key] for key in keys):
        stride: Sequence[int] = (1,) * (3 - len(found.site.stride)) + found.site.stride
        z, y, x = (n * step for n, step in zip(found.values.shape[1:], stride, strict=True))
        chosen = choose_heads(found.values, found.site, heads)
        made.append(
            PlacedMap(
                found.site,
                heads,
                chosen,
                found.prepared,
                found.tile,
                (z, y, x),
                found.even_share,
                record=prediction.record,
            )
        )
    return made
