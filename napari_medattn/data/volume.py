"""`Volume`: an image with its place in the world."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medattn.errors import GeometryError
from napari_medattn.geometry import Grid

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Volume:
    """An image or label map.

    Attributes:
        array: (C, Z, Y, X), any real dtype; a 2-D image has Z = 1. Large images are mapped files, or dask arrays that
            are read where they are looked at.
        grid: Shape and place of (Z, Y, X).
        name: For people; usually the file's name without suffixes.
        spatial_dims: 3, or 2 for an image without a slice axis.
        path: The file it came from, if any.
        header: The format's own header, kept for writing masks back with the very same geometry.
        class_names: Names of the label values, where the file is a mask that carries them.
        notes: What the reader had to decide, one sentence each, to be shown to the user.
        modality: ``"CT"``, ``"MR"``, ... where the file says so.
    """

    array: Array
    grid: Grid
    name: str = "image"
    spatial_dims: int = 3
    path: Path | None = None
    header: Any = None
    class_names: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    modality: str = ""

    def __post_init__(self) -> None:
        if self.array.ndim != 4 or self.array.shape[1:] != self.grid.shape:
            raise GeometryError(
                f"{self.name} has an array of shape {self.array.shape} on a grid of {self.grid.shape}.",
                "Give (C, Z, Y, X), with Z = 1 for a 2-D image.",
            )
        if 0 in self.array.shape:
            raise GeometryError(f"{self.name} is empty: its shape is {self.array.shape}.", "Open another image.")

    @property
    def channels(self) -> int:
        """Number of channels C."""
        return int(self.array.shape[0])

    def labels(self) -> NDArray[np.int32]:
        """The single channel as integer labels (Z, Y, X).

        Raises:
            GeometryError: If there are several channels or values that are no whole numbers >= 0.
        """
        if self.channels != 1:
            raise GeometryError(
                f"{self.name} has {self.channels} channels and cannot be a label map.",
                "Choose a file with one whole number per voxel.",
            )
        values = np.asarray(self.array[0])
        readable = values.dtype.kind in "bui" or bool(np.isfinite(values).all())
        labels: NDArray[np.int32] = values.astype(np.int32) if readable else np.full(values.shape, -1, np.int32)
        if not readable or not np.array_equal(labels, values) or labels.min() < 0:
            raise GeometryError(
                f"{self.name} holds values that are no whole numbers from 0 up.",
                "Choose a label file, not an image.",
            )
        return labels

    def cropped(self, box: tuple[slice, slice, slice]) -> Volume:
        """A part of the volume in its own place; voxels that are not read yet stay so.

        Args:
            box: Voxels along (Z, Y, X), without steps.

        Raises:
            GeometryError: If nothing is left.
        """
        spans = [part.indices(size) for part, size in zip(box, self.grid.shape, strict=True)]
        array = self.array[(slice(None), *(slice(first, last) for first, last, _ in spans))]
        move = np.eye(4)
        move[:3, 3] = [first for first, _, _ in spans]
        z, y, x = array.shape[1:]
        return replace(self, array=array, grid=self.grid.regridded((z, y, x), move), header=None)

    def with_channels(self, channels: Sequence[int]) -> Volume:
        """The volume with some of its channels, in the order given, from 0; a view where they are evenly apart.

        Raises:
            GeometryError: If one is not there.
        """
        if not channels or min(channels) < 0 or max(channels) >= self.channels:
            asked = ", ".join(map(str, channels)) or "none"
            raise GeometryError(
                f"{self.name} has the channels 0 to {self.channels - 1}, not {asked}.", "Choose among those."
            )
        first, step = channels[0], (channels[1] - channels[0] if len(channels) > 1 else 1)
        even = step > 0 and list(channels) == list(range(first, channels[-1] + 1, step))
        return replace(self, array=self.array[slice(first, channels[-1] + 1, step) if even else list(channels)])

    def renamed(self, name: str) -> Volume:
        """The same volume under another name."""
        return replace(self, name=name)
