"""The anisotropic Attention U-Net whose gates are all fed by the bottleneck.

Oktay et al., arXiv 1804.03999, in the form that the authors' code calls ``unet_grid_gating``: it pools and
convolves inside slices only, one gating signal from the bottleneck drives all gates, the gated skip goes
straight into the decoder, and there is no deep supervision. For stacks of thick slices.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from napari_medattn.errors import ModelError
from napari_medattn.models.checks import check_input
from napari_medattn.models.convolution import CONV, ConvBlock, ConvUnit, UpBlock, initialise
from napari_medattn.models.registry import register
from napari_medattn.models.site import AttentionSite
from napari_medattn.models.unet.attention_unet import RECIPE, SMALL, stage_widths
from napari_medattn.models.unet.grid_gate import Compatibility, GatedSkip, GridGate
from napari_medattn.models.unet.names import from_unet_names


@register(
    "grid_gating_unet",
    title="Attention U-Net, thick slices",
    paper="https://arxiv.org/abs/1804.03999",
    dims=(3, 2),
    from_authors=from_unet_names,
    recipe=RECIPE,
    variants=SMALL,
)
class GridGatingUNet(nn.Module):
    """Attention U-Net that works inside slices, gated by the bottleneck.

    Args:
        in_channels: Image channels C.
        num_classes: Classes K including background.
        spatial_dims: 2 or 3.
        feature_scale: Divides the widths 64..1024; 4 is the authors' 2.2 M parameters.
        slice_axis: Which of the three spatial axes runs through the slices: 0 for (Z, Y, X) arrays as
            everywhere here, 2 for the authors' own (X, Y, Z) order. Their weights load into either.
        compatibility: How a gate turns its score into a map, see `GridGate`.
        align_corners: Interpolation convention, see `attention_unet`.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        spatial_dims: int,
        feature_scale: int = 4,
        slice_axis: int = 0,
        compatibility: Compatibility = "concatenation",
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        if slice_axis not in (0, 2):
            raise ModelError(f"slice_axis {slice_axis} is not offered.", "Use 0 (Z, Y, X) or 2 (X, Y, Z).")
        dims, widths = spatial_dims, stage_widths(feature_scale)
        in_plane = [axis != slice_axis for axis in range(3)] if dims == 3 else [True, True]
        kernel = tuple(3 if plane else 1 for plane in in_plane)
        self.in_channels = in_channels
        self.slice_axis = slice_axis
        self.compatibility = compatibility
        self.pool_size = tuple(2 if plane else 1 for plane in in_plane)
        # The gates halve every axis, also the one the network leaves alone: it needs two slices.
        self.stride = tuple(16 if plane else 2 for plane in in_plane)

        channels = in_channels
        for stage, width in enumerate(widths[:4], start=1):
            self.add_module(f"encode{stage}", ConvBlock(dims, channels, width, kernel))
            channels = width
        self.bottleneck = ConvBlock(dims, channels, widths[4], kernel)
        self.gating_signal = ConvUnit(dims, widths[4], widths[3], kernel=1)
        for stage in (4, 3, 2, 1):
            width, deep = widths[stage - 1], widths[stage]
            if stage > 1:
                gate = GridGate(dims, width, widths[3], compatibility=compatibility, align_corners=align_corners)
                self.add_module(f"skip{stage}", GatedSkip([gate], combine=None))
            self.add_module(f"decode{stage}", UpBlock(dims, width, deep, kernel, align_corners))
        self.head = CONV[dims](widths[0], num_classes, 1)
        initialise(self)

    def sites(self) -> list[AttentionSite]:
        """The gates, deepest first, as a forward pass reaches them."""
        softmax = self.compatibility == "concatenation_residual"
        return [
            AttentionSite(
                key=f"skip{stage}.gate1",
                path=(f"decoder {stage}", "gate"),
                kind="gate",
                stride=tuple(pool ** (stage - 1) for pool in self.pool_size),
                normalisation="softmax" if softmax else "sigmoid",
            )
            for stage in (4, 3, 2)
        ]

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, [Z,] Y, X) -> logits (B, K, [Z,] Y, X); in-plane sides are multiples of 16, Z of 2."""
        check_input(x, self.in_channels, self.stride)
        pool = F.max_pool3d if len(self.stride) == 3 else F.max_pool2d
        skips = []
        for stage in (1, 2, 3, 4):
            x = self.get_submodule(f"encode{stage}")(x)
            skips.append(x)
            x = pool(x, self.pool_size)
        x = self.bottleneck(x)
        gating = self.gating_signal(x)
        for stage in (4, 3, 2, 1):
            skip = skips[stage - 1]
            if stage > 1:
                skip = self.get_submodule(f"skip{stage}")(skip, gating)
            x = self.get_submodule(f"decode{stage}")(skip, x)
        return self.head(x)  # type: ignore[no-any-return]
