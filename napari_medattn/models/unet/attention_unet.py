"""Attention U-Net, 2-D and 3-D, with the decoder feeding the gates and fused deep supervision.

Oktay et al., "Attention U-Net: Learning Where to Look for the Pancreas", arXiv 1804.03999. This is the
network that the authors' code calls ``unet_ct_single_att_dsv`` (one gate per skip),
``unet_ct_multi_att_dsv`` (two) and ``unet_ct_dsv`` (none). They publish no 2-D segmentation network;
the 2-D form here is the same network with 2-D layers.

Paper and code differ: the code adds a convolution with batch norm behind every gate, and its resizes were
trained where linear interpolation aligned corners, while the same code on a current torch does not.
`align_corners` chooses; weights trained with the authors' PyTorch 0.3 need True.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_medattn.errors import ModelError
from napari_medattn.models.checks import check_input
from napari_medattn.models.convolution import CONV, LINEAR, ConvBlock, ConvUnit, UpBlock, initialise
from napari_medattn.models.registry import register
from napari_medattn.models.site import AttentionSite
from napari_medattn.models.spec import Recipe, Variant
from napari_medattn.models.unet.grid_gate import Compatibility, GatedSkip, GridGate
from napari_medattn.models.unet.names import from_unet_names

WIDTHS = (64, 128, 256, 512, 1024)


def stage_widths(feature_scale: int) -> tuple[int, ...]:
    """Channels of the five stages for a ``feature_scale`` that divides 64."""
    if feature_scale < 1 or WIDTHS[0] % feature_scale:
        raise ModelError(f"feature_scale {feature_scale} does not divide 64.", "Use 1, 2, 4, 8, 16 or 32.")
    return tuple(width // feature_scale for width in WIDTHS)


class DeepHead(nn.Module):
    """Class logits of one decoder stage, resized by ``scale`` to the input's size."""

    def __init__(self, dims: int, channels: int, num_classes: int, scale: int, align_corners: bool) -> None:
        super().__init__()
        self.conv = CONV[dims](channels, num_classes, 1)
        self.dims, self.scale, self.align_corners = dims, scale, align_corners

    def forward(self, x: Tensor) -> Tensor:
        """(B, channels, spatial) -> (B, K, spatial * scale)."""
        logits: Tensor = self.conv(x)
        if self.scale == 1:
            return logits
        return F.interpolate(logits, scale_factor=self.scale, mode=LINEAR[self.dims], align_corners=self.align_corners)


# The authors' configuration of the CT network; their option object never selects Adam.
RECIPE = Recipe(
    optimiser="sgd",
    learning_rate=1e-4,
    weight_decay=1e-6,
    batch_size=2,
    epochs=1000,
    cross_entropy_weight=0.0,
    dice_form="per_image",
    warm_up=0.0,
    decay_power=0.0,
    halve_every=250,
)
SMALL = {"small": Variant(options={"feature_scale": 8})}


@register(
    "attention_unet",
    title="Attention U-Net",
    paper="https://arxiv.org/abs/1804.03999",
    dims=(3, 2),
    from_authors=from_unet_names,
    recipe=RECIPE,
    variants=SMALL,
)
class AttentionUNet(nn.Module):
    """Attention U-Net: sigmoid gates on skips 2, 3 and 4, each fed by the decoder stage below.

    Args:
        in_channels: Image channels C.
        num_classes: Classes K including background.
        spatial_dims: 2 or 3.
        feature_scale: Divides the widths 64..1024; 4 is the authors' 6.2 M parameters.
        gates_per_skip: 1 ("single"), 2 ("multi") or 0 (the ungated baseline).
        compatibility: How a gate turns its score into a map, see `GridGate`.
        align_corners: Interpolation convention, see the module.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        spatial_dims: int,
        feature_scale: int = 4,
        gates_per_skip: int = 1,
        compatibility: Compatibility = "concatenation",
        align_corners: bool = False,
    ) -> None:
        super().__init__()
        if gates_per_skip not in (0, 1, 2):
            raise ModelError(f"gates_per_skip {gates_per_skip} does not exist.", "Use 0, 1 or 2.")
        dims, widths = spatial_dims, stage_widths(feature_scale)
        self.in_channels = in_channels
        self.gates_per_skip = gates_per_skip
        self.compatibility = compatibility
        self.stride = (16,) * dims

        channels = in_channels
        for stage, width in enumerate(widths[:4], start=1):
            self.add_module(f"encode{stage}", ConvBlock(dims, channels, width))
            channels = width
        self.bottleneck = ConvBlock(dims, channels, widths[4])
        if gates_per_skip:
            self.gating_signal = ConvUnit(dims, widths[4], widths[4], kernel=1)

        for stage in (4, 3, 2, 1):
            width, deep = widths[stage - 1], widths[stage]
            if gates_per_skip and stage > 1:
                gates = [
                    GridGate(dims, width, deep, compatibility=compatibility, align_corners=align_corners)
                    for _ in range(gates_per_skip)
                ]
                combine = ConvUnit(dims, width * gates_per_skip, width, kernel=1)
                self.add_module(f"skip{stage}", GatedSkip(gates, combine))
            self.add_module(f"decode{stage}", UpBlock(dims, width, deep, align_corners=align_corners))
            self.add_module(f"head{stage}", DeepHead(dims, width, num_classes, 2 ** (stage - 1), align_corners))
        self.fuse: Any = CONV[dims](4 * num_classes, num_classes, 1)
        initialise(self)

    @torch.no_grad()
    def folded(self) -> AttentionUNet:
        """The fusion moves into the heads, in front of their resizing: both are linear, so what is left is a sum."""
        heads: list[Any] = [self.get_submodule(f"head{stage}").conv for stage in (1, 2, 3, 4)]
        for conv, share in zip(heads, self.fuse.weight.flatten(1).chunk(4, dim=1), strict=True):
            conv.weight.copy_((share @ conv.weight.flatten(1)).view_as(conv.weight))
            conv.bias.copy_(share @ conv.bias)
        heads[0].bias += self.fuse.bias
        self.fuse = None
        return self

    def sites(self) -> list[AttentionSite]:
        """The gates, deepest first, as a forward pass reaches them."""
        softmax = self.compatibility == "concatenation_residual"
        several = self.gates_per_skip > 1
        return [
            AttentionSite(
                key=f"skip{stage}.gate{number}",
                path=(f"decoder {stage}", f"gate {number}" if several else "gate"),
                kind="gate",
                stride=(2 ** (stage - 1),) * len(self.stride),
                normalisation="softmax" if softmax else "sigmoid",
            )
            for stage in (4, 3, 2)
            for number in range(1, self.gates_per_skip + 1)
        ]

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, [Z,] Y, X) with sides that are multiples of 16 -> logits (B, K, [Z,] Y, X)."""
        check_input(x, self.in_channels, self.stride)
        pool = F.max_pool3d if len(self.stride) == 3 else F.max_pool2d
        skips = []
        for stage in (1, 2, 3, 4):
            x = self.get_submodule(f"encode{stage}")(x)
            skips.append(x)
            x = pool(x, 2)
        x = self.bottleneck(x)

        gating = self.gating_signal(x) if self.gates_per_skip else x
        logits = []
        for stage in (4, 3, 2, 1):
            skip = skips.pop()
            if self.gates_per_skip and stage > 1:
                skip = self.get_submodule(f"skip{stage}")(skip, gating)
            # The first gate sees the bottleneck's gating signal, the decoder itself goes on from the bottleneck.
            decode: Any = self.get_submodule(f"decode{stage}")
            # In pieces and under one name, so that neither part of what is joined is held while it is convolved.
            x = skip = gating = decode.joined(skip, x)
            x = skip = gating = decode.block(x)
            logits.append(self.get_submodule(f"head{stage}")(x))
        if self.fuse is None:
            return sum(logits[1:], logits[0])  # type: ignore[no-any-return]
        return self.fuse(torch.cat(logits[::-1], dim=1))  # type: ignore[no-any-return]
