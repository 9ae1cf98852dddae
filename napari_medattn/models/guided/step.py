"""One step of guided attention over all scales."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from napari_medattn.models.guided.folded_step import FoldedStep
from napari_medattn.models.guided.position_channel_attention import AttentionBranch, ChannelAttention, PositionAttention
from napari_medattn.models.guided.semantic_guide import SCALES, SemanticGuide


@dataclass(frozen=True, eq=False)
class GuidedScale:
    """What a step gives for one scale.

    Attributes:
        attended: (B, channels, Y, X), the result.
        guided: (B, 2 channels, Y, X), what the guide was given.
        code: (B, 8 channels, Y / 4, X / 4), the guide's innermost layer.
        reconstruction: (B, 2 channels, Y, X), what the guide made of it.
    """

    attended: Tensor
    guided: Tensor
    code: Tensor
    reconstruction: Tensor


@dataclass(frozen=True, eq=False)
class GuidedPass:
    """Everything that a training step scores, by scale.

    Attributes:
        coarse: Logits of each scale in front of the attention, at the size of the input.
        refined: Logits of each scale behind it.
        first: What the first step gave.
        second: What the second step gave.
    """

    coarse: dict[int, Tensor]
    refined: dict[int, Tensor]
    first: dict[int, GuidedScale]
    second: dict[int, GuidedScale]

    @property
    def guidance(self) -> Tensor:
        """How far the two steps' codes lie apart, summed over the scales."""
        return torch.stack([F.mse_loss(self.first[s].code, self.second[s].code) for s in SCALES]).sum()

    @property
    def reconstruction(self) -> Tensor:
        """How far the guides are from giving back what they were given, summed over scales and steps."""
        both = [step[s] for s in SCALES for step in (self.first, self.second)]
        return torch.stack([F.mse_loss(part.guided, part.reconstruction) for part in both]).sum()


class GuidedAttention(nn.Module):
    """Position plus channel attention of one scale, multiplied with what the guide says."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.position = AttentionBranch(2 * channels, channels, PositionAttention(channels))
        self.channel = AttentionBranch(2 * channels, channels, ChannelAttention())
        self.steer = nn.Conv2d(2 * channels, channels, 3, padding=1)
        self.merge = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, reconstruction: Tensor) -> Tensor:
        """Two tensors (B, 2 channels, Y, X) -> (B, channels, Y, X)."""
        return self.merge((self.position(x) + self.channel(x)) * self.steer(reconstruction))  # type: ignore[no-any-return]


class GuidedStep(nn.Module):
    """`GuidedAttention` of each scale under one shared `SemanticGuide`."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.guide = SemanticGuide(2 * channels)
        for scale in SCALES:
            self.add_module(f"scale{scale}", GuidedAttention(channels))

    def forward(self, features: dict[int, Tensor], contexts: dict[int, Tensor]) -> dict[int, Tensor]:
        """Attention over each scale's features and context, all (B, channels, Y, X), sides multiples of 4."""
        return {scale: self._one(scale, features[scale], contexts[scale]).attended for scale in SCALES}

    def traced(self, features: dict[int, Tensor], contexts: dict[int, Tensor]) -> dict[int, GuidedScale]:
        """As `forward`, with what the loss compares.

        In training every scale has batch statistics of its own in the shared guide, one after the other.
        """
        return {scale: self._one(scale, features[scale], contexts[scale]) for scale in SCALES}

    def folded(self) -> FoldedStep:
        """Called once the batch norms are merged."""
        return FoldedStep(self)

    def _one(self, scale: int, features: Tensor, context: Tensor) -> GuidedScale:
        guided = torch.cat([features, context], dim=1)
        code, reconstruction = self.guide(guided)
        attended = self.get_submodule(f"scale{scale}")(guided, reconstruction)
        return GuidedScale(attended, guided, code, reconstruction)
