"""Batch norm for a batch that holds patches of images, each of which is normalised on its own in training.

Networks that run their patches one after the other give every patch its own statistics and move the running
statistics once for each. This does the same for all patches at once.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class PatchBatchNorm(nn.BatchNorm2d):
    """`nn.BatchNorm2d` over (B * patches, C, Y, X), the patch index running fastest.

    Args:
        channels: C.
        patches: Patches per image; 1 is the ordinary batch norm.
    """

    def __init__(self, channels: int, patches: int = 1) -> None:
        super().__init__(channels)
        self.patches = patches

    def forward(self, x: Tensor) -> Tensor:
        """Normalise; the shape is kept."""
        if not self.training or self.patches == 1:
            return super().forward(x)
        count = self.patches * self.num_features
        # With momentum 1 the running statistics of the call are those of its batch.
        means, variances = self.weight.new_zeros(count), self.weight.new_ones(count)
        weight, bias = self.weight.repeat(self.patches), self.bias.repeat(self.patches)
        side_by_side = x.contiguous().view(-1, count, *x.shape[2:])
        out = F.batch_norm(side_by_side, means, variances, weight, bias, True, 1.0, self.eps)
        follow(self, means.view(self.patches, -1), variances.view(self.patches, -1))
        return out.view_as(x)


@torch.no_grad()
def follow(norm: nn.BatchNorm2d, means: Tensor, variances: Tensor) -> None:
    """Move the running statistics of a batch norm through those of several patches, in order.

    Args:
        norm: The batch norm.
        means: (patches, channels).
        variances: (patches, channels), unbiased.
    """
    assert norm.running_mean is not None and norm.running_var is not None and norm.num_batches_tracked is not None
    assert norm.momentum is not None
    count, keep = len(means), 1 - norm.momentum
    age = torch.arange(count - 1, -1, -1, dtype=means.dtype, device=means.device)
    # Summed by hand, because autocast would round a matrix product.
    share = (norm.momentum * keep**age)[:, None]
    norm.running_mean.mul_(keep**count).add_((share * means).sum(dim=0).to(norm.running_mean))
    norm.running_var.mul_(keep**count).add_((share * variances).sum(dim=0).to(norm.running_var))
    norm.num_batches_tracked += count
