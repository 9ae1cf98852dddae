"""Residual blocks of axial attention, their stages, and the sites in them."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn
from torch.nn import functional as F

from napari_medattn.models.axial.attention import HEADS, AxialAttention, FoldedAxialAttention, PositionTerms
from napari_medattn.models.axial.patch_norm import PatchBatchNorm
from napari_medattn.models.site import AttentionSite

EXPANSION = 2
_ORIENTATION = {2: "column", 3: "row"}


class AxialBlock(nn.Module):
    """1x1 convolution, attention along columns, then along rows, 1x1 convolution, and the shortcut.

    Args:
        in_channels: Channels of the input.
        width: Channels of the attention; the result has twice as many.
        size: (Y, X) of the feature map for which position vectors are made.
        stride: The result is this much smaller than the input.
        positions: Position terms of the attention.
        patches: Patches along each side of the images.
    """

    def __init__(
        self,
        in_channels: int,
        width: int,
        size: tuple[int, int],
        stride: int,
        positions: PositionTerms,
        patches: int,
    ) -> None:
        super().__init__()
        out_channels = EXPANSION * width
        self.stride, self.patches = stride, patches
        self.reduce = _conv_norm(in_channels, width, 1, patches)
        self.column_attention = AxialAttention(width, size[0], 2, positions, patches)
        self.row_attention = AxialAttention(width, size[1], 3, positions, patches)
        self.expand = _conv_norm(width, out_channels, 1, patches)
        changes = stride > 1 or in_channels != out_channels
        self.shortcut = _conv_norm(in_channels, out_channels, stride, patches) if changes else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, Y, X) -> (N, 2 * width, Y / stride, X / stride)."""
        out = self.row_attention(self.column_attention(F.relu(self.reduce(x), inplace=True)))
        if self.stride > 1:
            out = F.avg_pool2d(out, self.stride)
        out = self.expand(F.relu(out))
        return F.relu(out + self.shortcut(x), inplace=True)


class AxialStage(nn.Sequential):
    """Blocks in a row, called by their number; the first changes channels and size.

    Args:
        blocks: How many.
        in_channels: Channels of the input.
        width: Channels of the attention; the result has twice as many.
        size: (Y, X) of the input for which position vectors are made.
        stride: The result is this much smaller than the input.
        positions: Position terms of the attention.
        patches: Patches along each side of the images.
    """

    def __init__(
        self,
        blocks: int,
        in_channels: int,
        width: int,
        size: tuple[int, int],
        stride: int,
        positions: PositionTerms,
        patches: int,
    ) -> None:
        later = (size[0] // stride, size[1] // stride)
        first = AxialBlock(in_channels, width, size, stride, positions, patches)
        rest = [AxialBlock(EXPANSION * width, width, later, 1, positions, patches) for _ in range(blocks - 1)]
        super().__init__(first, *rest)


def axial_sites(network: nn.Module) -> list[AttentionSite]:
    """The sites of all blocks in a network, in the order of its modules.

    The stride of a site follows from the stages before it: the stem halves, and so does every block with a stride.
    """
    sites: list[AttentionSite] = []
    branches = any(key.startswith("local") for key, _ in network.named_children())
    for stage_key, stage in network.named_modules():
        if not isinstance(stage, AxialStage):
            continue
        number = int(stage_key[-1])
        for block_key, block in stage.named_children():
            assert isinstance(block, AxialBlock)
            for axis in (2, 3):
                step = 2 ** max(1, number - (block_key == "0"))
                branch = "local branch" if stage_key.startswith("local") else "global branch"
                stays = block.stride == 1
                place = (*((branch,) if branches else ()), f"stage {number}")
                name = _ORIENTATION[axis]
                sites.append(
                    AttentionSite(
                        key=f"{stage_key}.{block_key}.{name}_attention",
                        path=(*place, f"block {int(block_key) + 1}", f"{name}s"),
                        kind="axial",
                        stride=(step, step),
                        heads=HEADS,
                        normalisation="softmax",
                        sums_to_one=(axis,),
                        axis=axis,
                        patches=block.patches,
                        stream=" ".join(place) if stays else "",
                        no_stream="" if stays else "the residual around its block leads to a coarser grid",
                    )
                )
    return sites


def position_gates(model: nn.Module) -> dict[str, dict[str, float]]:
    """The learned gates of a network's position terms.

    Args:
        model: A network from `create_model`, also one that is prepared for inference.

    Returns:
        For each gated site key G_Q, G_K, G_V1 and G_V2 as in equation 5 of arXiv 2102.10662: how much the position
        terms of queries, keys and values count, and the values themselves. Empty without gates.
    """
    attention = ((k, m) for k, m in model.named_modules() if isinstance(m, AxialAttention | FoldedAxialAttention))
    return {key: part.gates for key, part in attention if part.gates}


def _conv_norm(in_channels: int, out_channels: int, stride: int, patches: int) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
            norm=PatchBatchNorm(out_channels, patches**2),
        )
    )
