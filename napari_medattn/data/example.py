"""`Example`: an image, its labels and how much each voxel's label is worth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medattn.data.volume import Volume
from napari_medattn.errors import GeometryError


@dataclass(frozen=True, eq=False)
class Example:
    """What there is to learn from one case.

    Attributes:
        volume: The image.
        labels: (Z, Y, X) class of each voxel on the image's grid.
        weights: (Z, Y, X) >= 0: 1 where a person vouches for the label, 0 where nobody does; None: 1 everywhere.
        class_names: Names of the labels 0, 1, ...; empty if they are not known.
        modality: What the image was taken with, e.g. ``"MR"`` or ``"CT"``; empty if that is not known.
        provenance: Where labels and weights come from, as far as known:
            ``scan``: which scan, see `store.scan_id`;
            ``journal``: name of the journal with the edits;
            ``checkpoint`` and ``weights_sha256``: the network whose mask was corrected;
            ``painted`` and ``confirmed``: voxels that a person painted, and that a person confirmed;
            ``made``: when, UTC, ISO 8601.
    """

    volume: Volume
    labels: NDArray[np.integer]
    weights: NDArray[np.generic] | None = None
    class_names: tuple[str, ...] = ()
    modality: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for what, array in (("labels", self.labels), ("weights", self.weights)):
            if array is not None and array.shape != self.volume.grid.shape:
                raise GeometryError(
                    f"The {what} of {self.volume.name} have shape {array.shape}, the image {self.volume.grid.shape}.",
                    "Give arrays on the image's own grid.",
                )

    def counts(self) -> NDArray[np.bool_]:
        """(Z, Y, X): which voxels there is something to learn from."""
        return np.ones(self.labels.shape, bool) if self.weights is None else np.asarray(self.weights) > 0
