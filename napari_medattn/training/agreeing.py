"""Examples that do not contradict each other: of two labels for one voxel of a scan, the newer counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from napari_medattn.data import Example
from napari_medattn.store.scan_id import scan_id

Key = tuple[str, tuple[int, ...]]


def agreeing(examples: Sequence[Example]) -> tuple[list[Example], list[str]]:
    """Take weight from voxels that a newer example of the same scan labels otherwise.

    Args:
        examples: Oldest first.

    Returns:
        The examples in the same order, and a sentence for each that lost voxels.
    """
    notes, found = [], list(examples)
    newer: dict[Key, list[Example]] = {}
    for index in reversed(range(len(found))):
        example = found[index]
        key = scan_of(example)
        for other in newer.get(key, []):
            clash = example.counts() & other.counts() & (example.labels != other.labels)
            if clash.any():
                example = without(example, clash)
                notes.append(f"{int(clash.sum())} voxels of {example.volume.name} carry two labels: the newer counts.")
        found[index] = example
        newer.setdefault(key, []).append(example)
    return found, notes


def apart(examples: Sequence[Example], learned: Sequence[Example]) -> tuple[list[Example], list[str]]:
    """Take weight from voxels of held-out examples that are learned from.

    Returns:
        The examples that still have a voxel that counts, and a sentence for each that lost some.
    """
    notes, found = [], []
    for asked in examples:
        example, both = asked, np.zeros(asked.labels.shape, bool)
        for other in learned:
            if scan_of(other) == scan_of(example):
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
