"""`Entry`: what is known of a stored example without reading its voxels; and the hashes that name it and its image."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medattn.data import Example, Volume
from napari_medattn.errors import InputError
from napari_medattn.store.array_file import Arrays, chunks
from napari_medattn.store.scan_id import scan_id

_TOLD = ("scan", "journal", "checkpoint", "weights_sha256", "painted", "confirmed", "made")  # see `Example.provenance`
_HASH = re.compile("[0-9a-f]{64}")
_SHOWN = 8  # digits of a hash that people see


@dataclass(frozen=True)
class Entry:
    """One example in the store.

    Attributes:
        name: SHA-256 of its content: image, geometry, labels, weights, class names, modality.
        case: SHA-256 of its image and geometry; examples of one scan have the same.
        date: When it was added last, UTC, ISO 8601 with microseconds.
        class_names: Names of the labels 0, 1, ...
        counts: Voxels of each class that there is something to learn from.
        slices: Slices along Z that have such voxels.
        shape: (Z, Y, X).
        spacing: (Z, Y, X) in the image's units, usually mm.
        channels: Of the image.
        spatial_dims: 2 or 3.
        modality: Empty if it is not known.
        provenance: See `Example.provenance`.
        hidden: Whether a person left it out.
        path: Its file.
    """

    name: str
    case: str
    date: str = field(compare=False)
    class_names: tuple[str, ...]
    counts: tuple[int, ...]
    slices: int
    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    channels: int
    spatial_dims: int
    modality: str = ""
    provenance: Mapping[str, Any] = field(default_factory=dict, compare=False)
    hidden: bool = field(default=False, compare=False)
    path: Path = field(default=Path(), compare=False)

    @property
    def counted(self) -> int:
        """Voxels that there is something to learn from."""
        return sum(self.counts)

    @property
    def scan(self) -> str:
        """Which scan, see `scan_id`: the name that journals know it by."""
        return str(self.provenance.get("scan", ""))

    @property
    def title(self) -> str:
        """A short name for people that tells scans apart."""
        return case_title(self.case)

    @property
    def scheme(self) -> tuple[str, tuple[str, ...]]:
        """Scan and classes: of entries that share both, the newest counts."""
        return self.case, self.class_names


def case_title(case: str) -> str:
    """What a scan is called that has no name of its own, as names of files may be names of people."""
    return f"case {case[:_SHOWN]}"


def image_card(volume: Volume) -> dict[str, Any]:
    """What is kept of an image beside its voxels: no name, path or header of its file."""
    return {
        "kind": "image",
        "affine": [float(value) for value in volume.grid.affine.ravel()],
        "oriented": volume.grid.oriented,
        "units": volume.grid.units,
        "spatial_dims": volume.spatial_dims,
    }


def image_hash(card: Mapping[str, Any], array: NDArray[Any]) -> str:
    """The name of an image: SHA-256 over geometry, type and voxels."""
    affine = [round(value, 5) + 0.0 for value in card["affine"]]  # no -0.0
    return _digest([affine, card["units"], card["spatial_dims"]], {"image": array})


def example_card(example: Example, case: str, arrays: Arrays, date: str) -> dict[str, Any]:
    """The card of an example."""
    labels, counts = arrays["labels"], example.counts()
    volume = example.volume
    told = {key: _plain(example.provenance[key]) for key in _TOLD if key in example.provenance}
    if "journal" in told:
        told["journal"] = PurePath(str(told["journal"])).name
    told.setdefault("scan", scan_id(_as_shown(volume), volume.grid))
    return {
        "kind": "example",
        "case": case,
        "date": date,
        "class_names": list(example.class_names),
        "counts": np.bincount(labels[counts], minlength=len(example.class_names)).tolist(),
        "slices": int(counts.any(axis=(1, 2)).sum()),
        "shape": list(volume.grid.shape),
        "spacing": list(volume.grid.spacing),
        "channels": volume.channels,
        "spatial_dims": volume.spatial_dims,
        "modality": example.modality,
        "provenance": told,
    }


def example_hash(card: Mapping[str, Any], arrays: Arrays) -> str:
    """The name of an example: SHA-256 over its image's name, labels, weights, class names and modality."""
    return _digest([card["case"], card["class_names"], card["modality"]], arrays)


def entry_of(card: Mapping[str, Any], path: Path) -> Entry:
    """The entry that a card tells of.

    Raises:
        KeyError: If the card is not that of an example; likewise TypeError and ValueError.
    """
    z, y, x = (int(size) for size in card["shape"])
    dz, dy, dx = (float(step) for step in card["spacing"])
    if not _HASH.fullmatch(card["case"]):
        raise ValueError("it names no image")
    return Entry(
        name=path.stem,
        case=card["case"],
        date=str(card["date"]),
        class_names=tuple(str(name) for name in card["class_names"]),
        counts=tuple(int(count) for count in card["counts"]),
        slices=int(card["slices"]),
        shape=(z, y, x),
        spacing=(dz, dy, dx),
        channels=int(card["channels"]),
        spatial_dims=int(card["spatial_dims"]),
        modality=str(card["modality"]),
        provenance=dict(card["provenance"]),
        path=path,
    )


def arrays_of(example: Example) -> dict[str, NDArray[Any]]:
    """Labels and weights in the smallest types that hold them; no weights where every voxel counts fully.

    Raises:
        InputError: If there are no class names, a weight is no number from 0 up, nothing counts, or what counts is
            not of the example's classes.
    """
    labels, weights = np.asarray(example.labels), example.weights
    _check(example, labels)
    arrays: dict[str, NDArray[Any]] = {"labels": labels.astype(_smallest(labels), copy=False)}
    if weights is not None and not (weights == 1).all():
        yes_or_no = bool(((weights == 0) | (weights == 1)).all())
        arrays["weights"] = weights.astype(bool, copy=False) if yes_or_no else weights
    return arrays


def _check(example: Example, labels: NDArray[Any]) -> None:
    weights: NDArray[Any] | None = example.weights
    name, classes = example.volume.name, len(example.class_names)
    if not classes:
        raise InputError(f"The labels of {name} have no class names.", "Name the classes 0, 1, ...")
    if weights is not None and not ((weights >= 0) & np.isfinite(weights)).all():
        raise InputError(f"{name} has weights that are no numbers from 0 up.", "Give each voxel 0 to 1.")
    counted = labels[example.counts()]
    if not counted.size:
        raise InputError(f"There is no voxel to learn from in {name}.", "Correct the mask or confirm a slice first.")
    wrong = [int(value) for value in (counted.min(), counted.max()) if not 0 <= value < classes]
    if wrong:
        raise InputError(
            f"{name} has the label {wrong[0]}, its classes are 0 to {classes - 1}.", "Name all classes, or relabel it."
        )


def _smallest(labels: NDArray[np.integer]) -> np.dtype[Any]:
    low, high = int(labels.min()), int(labels.max())
    return np.result_type(np.min_scalar_type(low), np.min_scalar_type(high))


def _digest(told: Sequence[Any], arrays: Arrays) -> str:
    digest = hashlib.sha256(repr(told).encode())
    for name in sorted(arrays):
        array = arrays[name]
        digest.update(f"{name} {array.dtype.newbyteorder('<').str} {array.shape}".encode())
        for part in chunks(array):
            digest.update(part.data if part.size else b"")
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _as_shown(volume: Volume) -> NDArray[Any]:
    """The image as a layer shows it, which is what `scan_id` names."""
    array = volume.array if volume.spatial_dims == 3 else volume.array[:, 0]
    if volume.channels == 1:
        return np.asarray(array[0])
    rgb = volume.channels in (3, 4) and array.dtype == np.uint8
    shown: NDArray[Any] = np.moveaxis(array, 0, -1) if rgb else array
    return shown
