"""Examples that do not contradict each other: each voxel of a scan counts once, in the newest example that has it.

So no voxel that is held back from one example is learned from in another.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from napari_medattn.data import Example
from napari_medattn.store.scan_id import scan_id

Key = tuple[str, tuple[int, ...]]


def agreeing(examples: Sequence[Example]) -> tuple[list[Example], list[str]]:
    """Take weight from voxels that count in a newer example of the same scan.

    Args:
        examples: Oldest first.

    Returns:
        The examples in the same order, and a sentence for each that was contradicted.
    """
    notes, found = [], list(examples)
    newer: dict[Key, list[Example]] = {}
    for index in reversed(range(len(found))):
        example = found[index]
        key, counts = scan_of(example), example.counts()
        twice, otherwise = np.zeros(counts.shape, bool), np.zeros(counts.shape, bool)
        for other in newer.get(key, []):
            both = counts & other.counts()
            twice |= both
            otherwise |= both & (example.labels != other.labels)
        if otherwise.any():
            count, name = int(otherwise.sum()), example.volume.name
            notes.append(f"{count} voxels of {name} carry two labels: the newer counts.")
        found[index] = without(example, twice) if twice.any() else example
        newer.setdefault(key, []).append(found[index])
    return found, notes


def apart(examples: Sequence[Example], learned: Sequence[Example]) -> tuple[list[Example], list[str]]:
    """Take weight from voxels of held-out examples that are learned from.

    Returns:
        The examples that still have a voxel that counts, and a sentence for each that lost some.
    """
    notes, found = [], []
    known = [(scan_of(other), other) for other in learned] if examples else []
    for asked in examples:
        example, both = asked, np.zeros(asked.labels.shape, bool)
        key = scan_of(example)
        for scan, other in known:
            if scan == key:
                both |= example.counts() & other.counts()
        if both.any():
            example = without(example, both)
            notes.append(f"{int(both.sum())} held-out voxels of {example.volume.name} are learned from: not scored.")
        if example.counts().any():
            found.append(example)
    return found, notes


def scan_of(example: Example) -> Key:
    """Which scan an example is of: two examples of one scan have the same voxels and geometry."""
    told = example.provenance.get("scan")
    name = str(told) if told else scan_id(example.volume.array[0], example.volume.grid)
    return name, tuple(example.labels.shape)


def without(example: Example, voxels: NDArray[np.bool_]) -> Example:
    """The example with some voxels that no longer count."""
    weights = np.ones(example.labels.shape, np.float32) if example.weights is None else example.weights
    return replace(example, weights=np.where(voxels, np.zeros(1, weights.dtype), weights))
