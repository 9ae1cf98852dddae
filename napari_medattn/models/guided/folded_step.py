"""`GuidedStep` for inference: the same attention with fewer multiplications.

In evaluation mode the shared guide treats all images alike, so that the scales pass its decoder in one batch; what
the guide and the two branches convolve is cut into tiles once; the upsamplings melt into the convolutions behind
them; and the 3x3 convolutions are Winograd's.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_medattn.models.guided.semantic_guide import SCALES
from napari_medattn.models.guided.up_conv import UpConv
from napari_medattn.models.guided.winograd import TiledImage, convolve, quick


class FoldedGuide(nn.Module):
    """A `SemanticGuide` whose batch norms are merged, up to its last upsampling.

    ReLU and max pooling change places, which is exact and saves three quarters of the ReLU.

    Args:
        guide: The guide that it replaces.
    """

    def __init__(self, guide: nn.Module) -> None:
        super().__init__()
        self.encode1a, self.encode1b, self.encode2a, self.encode2b, self.decode2a, self.decode2b = (
            quick(_conv(guide, f"{block}.{unit}.conv"))
            for block in ("encode1", "encode2", "decode2")
            for unit in ("first", "second")
        )
        self.decode1a = UpConv(_up(guide, "decode2"), _conv(guide, "decode1.first.conv"))
        self.decode1b = _conv(guide, "decode1.second.conv")

    def encode(self, image: TiledImage) -> Tensor:
        """(B, C, Y, X) -> the code (B, 4 C, Y / 4, X / 4)."""
        x = self.encode1b(F.relu_(convolve(self.encode1a, image)))
        x = self.encode2b(F.relu_(self.encode2a(F.relu_(F.max_pool2d(x, 2)))))
        return F.relu_(F.max_pool2d(x, 2))

    def decode(self, code: Tensor) -> Tensor:
        """The code -> (B, C, Y / 2, X / 2), from which the last upsampling would reconstruct."""
        for convolution in (self.decode2a, self.decode2b, self.decode1a, self.decode1b):
            code = F.relu_(convolution(code))
        return code


class FoldedBranch(nn.Module):
    """An `AttentionBranch` whose first convolution shares its tiles with others.

    Args:
        branch: The branch that it replaces, with merged batch norms.
    """

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.before = quick(_conv(branch, "before.conv"))
        self.act = branch.get_submodule("before.act")
        self.attend = branch.get_submodule("attend")
        self.after = branch.get_submodule("after")

    def forward(self, image: TiledImage) -> Tensor:
        """(B, 2 channels, Y, X) -> (B, channels, Y, X)."""
        return self.after(self.attend(self.act(convolve(self.before, image))))  # type: ignore[no-any-return]


class FoldedAttention(nn.Module):
    """A `GuidedAttention` that takes the guide in front of its last upsampling.

    Args:
        attention: The module that it replaces, with merged batch norms.
        up: The guide's last upsampling.
    """

    def __init__(self, attention: nn.Module, up: nn.ConvTranspose2d) -> None:
        super().__init__()
        self.position = FoldedBranch(attention.get_submodule("position"))
        self.channel = FoldedBranch(attention.get_submodule("channel"))
        self.steer = UpConv(up, _conv(attention, "steer"))
        self.merge = attention.get_submodule("merge")

    def attended(self, image: TiledImage) -> Tensor:
        """(B, 2 channels, Y, X) -> the sum of both branches (B, channels, Y, X)."""
        position: Tensor = self.position(image)
        channel: Tensor = self.channel(image)
        return position + channel

    def forward(self, attended: Tensor, half: Tensor) -> Tensor:
        """The sum of both branches, steered by ``half`` (B, 2 channels, Y / 2, X / 2)."""
        return self.merge(attended * self.steer(half))  # type: ignore[no-any-return]


class FoldedStep(nn.Module):
    """A `GuidedStep` for inference.

    Args:
        step: The step that it replaces, in evaluation mode with merged batch norms.
    """

    def __init__(self, step: nn.Module) -> None:
        super().__init__()
        guide = step.get_submodule("guide")
        self.guide = FoldedGuide(guide)
        for scale in SCALES:
            attention = FoldedAttention(step.get_submodule(f"scale{scale}"), _up(guide, "decode1"))
            self.add_module(f"scale{scale}", attention)

    def forward(self, features: dict[int, Tensor], contexts: dict[int, Tensor]) -> dict[int, Tensor]:
        """As `GuidedStep`'s."""
        codes, attended = [], {}
        for scale in SCALES:
            image = TiledImage(torch.cat([features[scale], contexts[scale]], dim=1), shared=True)
            attended[scale] = self._scale(scale).attended(image)
            codes.append(self.guide.encode(image))
        halves = self.guide.decode(torch.cat(codes)).chunk(len(SCALES))
        return {
            scale: self._scale(scale)(attended.pop(scale), half) for scale, half in zip(SCALES, halves, strict=True)
        }

    def _scale(self, scale: int) -> FoldedAttention:
        found = self.get_submodule(f"scale{scale}")
        assert isinstance(found, FoldedAttention)
        return found


def _conv(module: nn.Module, path: str) -> nn.Conv2d:
    found = module.get_submodule(path)
    assert isinstance(found, nn.Conv2d)
    return found


def _up(guide: nn.Module, block: str) -> nn.ConvTranspose2d:
    found = guide.get_submodule(f"{block}.up")
    assert isinstance(found, nn.ConvTranspose2d)
    return found
