"""A branch of the axial attention networks: stem, stages of attention, decoder with summed skips."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from napari_medattn.errors import ModelError
from napari_medattn.models.axial.attention import PositionTerms
from napari_medattn.models.axial.block import EXPANSION, AxialStage
from napari_medattn.models.axial.patch_norm import PatchBatchNorm

BLOCKS = (1, 2, 4, 1)
WIDTHS = (16, 32, 64, 128)
STEM_MIDDLE = 128
OUT_CHANNELS = 16
# A whole branch halves four times, and its decoder once more.
DEPTH_STRIDE = 32


class AxialBranch(nn.Module):
    """Image features at full size.

    Args:
        in_channels: Channels of the image.
        stem_width: Channels that the stem begins and ends with.
        stages: How many stages of attention, 2 or 4; the decoder undoes them.
        size: (Y, X) of the image, or of a patch of it, for which position vectors are made.
        positions: Position terms of the attention.
        patches: Patches along each side of the image; what comes in is B * patches**2 of them.
    """

    def __init__(
        self,
        in_channels: int,
        stem_width: int,
        stages: int,
        size: tuple[int, int],
        positions: PositionTerms,
        patches: int = 1,
    ) -> None:
        super().__init__()
        self.stages = stages
        self.stem = _stem(in_channels, stem_width, patches**2)
        channels, size = stem_width, (size[0] // 2, size[1] // 2)
        for stage, (blocks, width) in enumerate(zip(BLOCKS[:stages], WIDTHS, strict=False), start=1):
            stride = 1 if stage == 1 else 2
            self.add_module(f"layer{stage}", AxialStage(blocks, channels, width, size, stride, positions, patches))
            channels, size = EXPANSION * width, (size[0] // stride, size[1] // stride)
        if stages == 4:
            self.decode1 = nn.Conv2d(channels, channels, 3, stride=2, padding=1)
        for number in range(6 - stages, 6):
            out_channels = max(channels // 2, OUT_CHANNELS)
            self.add_module(f"decode{number}", nn.Conv2d(channels, out_channels, 3, padding=1))
            channels = out_channels

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, Y, X) -> (N, 16, Y, X), never negative where no skip is added."""
        x = self.stem(x)
        skips = []
        for stage in range(1, self.stages + 1):
            x = self.get_submodule(f"layer{stage}")(x)
            skips.append(x)
        if self.stages < 4:
            skips.pop()
        for number in range(1 if self.stages == 4 else 6 - self.stages, 6):
            x = self.get_submodule(f"decode{number}")(x)
            x = F.relu(F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False), inplace=True)
            if skips:
                x = x + skips.pop()
        return x


def image_sides(image_size: Any, multiple: int) -> tuple[int, int]:
    """An ``image_size`` option as (Y, X).

    Raises:
        ModelError: If it is no side or pair of sides, or no multiple of what the network needs.
    """
    sides = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    if len(sides) != 2 or not all(isinstance(side, int) and side > 0 and side % multiple == 0 for side in sides):
        raise ModelError(
            f"image_size {image_size} does not suit the network.",
            f"Use one side or a pair [Y, X], multiples of {multiple}.",
        )
    return sides


def _stem(in_channels: int, width: int, patches: int) -> nn.Sequential:
    parts: OrderedDict[str, nn.Module] = OrderedDict()
    channels = in_channels
    for number, (out_channels, kernel) in enumerate(((width, 7), (STEM_MIDDLE, 3), (width, 3)), start=1):
        stride = 2 if number == 1 else 1
        parts[f"conv{number}"] = nn.Conv2d(channels, out_channels, kernel, stride, kernel // 2, bias=False)
        parts[f"norm{number}"] = PatchBatchNorm(out_channels, patches)
        parts[f"act{number}"] = nn.ReLU(inplace=True)
        channels = out_channels
    return nn.Sequential(parts)
