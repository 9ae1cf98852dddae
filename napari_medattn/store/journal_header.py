"""`Header`: the first record of a journal: which scan and classes it is about, without names of people or files."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medattn.errors import JournalError
from napari_medattn.geometry import Grid

_VERSION = 1
_TELLING = ("checkpoint", "weights_sha256", "network", "trained_on", "precision", "created", "versions")


@dataclass(frozen=True)
class Header:
    """What a journal is about.

    Attributes:
        scan: Which scan, see `scan_id`.
        shape: The mask's shape, (Z, Y, X) or (Y, X).
        dtype: Type of its labels.
        affine: The scan's affine, row by row.
        class_names: Names of the labels from 0.
        made_by: What the mask's record tells of the network that made it first.
        created: Seconds since the epoch.
        version: Of the format.
    """

    scan: str
    shape: tuple[int, ...]
    dtype: str
    affine: tuple[float, ...]
    class_names: tuple[str, ...]
    made_by: Mapping[str, Any] = field(default_factory=dict)
    created: float = field(default_factory=time.time)
    version: int = _VERSION

    @classmethod
    def of(
        cls, scan: str, grid: Grid, labels: NDArray[np.integer], class_names: Sequence[str], record: Mapping[str, Any]
    ) -> Header:
        """The header for a mask that lies on a scan; of its record, what names the image is left out."""
        affine = tuple(float(value) for value in grid.affine.ravel())
        made_by = {key: record[key] for key in _TELLING if key in record}
        return cls(scan, labels.shape, labels.dtype.newbyteorder("<").str, affine, tuple(class_names), made_by)

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Header:
        """From what `to_plain` gives.

        Raises:
            JournalError: If it is of a later format.
        """
        if plain.get("version") != _VERSION:
            raise JournalError(
                f"The journal has the format {plain.get('version')}, this version reads {_VERSION}.",
                "Update napari-medattn to bring these edits back.",
            )
        lists = {key: tuple(plain[key]) for key in ("shape", "affine", "class_names")}
        return cls(**{**plain, **lists})

    def to_plain(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)

    def check(self, scan: str, grid: Grid) -> None:
        """Refuse a journal of another scan.

        Raises:
            JournalError: If the geometry or the voxels differ.
        """
        if grid.shape[-len(self.shape) :] != self.shape or not np.allclose(grid.affine.ravel(), self.affine, atol=1e-4):
            shape = " x ".join(str(size) for size in self.shape[::-1])
            raise JournalError(
                f"These edits belong to a scan of another geometry ({shape} voxels).",
                "Open the scan that they were made on.",
            )
        if scan != self.scan:
            raise JournalError(
                "These edits belong to another scan of the same geometry.", "Open the scan that they were made on."
            )


def classes_id(class_names: Sequence[str]) -> str:
    """8 hexadecimal digits that tell lists of classes apart."""
    return hashlib.blake2b("\n".join(class_names).encode(), digest_size=4).hexdigest()
