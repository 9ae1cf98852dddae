"""What a run gives back: the mask, what led to it, and a record of how it was made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medattn.data import Prepared, Volume
from napari_medattn.data.prepare import resample
from napari_medattn.models import AttentionSite

Float = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class AttentionMap:
    """One site's attention over the whole volume, at the resolution at which the network has it.

    Attributes:
        site: The site that it comes from.
        values: (heads, Z, Y, X) float32 on the prepared grid, one position per ``site.stride`` voxels.
        prepared: The volume that the network saw.
    """

    site: AttentionSite
    values: Float
    prepared: Prepared

    def on_image(self) -> Float:
        """The map (heads, Z, Y, X) interpolated linearly onto the source image's own grid."""
        shape = self.prepared.array.shape[1:]
        stride = (1,) * (3 - len(self.site.stride)) + self.site.stride
        covered = tuple(n * step for n, step in zip(self.values.shape[1:], stride, strict=True))
        fine = resample(self.values, (covered[0], covered[1], covered[2]))
        return self.prepared.restore(fine[:, : shape[0], : shape[1], : shape[2]])


@dataclass(frozen=True, eq=False)
class Prediction:
    """The result of `segment`.

    Attributes:
        volume: The image that was segmented.
        labels: (Z, Y, X) class of each voxel on the image's grid.
        class_names: Names of the classes.
        probabilities: (K, Z, Y, X) float32 summing to one over K, if asked for.
        uncertainty: (Z, Y, X) float32, entropy of the probabilities divided by log K, if asked for.
        attention: Maps of the sites that were asked for, by key.
        record: How the mask was made, as plain data.
    """

    volume: Volume
    labels: NDArray[np.uint8]
    class_names: tuple[str, ...]
    probabilities: Float | None = None
    uncertainty: Float | None = None
    attention: Mapping[str, AttentionMap] = field(default_factory=dict)
    record: Mapping[str, Any] = field(default_factory=dict)
