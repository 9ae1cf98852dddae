"""Random patches from cases: where somebody vouches for voxels, and augmented like scans differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from napari_medattn.errors import TrainingError
from napari_medattn.training.examples import TrainingCase


@dataclass(frozen=True)
class Augmentation:
    """How strongly patches are varied.

    Attributes:
        flip_axes: Spatial axes, counted from the last (-1 is X), along which patches are mirrored half of the
            time. Mirror only where left and right of the anatomy look alike and carry the same label.
        rotate: Largest rotation about each axis, in degrees.
        scale: Largest relative change of size.
        intensity: Strength of brightness, contrast and noise changes, in standard deviations.
        chance: Chance that a patch is rotated and scaled.
        swap: Pairs of classes that are each other's mirror image, such as a left and a right kidney: patches are
            mirrored along X half of the time, with these labels exchanged.
    """

    flip_axes: tuple[int, ...] = ()
    rotate: float = 12.0
    scale: float = 0.12
    intensity: float = 0.15
    chance: float = 0.5
    swap: tuple[tuple[int, int], ...] = ()


class Batch(NamedTuple):
    """Patches.

    Attributes:
        images: (B, C, spatial) float32.
        labels: (B, spatial) int64.
        weights: (B, spatial) float32.
        unsure: (B,) bool: in which patches there are voxels of the image that nobody vouches for.
    """

    images: Tensor
    labels: Tensor
    weights: Tensor
    unsure: Tensor


class PatchSampler:
    """Draws batches of augmented patches.

    A patch follows from the seed and its number alone. So a run goes on where it was left once `drawn` is set, and
    several processes that know nothing of each other draw the parts of one batch.

    Attributes:
        cases: Those in which a voxel counts.
        drawn: How many patches were drawn so far, by all processes together.

    Args:
        cases: What to draw from; those in which no voxel counts are left out.
        size: Patch (Z, Y, X); (1, Y, X) for 2-D networks.
        spatial_dims: 2 drops the Z axis of the batches.
        augmentation: How patches are varied.
        seed: Every draw follows from it.

    Raises:
        TrainingError: If no voxel counts in any case.
    """

    def __init__(
        self,
        cases: Sequence[TrainingCase],
        size: tuple[int, int, int],
        spatial_dims: int,
        augmentation: Augmentation,
        seed: int,
    ) -> None:
        self.cases = [case for case in cases if case.weights.any()]
        if not self.cases:
            raise TrainingError(
                "There is no voxel to learn from.", "Correct a mask, confirm a slice, or give labelled cases."
            )
        self.size, self.spatial_dims = size, spatial_dims
        self.augmentation, self.seed, self.drawn = augmentation, seed, 0
        self._counted = [_counted_voxels(case.weights) for case in self.cases]
        self._vary = variation(augmentation, spatial_dims)
        self._order = (-1, np.zeros(0, np.int64))

    def batch(self, count: int, part: int = 0, parts: int = 1) -> Batch:
        """Draw patches.

        Args:
            count: Patches in the batch.
            part: Which part of it to give.
            parts: In how many parts of about equal size it is drawn.
        """
        patches = [self._patch(number) for number in range(self.drawn + part, self.drawn + count, parts)]
        self.drawn += count
        images, labels, weights, unsure = zip(*patches, strict=True)
        return Batch(
            torch.stack(images), torch.stack(labels)[:, 0].long(), torch.stack(weights)[:, 0], torch.tensor(unsure)
        )

    def _case_of(self, number: int) -> int:
        """Every case has its turn before any has its next."""
        turn, place = divmod(number, len(self.cases))
        if turn != self._order[0]:
            self._order = turn, np.random.default_rng((self.seed, 0, turn)).permutation(len(self.cases))
        return int(self._order[1][place])

    def _variation_of(self, index: int) -> tuple[Augmentation, Any]:
        """How patches of a case are varied, and the transform that does it."""
        return self.augmentation, self._vary

    def _patch(self, number: int) -> tuple[Tensor, Tensor, Tensor, bool]:
        random = np.random.default_rng((self.seed, 1, number))
        index = self._case_of(number)
        case, corner = self.cases[index], self._corner(index, random)
        arrays = (case.image, case.labels[None], case.weights[None])
        image, labels, weights = (
            torch.from_numpy(_crop(array, corner, self.size).astype(np.float32)) for array in arrays
        )
        unsure = bool((weights == 0).any())
        # Outside the image nobody vouches for anything, whatever the edge is continued with.
        weights *= torch.from_numpy(_inside(case.labels.shape, corner, self.size))
        if self.spatial_dims == 2:
            image, labels, weights = image[:, 0], labels[:, 0], weights[:, 0]
        how, vary = self._variation_of(index)
        if how.swap and random.random() < 0.5:
            image, labels, weights = image.flip(-1), _exchange(labels, how.swap).flip(-1), weights.flip(-1)
        from monai.utils import convert_to_tensor

        vary.set_random_state(int(random.integers(2**32)))
        varied = vary({"image": image, "marks": torch.cat([labels, weights])})
        # MONAI's tensors carry metadata through every later operation; from here on plain ones will do.
        image, marks = (convert_to_tensor(varied[key], track_meta=False) for key in ("image", "marks"))
        labels, weights = marks.split(1)
        return image, labels, weights, unsure

    def _corner(self, index: int, random: np.random.Generator) -> list[int]:
        shape, counted = self.cases[index].labels.shape, self._counted[index]
        if counted is None:
            return [int(random.integers(0, max(0, n - s) + 1)) for n, s in zip(shape, self.size, strict=True)]
        voxel = counted[random.integers(len(counted))]
        corner = []
        for at, n, s in zip(voxel, shape, self.size, strict=True):
            low, high = max(0, int(at) - s + 1), max(0, min(int(at), n - s))
            corner.append(int(random.integers(min(low, high), high + 1)))
        return corner


def _counted_voxels(
    weights: np.ndarray[Any, np.dtype[np.float32]],
) -> np.ndarray[Any, np.dtype[np.int64]] | None:
    """Indices of voxels with weight, or None if all have it and any corner will do."""
    if weights.all():
        return None
    return np.argwhere(weights > 0)


def _crop(array: np.ndarray[Any, Any], corner: list[int], size: tuple[int, ...]) -> np.ndarray[Any, Any]:
    box = array[(slice(None), *(slice(c, c + s) for c, s in zip(corner, size, strict=True)))]
    missing = [(0, s - have) for s, have in zip(size, box.shape[1:], strict=True)]
    return np.pad(box, [(0, 0), *missing], mode="edge")


def _inside(shape: tuple[int, ...], corner: list[int], size: tuple[int, ...]) -> np.ndarray[Any, Any]:
    inside = np.zeros((1, *size), np.float32)
    inside[0][tuple(slice(0, n - c) for n, c in zip(shape, corner, strict=True))] = 1
    return inside


def _exchange(labels: Tensor, pairs: Sequence[tuple[int, int]]) -> Tensor:
    exchanged = labels.clone()
    for one, other in pairs:
        exchanged[labels == one], exchanged[labels == other] = other, one
    return exchanged


def variation(how: Augmentation, spatial_dims: int) -> Any:
    """A MONAI pipeline over the keys image and marks: labels and weights, which are 0 where nothing is known."""
    from monai import transforms

    keys = ["image", "marks"]
    angle, strength = np.deg2rad(how.rotate), how.intensity
    # Axes that carry few voxels are not rotated out of the slice in 2-D: one angle only.
    angles = [angle] * (1 if spatial_dims == 2 else 3)
    steps: list[Any] = [transforms.RandFlipd(keys, prob=0.5, spatial_axis=axis) for axis in how.flip_axes]
    if how.chance and (how.rotate or how.scale):
        steps.append(
            transforms.RandAffined(
                keys,
                prob=how.chance,
                rotate_range=angles,
                scale_range=[how.scale] * spatial_dims,
                mode=["bilinear", "nearest"],
                padding_mode=["border", "zeros"],
            )
        )
    if strength:
        steps += [
            transforms.RandScaleIntensityd("image", factors=strength, prob=0.5),
            transforms.RandShiftIntensityd("image", offsets=strength, prob=0.5, safe=False),
            transforms.RandGaussianNoised("image", prob=0.3, std=strength / 2),
        ]
    return transforms.Compose(steps)
