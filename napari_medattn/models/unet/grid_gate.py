"""The attention gate of Attention U-Net: a coarse gating signal decides what a skip lets through.

Oktay et al., "Attention U-Net", arXiv 1804.03999, section 2.2 and equations 1-2. Facts that only the
authors' code tells: the compatibility score is computed on the sub-sampled grid and resized to the
skip, and the gated skip passes one more 1x1 convolution with batch norm (called `transform` here).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_medattn.errors import ModelError
from napari_medattn.models.convolution import BATCH_NORM, CONV, ConvUnit, resize
from napari_medattn.models.tap import Tap

Compatibility = Literal["concatenation", "concatenation_debug", "concatenation_residual"]


class GridGate(nn.Module):
    """Additive attention gate on a grid.

    Args:
        dims: Spatial axes, 2 or 3.
        channels: Channels of the skip.
        gating_channels: Channels of the gating signal.
        inter_channels: Channels in which the two are compared; ``channels`` if None.
        subsample: Stride of the comparison grid along each axis.
        compatibility: ``"concatenation"`` (ReLU, then sigmoid), ``"concatenation_debug"`` (softplus,
            then sigmoid) or ``"concatenation_residual"`` (ReLU, then softmax over all positions of the
            comparison grid; sums to one there, and to more once resized to the skip's grid).
        align_corners: Interpolation convention of the resizes.
    """

    def __init__(
        self,
        dims: int,
        channels: int,
        gating_channels: int,
        *,
        inter_channels: int | None = None,
        subsample: tuple[int, ...] | None = None,
        compatibility: Compatibility = "concatenation",
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        if compatibility not in get_args(Compatibility):
            raise ModelError(
                f"There is no gate with compatibility {compatibility!r}.",
                f"Use one of {', '.join(get_args(Compatibility))}.",
            )
        conv, inter = CONV[dims], inter_channels or channels
        stride = subsample or (2,) * dims
        self.compatibility = compatibility
        self.align_corners = align_corners
        self.theta = conv(channels, inter, stride, stride=stride, bias=False)
        self.phi = conv(gating_channels, inter, 1)
        self.psi = conv(inter, 1, 1)
        self.transform = nn.Sequential(OrderedDict(conv=conv(channels, channels, 1), norm=BATCH_NORM[dims](channels)))
        self.tap = Tap()

    def forward(self, skip: Tensor, gating: Tensor) -> Tensor:
        """Gate a skip (B, channels, spatial) with (B, gating_channels, coarser spatial); same shape back.

        The tap emits ``gate`` (B, 1, spatial of the skip): the factor each position was multiplied with. Switched
        off, the gate treats all positions alike: one everywhere, or the even share of a softmax.
        """
        theta = self.theta(skip)
        score = theta + resize(self.phi(gating), tuple(theta.shape[2:]), self.align_corners)
        score = F.softplus(score) if self.compatibility == "concatenation_debug" else F.relu(score)
        gate = self._normalise(self.psi(score))
        gate = resize(gate, tuple(skip.shape[2:]), self.align_corners)
        if self.tap.listened:
            self.tap.emit(gate=gate)
        return self.transform(gate * skip)  # type: ignore[no-any-return]

    def _normalise(self, psi: Tensor) -> Tensor:
        softmax = self.compatibility == "concatenation_residual"
        if self.tap.off:
            return torch.full_like(psi, 1 / psi[0].numel() if softmax else 1)
        return psi.flatten(2).softmax(dim=-1).view_as(psi) if softmax else torch.sigmoid(psi)


class GatedSkip(nn.Module):
    """One or more gates on a skip; with ``combine``, their outputs are merged by a 1x1 `ConvUnit`.

    The gates are children called ``gate1``, ``gate2``, ...
    """

    def __init__(self, gates: list[GridGate], combine: ConvUnit | None) -> None:
        super().__init__()
        self.count = len(gates)
        for number, gate in enumerate(gates, start=1):
            self.add_module(f"gate{number}", gate)
        self.combine = combine

    def forward(self, skip: Tensor, gating: Tensor) -> Tensor:
        """Gate ``skip`` with ``gating``; the skip's shape is kept."""
        gated = [self.get_submodule(f"gate{n}")(skip, gating) for n in range(1, self.count + 1)]
        if self.combine is None:
            return gated[0]  # type: ignore[no-any-return]
        return self.combine(torch.cat(gated, dim=1))  # type: ignore[no-any-return]
