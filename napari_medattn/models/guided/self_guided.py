"""Multi-scale self-guided attention for slices: position and channel attention at four scales, in two steps.

Sinha and Dolz, "Multi-scale self-guided attention for medical image segmentation", arXiv 1906.02849. This is
the network that the authors' code calls ``DAF_stack``.

Paper and code differ: the paper describes a ResNet-101 encoder, the code builds a ResNeXt-101 32x8d; `backbone`
chooses. The channel attention of the code favours the channels that are least alike, see `ChannelAttention`.
The encoder starts from random weights in the code too.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from napari_medattn.errors import ModelError
from napari_medattn.models.checks import check_input
from napari_medattn.models.convolution import resize
from napari_medattn.models.guided.names import from_self_guided_names
from napari_medattn.models.guided.position_channel_attention import QUERY_SHARE, prelu_unit
from napari_medattn.models.guided.resnext import ResidualEncoder
from napari_medattn.models.guided.semantic_guide import SCALES
from napari_medattn.models.guided.step import GuidedPass, GuidedStep
from napari_medattn.models.outputs import TrainingOutputs
from napari_medattn.models.registry import register
from napari_medattn.models.site import AttentionSite
from napari_medattn.models.spec import Recipe, Variant

_TERMS = {"guidance": 0.25, "reconstruction": 0.1}


@register(
    "self_guided",
    title="Self-guided attention",
    paper="https://arxiv.org/abs/1906.02849",
    dims=(2,),
    from_authors=from_self_guided_names,
    recipe=Recipe(
        optimiser="adam",
        learning_rate=1e-3,
        weight_decay=0.0,
        betas=(0.9, 0.99),
        batch_size=8,
        epochs=500,
        dice_weight=0.0,
        terms=_TERMS,
        warm_up=0.0,
        decay_power=0.0,
        halve_after=50,
    ),
    variants={
        "small": Variant(
            options={"backbone": "resnext26_8x8d", "backbone_width": 32, "channels": 24},
            recipe=Recipe(learning_rate=1e-3, terms=_TERMS),
        )
    },
    notes="Works on slices. The code's encoder is a ResNeXt-101 where the paper describes a ResNet-101.",
)
class SelfGuidedNetwork(nn.Module):
    """Self-guided attention: features of four scales, attended twice under the guidance of an autoencoder.

    Args:
        in_channels: Image channels C.
        num_classes: Classes K including background.
        spatial_dims: 2.
        backbone: Encoder, one of `resnext.BACKBONES`; ``"resnext101_32x8d"`` in the code, ``"resnet101"`` in
            the paper.
        backbone_width: Channels behind the encoder's stem, a multiple of 8.
        channels: Channels of each scale, a multiple of 8; everything behind the encoder follows.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        spatial_dims: int,
        backbone: str = "resnext101_32x8d",
        backbone_width: int = 64,
        channels: int = 64,
    ) -> None:
        super().__init__()
        if channels < QUERY_SHARE or channels % QUERY_SHARE:
            raise ModelError(
                f"{channels} channels cannot be shared out to queries and keys.",
                f"Use a multiple of {QUERY_SHARE}, 64 as published.",
            )
        self.in_channels = in_channels
        self.stride = (16,) * spatial_dims
        self.encoder = ResidualEncoder(in_channels, backbone, backbone_width)
        for scale in SCALES:
            width = self.encoder.channels[scale - 1]
            self.add_module(f"reduce{scale}", prelu_unit(width, channels, kernel=1))
            self.add_module(f"coarse_head{scale}", nn.Conv2d(channels, num_classes, 1))
            self.add_module(f"head{scale}", nn.Conv2d(channels, num_classes, 1))
        self.fuse = nn.Sequential(
            OrderedDict(
                first=prelu_unit(len(SCALES) * channels, channels),
                second=prelu_unit(channels, channels),
                third=prelu_unit(channels, channels, kernel=1),
            )
        )
        self.step1 = GuidedStep(channels)
        self.step2 = GuidedStep(channels)
        self.channels = channels
        _initialise(self)

    def sites(self) -> list[AttentionSite]:
        """Position and channel attention of both steps, deepest scale first, as a forward pass reaches them."""
        found = []
        for step in (1, 2):
            for scale in SCALES:
                position = AttentionSite(
                    key=f"step{step}.scale{scale}.position.attend",
                    path=(f"step {step}", f"scale {scale}", "position attention"),
                    kind="pairwise",
                    stride=(4, 4),
                    normalisation="softmax",
                    sums_to_one=(2, 3),
                    no_stream="convolutions and a product with the guide lie between the attentions of the two steps",
                )
                channel = AttentionSite(
                    key=f"step{step}.scale{scale}.channel.attend",
                    path=(f"step {step}", f"scale {scale}", "channel attention"),
                    kind="channel",
                    stride=(),
                    normalisation="softmax",
                    sums_to_one=(3,),
                    channels=self.channels,
                )
                found += [position, channel]
        return found

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, Y, X) with sides that are multiples of 16 -> logits (B, K, Y, X), the mean over the scales."""
        check_input(x, self.in_channels, self.stride)
        features, fused = self._features(x)
        first = self.step1(features, dict.fromkeys(SCALES, fused))
        second = self.step2(features, {scale: first.pop(scale) * fused for scale in SCALES})
        # Resizing is linear: the mean of the resized logits is the resized mean.
        logits = [self.get_submodule(f"head{scale}")(second[scale]) for scale in SCALES]
        return resize(torch.stack(logits).mean(dim=0), tuple(x.shape[2:]), align_corners=False)

    def folded(self) -> SelfGuidedNetwork:
        """The last 1x1 convolution of the attention melts into the logits'."""
        for scale in SCALES:
            last, head = self.step2.get_submodule(f"scale{scale}"), self.get_submodule(f"head{scale}")
            assert isinstance(last.merge, nn.Conv2d) and isinstance(head, nn.Conv2d)
            fold_pointwise(last.merge, head)
            last.merge = nn.Identity()
        return self

    def training_outputs(self, x: Tensor) -> TrainingOutputs:
        """The mean of the refined logits; all eight logits are scored, the guides' terms are added."""
        made = self.traced(x)
        refined = tuple(made.refined[scale] for scale in SCALES)
        coarse = tuple(made.coarse[scale] for scale in SCALES)
        terms = {"guidance": made.guidance, "reconstruction": made.reconstruction}
        return TrainingOutputs(torch.stack(refined).mean(dim=0), coarse + refined, terms)

    def traced(self, x: Tensor) -> GuidedPass:
        """A forward pass with everything that its authors score."""
        check_input(x, self.in_channels, self.stride)
        size = tuple(x.shape[2:])
        features, fused = self._features(x)
        first = self.step1.traced(features, dict.fromkeys(SCALES, fused))
        second = self.step2.traced(features, {scale: first[scale].attended * fused for scale in SCALES})

        def logits(head: str, scale: int, tensor: Tensor) -> Tensor:
            return resize(self.get_submodule(f"{head}{scale}")(tensor), size, align_corners=False)

        return GuidedPass(
            coarse={scale: logits("coarse_head", scale, features[scale]) for scale in SCALES},
            refined={scale: logits("head", scale, second[scale].attended) for scale in SCALES},
            first=first,
            second=second,
        )

    def _features(self, x: Tensor) -> tuple[dict[int, Tensor], Tensor]:
        """Each scale's features on the grid at stride 4, and the four fused, all (B, channels, Y / 4, X / 4)."""
        ladder = self.encoder(x)
        grid = tuple(ladder[0].shape[2:])
        features = {
            scale: resize(self.get_submodule(f"reduce{scale}")(ladder[scale - 1]), grid, align_corners=False)
            for scale in SCALES
        }
        return features, self.fuse(torch.cat([features[scale] for scale in SCALES], dim=1))


def fold_pointwise(first: nn.Conv2d, second: nn.Conv2d) -> None:
    """Merge a 1x1 convolution into the 1x1 convolution behind it, in place."""
    assert first.bias is not None and second.bias is not None
    weight = second.weight.flatten(1)
    second.bias = nn.Parameter(second.bias + weight @ first.bias)
    second.weight = nn.Parameter((weight @ first.weight.flatten(1))[..., None, None])


def _initialise(network: nn.Module) -> None:
    """Initialise as the authors do: Xavier convolutions, batch-norm gains N(1, 0.02)."""
    for part in network.modules():
        if isinstance(part, nn.Conv2d | nn.ConvTranspose2d):
            nn.init.xavier_normal_(part.weight)
        elif isinstance(part, nn.BatchNorm2d):
            nn.init.normal_(part.weight, 1.0, 0.02)
            nn.init.zeros_(part.bias)
