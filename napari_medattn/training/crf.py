"""A loss for voxels without a label: neighbours that look alike should be of one class.

Gated CRF loss, Obukhov et al., arXiv 1906.04651, section 3. The relaxed energy of a conditional random field with Potts
compatibility, over pairs within a window::

    E = 1/N  sum_i  sum_{j in window of i}  k(i, j)  (1 - sum_l P_i(l) P_j(l))
    k(i, j) = exp(-|p_i - p_j|^2 / (2 position^2) - |I_i - I_j|^2 / (2 intensity^2)),  k(i, i) = 0

with class probabilities P, positions p in voxels and intensities I. Pairs across the patch's border are gated out.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from napari_medattn.models import GatedCRF

Window = tuple[slice, ...]


def gated_crf_loss(logits: Tensor, images: Tensor, how: GatedCRF) -> Tensor:
    """The energy per voxel.

    The energy is a quadratic form of the probabilities, so its gradient is known without keeping anything of the
    window: with the messages M_i = sum_j k(i, j) P_j from the neighbours, dE/dP_i = -2 M_i / N.

    Args:
        logits: (B, K, spatial).
        images: (B, C, spatial), what the network saw.
        how: Size of the window and of the kernel.
    """
    probabilities = logits.float().softmax(dim=1)
    with torch.no_grad():
        messages, total = _messages(probabilities, images.float(), how)
    agreement = (probabilities * messages).sum()
    # The value is total - agreement; as messages are held fixed here, agreement has half of the gradient.
    return (total - 2 * agreement + agreement.detach()) / (probabilities.numel() / probabilities.shape[1])


def _messages(probabilities: Tensor, images: Tensor, how: GatedCRF) -> tuple[Tensor, Tensor]:
    """(B, K, spatial) messages from all neighbours, and the sum of the kernel over all pairs."""
    messages, total = torch.zeros_like(probabilities), probabilities.new_zeros(())
    spatial = images.shape[2:]
    for shift in _half_window(how.radius, len(spatial)):
        if any(abs(step) >= side for step, side in zip(shift, spatial, strict=True)):
            continue
        here, there = _overlap(shift)
        distance = sum(step * step for step in shift) / how.position**2
        kernel = ((images[here] - images[there]) / how.intensity).square().sum(dim=1, keepdim=True)
        kernel = kernel.add_(distance).mul_(-0.5).exp_()
        messages[here].addcmul_(kernel, probabilities[there])
        messages[there].addcmul_(kernel, probabilities[here])
        total += 2 * kernel.sum()
    return messages, total


def _half_window(radius: int, dims: int) -> Iterator[tuple[int, ...]]:
    """One of every two opposite shifts of a window of ``2 radius + 1`` voxels a side, but not the middle."""
    shifts = list(itertools.product(range(-radius, radius + 1), repeat=dims))
    return iter(shifts[len(shifts) // 2 + 1 :])


def _overlap(shift: Sequence[int]) -> tuple[Window, Window]:
    """Where an array and itself shifted have voxels in common, as indices of either."""
    both = (slice(None), slice(None))
    here = tuple(slice(max(0, -step), -step if step > 0 else None) for step in shift)
    there = tuple(slice(max(0, step), step if step < 0 else None) for step in shift)
    return (*both, *here), (*both, *there)
