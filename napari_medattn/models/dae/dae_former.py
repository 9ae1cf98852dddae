"""DAE-Former: a 2-D transformer with dual attention in every block and cross attention in the skips.

Azad et al., "DAE-Former: Dual Attention-guided Efficient Transformer for Medical Image Segmentation",
arXiv 2212.13504.

Where paper and code differ, and which option chooses (the code's way is the default):

* ``skip_attention``: the paper takes only the queries of a skip's cross attention from the encoder, the code queries
  and keys.
* The code's cross attention has no projections of queries, keys and values, and one layer norm for both sides.
* ``cross_heads`` reaches only the cross attention: the dual blocks of the code take a head count and ignore it.
* Most of the deepest decoder stage (18.4 of the 48.1 M parameters) and two of three norms in every feed-forward part
  are built by the code and never used. They do not exist here.
* The code only takes 224 x 224, because grid sizes are written into it. The weights do not depend on them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from torch import Tensor, nn

from napari_medattn.errors import ModelError
from napari_medattn.models.checks import check_input
from napari_medattn.models.dae.blocks import DualBlock, Expansion, PatchEmbedding, interleave
from napari_medattn.models.dae.head import ExpandingHead
from napari_medattn.models.dae.mix_feed_forward import FeedForward
from napari_medattn.models.dae.names import from_dae_names
from napari_medattn.models.dae.skip import FusedSkip, SkipAttention
from napari_medattn.models.dae.transpose_attention import HEADS
from napari_medattn.models.registry import register
from napari_medattn.models.site import AttentionSite
from napari_medattn.models.spec import Recipe, Variant

DECODER_BLOCKS = 2


class EncoderStage(nn.Module):
    """Patch embedding, dual blocks ``block1``, ``block2``, ..., layer norm."""

    def __init__(self, embed: PatchEmbedding, channels: int, depth: int, feed_forward: FeedForward) -> None:
        super().__init__()
        self.embed = embed
        self.depth = depth
        for number in range(1, depth + 1):
            self.add_module(f"block{number}", DualBlock(channels, feed_forward))
        self.norm = nn.LayerNorm(channels)

    def forward(self, image: Tensor) -> Tensor:
        """(B, C, Y, X) -> (B, Y / stride, X / stride, D)."""
        x = self.embed(image)
        for number in range(1, self.depth + 1):
            x = self.get_submodule(f"block{number}")(x)
        return self.norm(x)  # type: ignore[no-any-return]


class DecoderStage(nn.Module):
    """Lift the deeper tokens to D channels, fuse them with the skip, two dual blocks."""

    def __init__(self, deep_channels: int, channels: int, skip: FusedSkip, feed_forward: FeedForward) -> None:
        super().__init__()
        self.lift = nn.Linear(deep_channels, channels)
        self.skip = skip
        self.block1 = DualBlock(channels, feed_forward)
        self.block2 = DualBlock(channels, feed_forward)

    def forward(self, deep: Tensor, encoder: Tensor) -> Tensor:
        """(B, Y / 2, X / 2, 4, deep channels), as an `Expansion` by two gives it, and (B, Y, X, D) -> (B, Y, X, D)."""
        return self.block2(self.block1(self.skip(interleave(self.lift(deep), 2), encoder)))  # type: ignore[no-any-return]


@register(
    "dae_former",
    title="DAE-Former",
    paper="https://arxiv.org/abs/2212.13504",
    dims=(2,),
    from_authors=from_dae_names,
    recipe=Recipe(
        optimiser="sgd",
        learning_rate=0.05,
        momentum=0.9,
        nesterov=False,
        weight_decay=1e-4,
        batch_size=24,
        epochs=400,
        dice_weight=0.6,
        dice_form="squared",
        cross_entropy_weight=0.4,
        warm_up=0.0,
        decay_power=0.9,
    ),
    variants={
        "small": Variant(
            options={"widths": [48, 96, 160]},
            recipe=Recipe(optimiser="adamw", learning_rate=1e-3, warm_up=0.05, decay_power=0.9),
        )
    },
    notes="A network with one input channel takes the authors' weights for three, as their code repeats the channel.",
)
class DAEFormer(nn.Module):
    """DAE-Former with three encoder stages on grids of 1/4, 1/8 and 1/16, and skips on the first two.

    Args:
        in_channels: Image channels C. One channel is seen three times, as in the authors' code.
        num_classes: Classes K including background.
        spatial_dims: 2.
        widths: Channels of the three stages, multiples of 8.
        depths: Dual blocks of the three encoder stages.
        cross_heads: Heads of the cross attention in the skips; divides the first two widths.
        skip_attention: What the cross attention takes from where, see `CrossAttention`.
        feed_forward: Form of the feed-forward parts, see `MixFeedForward`.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        spatial_dims: int = 2,
        widths: Sequence[int] = (128, 320, 512),
        depths: Sequence[int] = (2, 2, 2),
        cross_heads: int = 1,
        skip_attention: SkipAttention = "encoder_queries_and_keys",
        feed_forward: FeedForward = "mix_skip",
    ) -> None:
        super().__init__()
        _check_options(widths, depths, cross_heads, skip_attention, feed_forward)
        self.in_channels = in_channels
        self.stride = (16,) * spatial_dims
        self.widths, self.depths = tuple(widths), tuple(depths)
        self.cross_heads = cross_heads
        one, two, three = widths

        embed = PatchEmbedding(in_channels, one, kernel=7, stride=4, copies=3 if in_channels == 1 else 1)
        self.encode1 = EncoderStage(embed, one, depths[0], feed_forward)
        self.encode2 = EncoderStage(PatchEmbedding(one, two, kernel=3, stride=2), two, depths[1], feed_forward)
        self.encode3 = EncoderStage(PatchEmbedding(two, three, kernel=3, stride=2), three, depths[2], feed_forward)
        self.expand3 = Expansion(three, three // 2, 2)
        skip = FusedSkip(two, cross_heads, skip_attention, feed_forward)
        self.decode2 = DecoderStage(three // 2, two, skip, feed_forward)
        self.expand2 = Expansion(two, two // 2, 2)
        skip = FusedSkip(one, cross_heads, skip_attention, feed_forward)
        self.decode1 = DecoderStage(two // 2, one, skip, feed_forward)
        self.head = ExpandingHead(one, num_classes)
        for part in (self.expand3, self.decode2, self.expand2, self.decode1, self.head):
            _initialise_decoder(part)

    def sites(self) -> list[AttentionSite]:
        """Two per dual block, and the cross attention of each skip, as a forward pass reaches them."""
        found = []
        for stage, depth in enumerate(self.depths, start=1):
            for block in range(1, depth + 1):
                found += self._block_sites("encode", "encoder", stage, block)
        for stage in (2, 1):
            path = (f"decoder {stage}", "cross attention")
            stream = f"decoder {stage}"
            found.append(_factored(f"decode{stage}.skip.cross", path, stage, self.cross_heads, stream))
            for block in range(1, DECODER_BLOCKS + 1):
                found += self._block_sites("decode", "decoder", stage, block)
        return found

    def _block_sites(self, side: str, name: str, stage: int, block: int) -> list[AttentionSite]:
        key, path = f"{side}{stage}.block{block}", (f"{name} {stage}", f"block {block}")
        channel = AttentionSite(
            key=f"{key}.channel",
            path=(*path, "channel attention"),
            kind="channel",
            stride=(),
            heads=HEADS,
            normalisation="softmax",
            sums_to_one=(3,),
            channels=self.widths[stage - 1] // HEADS,
        )
        return [_factored(f"{key}.efficient", (*path, "efficient attention"), stage, 1, path[0]), channel]

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, Y, X) with sides that are multiples of 16 -> logits (B, K, Y, X)."""
        check_input(x, self.in_channels, self.stride)
        first = self.encode1(x)
        second = self.encode2(first.permute(0, 3, 1, 2))
        third = self.encode3(second.permute(0, 3, 1, 2))
        deep = self.decode2(self.expand3(third), second)
        deep = self.decode1(self.expand2(deep), first)
        return self.head(deep)  # type: ignore[no-any-return]


def _factored(key: str, path: tuple[str, ...], stage: int, heads: int, stream: str) -> AttentionSite:
    return AttentionSite(
        key=key,
        path=path,
        kind="factored",
        stride=(2 ** (stage + 1),) * 2,
        heads=heads,
        normalisation="softmax",
        sums_to_one=(2, 3),
        stream=stream,
    )


def _check_options(
    widths: Sequence[int], depths: Sequence[int], cross_heads: int, skip_attention: str, feed_forward: str
) -> None:
    if len(widths) != 3 or any(width < HEADS or width % HEADS for width in widths):
        raise ModelError(
            f"The widths {list(widths)} do not suit DAE-Former.", f"Use three multiples of {HEADS}, one per stage."
        )
    if len(depths) != 3 or any(depth < 1 for depth in depths):
        raise ModelError(f"The depths {list(depths)} do not suit DAE-Former.", "Use three numbers of at least 1.")
    if cross_heads < 1 or any(width % cross_heads for width in widths[:2]):
        raise ModelError(
            f"{cross_heads} heads do not divide {widths[0]} and {widths[1]} channels.",
            "Use a number of cross_heads that divides the first two widths.",
        )
    for name, value, known in (
        ("skip attention", skip_attention, get_args(SkipAttention)),
        ("feed-forward part", feed_forward, get_args(FeedForward)),
    ):
        if value not in known:
            raise ModelError(f"There is no {name} {value!r}.", f"Use one of {', '.join(known)}.")


def _initialise_decoder(module: nn.Module) -> None:
    """Xavier-uniform weights and zero biases, as the authors do in the decoder; the encoder keeps torch's defaults."""
    for part in module.modules():
        if isinstance(part, nn.Linear | nn.Conv2d):
            nn.init.xavier_uniform_(part.weight)
            if part.bias is not None:
                nn.init.zeros_(part.bias)
