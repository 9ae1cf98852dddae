"""Batches in which earlier examples have a share, so that they are not forgotten."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from napari_medattn.training.examples import TrainingCase
from napari_medattn.training.patches import Augmentation, PatchSampler, variation


class RehearsalSampler(PatchSampler):
    """A `PatchSampler` that draws a fixed share of its patches from earlier cases, evenly spread over the run.

    Args:
        cases: What is new.
        earlier: What was learned before.
        share: Share of patches from ``earlier``, 0..1; 0 where there is nothing earlier.
        size: See `PatchSampler`.
        spatial_dims: See `PatchSampler`.
        augmentation: How new patches are varied, see `PatchSampler`.
        earlier_augmentation: How earlier ones are.
        seed: See `PatchSampler`.
    """

    def __init__(
        self,
        cases: Sequence[TrainingCase],
        earlier: Sequence[TrainingCase],
        share: float,
        size: tuple[int, int, int],
        spatial_dims: int,
        augmentation: Augmentation,
        earlier_augmentation: Augmentation,
        seed: int,
    ) -> None:
        new, old = ([case for case in group if case.weights.any()] for group in (cases, earlier))
        super().__init__([*new, *old], size, spatial_dims, augmentation, seed)
        self._sizes = (len(new), len(old))
        self.share = (share if new else 1.0) if old else 0.0
        self._earlier = earlier_augmentation, variation(earlier_augmentation, spatial_dims)
        self._turns: dict[tuple[int, int], list[int]] = {}

    def _case_of(self, number: int) -> int:
        """Every case of a group has its turn before any of it has its next."""
        before, after = (math.floor(n * self.share + 1e-9) for n in (number, number + 1))
        group = int(after > before)
        turn, place = divmod(before if group else number - before, self._sizes[group])
        if (group, turn) not in self._turns:
            random = np.random.default_rng((self.seed, 2, group, turn))
            self._turns[group, turn] = (random.permutation(self._sizes[group]) + group * self._sizes[0]).tolist()
        return self._turns[group, turn][place]

    def _variation_of(self, index: int) -> tuple[Augmentation, Any]:
        return super()._variation_of(index) if index < self._sizes[0] else self._earlier
