"""EMF-former, 2-D and 3-D: a RECONSTRUCTION, because its authors published no code.

Hao, Quan, Lu: "EMF-Former: An Efficient and Memory-Friendly Transformer for Medical Image Segmentation", MICCAI 2024,
https://doi.org/10.1007/978-3-031-72111-3_22. What is built here follows the abstract and summaries of the paper: a
U-shape whose fine stages (1/2 and 1/4 of the size) are DSPConvs (`dsp_conv`) and whose coarse stages (1/8 and 1/16) are
transformer blocks with serial heads (`serial_heads`) of vector aggregation attention (`vector_attention`). Everything
else is inferred, and what could reasonably be otherwise is an option. No figure of the paper can be claimed for it.

There is no map of what one position attends to: each head gathers one global vector, and the weights with which
it does so are all the attention that can be shown.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from napari_medattn.errors import ModelError
from napari_medattn.models.checks import check_input
from napari_medattn.models.convolution import BATCH_NORM, CONV, resize
from napari_medattn.models.emf.dsp_conv import POINTWISE, Activation, DSPConv, PointwiseUnit, activation_layer
from napari_medattn.models.emf.serial_heads import SerialBlock, SerialHeads
from napari_medattn.models.emf.vector_attention import FeatureNorm, Reading, TokenNorm
from napari_medattn.models.registry import register
from napari_medattn.models.site import AttentionSite
from napari_medattn.models.spec import Recipe, Variant

STAGES, CONVOLUTION_STAGES = 4, 2
SkipMerge = Literal["add", "concatenate"]


NOTES = (
    "A reconstruction: the authors published no code, and what their abstract and summaries leave open is inferred. "
    "No result of the paper can be claimed for it."
)
RECIPE = Recipe(optimiser="adamw", learning_rate=1e-3, weight_decay=1e-4, warm_up=0.03, decay_power=0.9)


class Stage(nn.Module):
    """An entry that changes the size or the number of channels, then DSPConvs or transformer blocks.

    Args:
        entry: (B, any, any spatial) -> (B, C, spatial).
        units: The rest by name; `SerialBlock`s see the channels last.
    """

    def __init__(self, entry: nn.Module, units: OrderedDict[str, nn.Module]) -> None:
        super().__init__()
        self.entry = entry
        self.names = tuple(units)
        for name, unit in units.items():
            self.add_module(name, unit)
        self.attends = any(isinstance(unit, SerialBlock) for unit in units.values())

    def forward(self, x: Tensor) -> Tensor:
        """(B, any, any spatial) -> (B, C, spatial)."""
        x = self.entry(x)
        if self.attends:
            x = x.movedim(1, -1).contiguous()
        for name in self.names:
            x = self.get_submodule(name)(x)
        return x.movedim(-1, 1) if self.attends else x


class Stem(nn.Sequential):
    """A full 3x3 convolution with batch norm and activation, for the image itself."""

    def __init__(self, dims: int, in_channels: int, out_channels: int, stride: int, activation: Activation) -> None:
        conv = CONV[dims](in_channels, out_channels, 3, stride=stride, padding=1, bias=False)
        norm, act = BATCH_NORM[dims](out_channels), activation_layer(activation)
        super().__init__(OrderedDict(conv=conv, norm=norm, act=act))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, spatial) -> (B, out, spatial / stride), with channels last in memory.

        The layout of an image of one channel is ambiguous, and all that follows is quicker with channels last.
        """
        layout = torch.channels_last_3d if x.ndim == 5 else torch.channels_last
        for part in self:
            x = part(x).contiguous(memory_format=layout)
        return x


class Merge(nn.Module):
    """Brings the deep tensor to the channels and the size of a skip, and the two together.

    The 1x1 convolution comes before the interpolation: the two commute, and the coarse grid is smaller.
    """

    def __init__(self, dims: int, deep_channels: int, channels: int, how: SkipMerge) -> None:
        super().__init__()
        self.how = how
        self.reduce = PointwiseUnit(dims, deep_channels, channels, activation=None)

    def forward(self, skip: Tensor, deep: Tensor) -> Tensor:
        """(B, C, spatial) and (B, D, coarser spatial) -> (B, C or 2 C, spatial)."""
        deep = resize(self.reduce(deep), tuple(skip.shape[2:]), align_corners=False)
        return skip + deep if self.how == "add" else torch.cat([skip, deep], dim=1)


@register(
    "emf_former",
    title="EMF-former (reconstruction)",
    paper="https://doi.org/10.1007/978-3-031-72111-3_22",
    dims=(3, 2),
    from_authors=None,
    recipe=RECIPE,
    variants={"small": Variant(options={"widths": [24, 48, 96, 160]}, recipe=replace(RECIPE, learning_rate=5e-3))},
    notes=NOTES,
)
class EMFFormer(nn.Module):
    """EMF-former as reconstructed from the paper's abstract and summaries; all options are inferred choices.

    Args:
        in_channels: Image channels C.
        num_classes: Classes K including background.
        spatial_dims: 2 or 3.
        widths: Channels of the stages at 1/2, 1/4, 1/8 and 1/16 of the size.
        depth: DSPConvs or transformer blocks in a stage; at full size there is only one DSPConv.
        shuffle_groups: Groups of the channel shuffle in a DSPConv.
        pointwise_groups: Groups of the 1x1 convolution in a DSPConv; 1 is the literal reading, see `dsp_conv`.
        activation: Of the convolutions, ``"relu"`` or ``"gelu"``.
        heads: Parts into which a block cuts the channels.
        active_heads: Heads that compute; the others are ignored.
        reading: What a head computes, ``"additive"``, ``"outer"`` or ``"fast"``, see `VectorAttention`.
        token_norm: How a head's weights are normalised, ``"softmax"`` or ``"l2"``.
        feature_norm: Whether queries and keys are brought to one length, ``"rms"`` or ``"none"``.
        ffn_ratio: Hidden channels of a block's feed-forward part, as a multiple of its channels.
        skip_merge: How the decoder joins a skip, ``"add"`` or ``"concatenate"``.
        detail_width: Channels of a skip at full size, which sharpens boundaries; 0 for none: the finest features are
            then at 1/2 of the size, and the logits are interpolated.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        spatial_dims: int,
        widths: Sequence[int] = (32, 64, 128, 256),
        depth: int = 2,
        shuffle_groups: int = 4,
        pointwise_groups: int = 4,
        activation: Activation = "relu",
        heads: int = 4,
        active_heads: int = 4,
        reading: Reading = "additive",
        token_norm: TokenNorm = "softmax",
        feature_norm: FeatureNorm = "rms",
        ffn_ratio: float = 2.0,
        skip_merge: SkipMerge = "add",
        detail_width: int = 8,
    ) -> None:
        super().__init__()
        _check(widths, depth, skip_merge, detail_width)
        self.in_channels = in_channels
        self.stride = (2**STAGES,) * spatial_dims
        self.depth, self.active_heads = depth, active_heads
        self.token_norm: TokenNorm = token_norm
        self.has_detail = detail_width > 0

        def dsp_conv(channels: int, out_channels: int, stride: int = 1) -> nn.Module:
            return DSPConv(
                spatial_dims,
                channels,
                out_channels,
                stride=stride,
                shuffle_groups=shuffle_groups,
                pointwise_groups=pointwise_groups,
                activation=activation,
            )

        def block(channels: int) -> nn.Module:
            attention = SerialHeads(channels, heads, active_heads, reading, token_norm, feature_norm)
            return SerialBlock(spatial_dims, channels, attention, ffn_ratio)

        def stage(number: int, entry: nn.Module, width: int) -> Stage:
            if number > CONVOLUTION_STAGES:
                return Stage(entry, OrderedDict((f"block{n}", block(width)) for n in range(1, depth + 1)))
            units = depth if number else 1
            return Stage(entry, OrderedDict((f"conv{n}", dsp_conv(width, width)) for n in range(1, units + 1)))

        if detail_width:
            self.detail = Stem(spatial_dims, in_channels, detail_width, 1, activation)
        channels = in_channels
        for number, width in enumerate(widths, start=1):
            first = number == 1
            entry = Stem(spatial_dims, channels, width, 2, activation) if first else dsp_conv(channels, width, 2)
            self.add_module(f"encode{number}", stage(number, entry, width))
            channels = width
        skips = [*enumerate(widths, start=1)][-2::-1] + ([(0, detail_width)] if detail_width else [])
        for number, width in skips:
            self.add_module(f"merge{number}", Merge(spatial_dims, channels, width, skip_merge))
            entry = nn.Identity() if skip_merge == "add" else dsp_conv(2 * width, width)
            self.add_module(f"decode{number}", stage(number, entry, width))
            channels = width
        self.head = head(spatial_dims, channels, num_classes)

    def sites(self) -> list[AttentionSite]:
        """The blocks' attention, as a forward pass reaches it."""
        stages = [(f"{side}code", number) for side, number in (("en", 3), ("en", 4), ("de", 3))]
        dims, softmax = len(self.stride), self.token_norm == "softmax"
        return [
            AttentionSite(
                key=f"{name}{number}.block{block}.attention",
                path=(f"{name}r {number}", f"block {block}", "token weights"),
                kind="vector",
                stride=(2**number,) * dims,
                heads=self.active_heads,
                normalisation=self.token_norm,
                sums_to_one=tuple(range(2, 2 + dims)) if softmax else (),
            )
            for name, number in stages
            for block in range(1, self.depth + 1)
        ]

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, [Z,] Y, X) with sides that are multiples of 16 -> logits (B, K, [Z,] Y, X)."""
        check_input(x, self.in_channels, self.stride)
        size = tuple(x.shape[2:])
        skips = [self.detail(x)] if self.has_detail else []
        for number in range(1, STAGES + 1):
            x = self.get_submodule(f"encode{number}")(x)
            skips.append(x)
        x = skips.pop()
        for number in reversed(range(STAGES - len(skips), STAGES)):
            x = self.get_submodule(f"merge{number}")(skips.pop(), x)
            x = self.get_submodule(f"decode{number}")(x)
        return resize(self.head(x), size, align_corners=False)


def head(dims: int, channels: int, num_classes: int) -> nn.Module:
    """A 1x1 convolution that starts without much of an opinion, so that no steps are spent on unlearning one."""
    conv = POINTWISE[dims](channels, num_classes)
    for parameter in conv.parameters():
        nn.init.normal_(parameter, std=0.05)
    return conv


def _check(widths: Sequence[int], depth: int, skip_merge: str, detail_width: int) -> None:
    if len(widths) != STAGES or min(widths) < 1:
        raise ModelError(f"widths {list(widths)} do not fit.", f"Use {STAGES} positive numbers, finest stage first.")
    if depth < 1:
        raise ModelError(f"A stage of depth {depth} has no attention.", "Use 1 or more.")
    if skip_merge not in get_args(SkipMerge):
        raise ModelError(f"There is no skip_merge {skip_merge!r}.", f"Use one of {', '.join(get_args(SkipMerge))}.")
    if detail_width < 0:
        raise ModelError(f"detail_width {detail_width} is negative.", "Use 0 for no skip at full size, or e.g. 8.")
