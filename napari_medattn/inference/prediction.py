"""What a run gives back: the mask, what led to it, and a record of how it was made."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medattn.data import Prepared, Volume
from napari_medattn.device import check_memory
from napari_medattn.errors import InputError
from napari_medattn.inference.placement import Placement
from napari_medattn.models import AttentionSite

Float = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class AttentionMap:
    """One site's attention over the whole volume, at the resolution at which the network has it.

    Attributes:
        site: The site that it comes from.
        values: (heads, Z, Y, X) float32 on the prepared grid, one position per ``site.stride`` voxels; for
            channel attention the mean matrix (heads, 1, C, C) of all tiles.
        prepared: Where the network saw the volume; its voxels need not be kept, they may be nan.
        tile: (Z, Y, X) of the tiles in voxels; softmax maps are normalised inside each of them.
    """

    site: AttentionSite
    values: Float
    prepared: Prepared
    tile: tuple[int, ...]

    @property
    def even_share(self) -> float:
        """What a softmax map would be everywhere if it did not prefer any position; 1 for other maps."""
        return self.site.even_share(self.tile)

    @property
    def placement(self) -> Placement:
        """Where the map lies on the image.

        Raises:
            InputError: For channel attention, which has no place on the image.
        """
        if not self.site.spatial:
            raise InputError(
                f"{self.site.title} is channel attention, which has no place on the image.",
                "Read its matrix from `values`.",
            )
        stride = (1,) * (3 - len(self.site.stride)) + self.site.stride
        padded = [n * step for n, step in zip(self.values.shape[1:], stride, strict=True)]
        return Placement(self.prepared, padded, stride)

    def on_image(self) -> Float:
        """The map (heads, Z, Y, X) interpolated linearly onto the source image's own grid.

        Sigmoid maps keep their values. Softmax maps are given in multiples of the even share, because the share
        itself depends on how many positions a tile has.

        Raises:
            InputError: For channel attention, which has no place on the image, and for a map too large for memory.
        """
        placement = self.placement
        whole = placement.everything
        check_memory(
            4 * len(self.values) * math.prod(placement.shape),
            f"The maps of {self.site.title} on the whole image",
            "Save them with save_maps, which draws slab by slab, or read `values` on the network's own grid.",
        )
        found = placement.draw(self.values[(slice(None), *placement.needed(whole))], whole)
        return found if self.even_share == 1 else found / np.float32(self.even_share)

    def limits(self, on_image: Float) -> tuple[float, float]:
        """Display limits for `on_image`, see `display_limits`."""
        return display_limits(self.site, on_image)


def display_limits(site: AttentionSite, values: Float) -> tuple[float, float]:
    """Limits to show a site's maps with: 0..1 for sigmoids, else up to nearly the highest value.

    Args:
        site: The site.
        values: Some of its maps, softmax ones in multiples of the even share; nan where unknown.
    """
    if site.normalisation == "sigmoid":
        return 0.0, 1.0
    some = values.ravel()[:: max(1, values.size // 1_000_000)]
    some = some[np.isfinite(some)]
    if site.normalisation == "l2":
        highest = float(np.percentile(np.abs(some), 99.8)) if some.size else 0.0
        return -(highest or 1.0), highest or 1.0
    highest = float(np.percentile(some, 99.8)) if some.size else 0.0
    return 0.0, max(2.0, highest) if site.sums_to_one else highest or 1.0


@dataclass(frozen=True, eq=False)
class Prediction:
    """The result of `segment`.

    Attributes:
        volume: The image that was segmented.
        labels: (Z, Y, X) class of each voxel on the image's grid.
        class_names: Names of the classes.
        probabilities: (K, Z, Y, X) float32 summing to one over K, if asked for.
        uncertainty: (Z, Y, X) float32 from 0 to 1, see `outputs.uncertain`, if asked for.
        sites: All attention sites of the network.
        attention: Maps of the sites that were asked for, by key.
        record: How the mask was made, as plain data.
        box: Slices (Z, Y, X) that were segmented; elsewhere the mask means nothing. None for all of the image.
    """

    volume: Volume
    labels: NDArray[np.uint8]
    class_names: tuple[str, ...]
    probabilities: Float | None = None
    uncertainty: Float | None = None
    sites: tuple[AttentionSite, ...] = ()
    attention: Mapping[str, AttentionMap] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)
    box: tuple[slice, slice, slice] | None = None
