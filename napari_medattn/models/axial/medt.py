"""Medical Transformer (MedT) and LoGo: a shallow branch over the whole image, a deep one over its patches.

Valanarasu et al., "Medical Transformer: Gated Axial-Attention for Medical Image Segmentation", arXiv 2102.10662,
section 3.3. Both branches have gated attention in the paper; in the authors' code the local branch of MedT has no
position terms, `local_positions` chooses. The paper counts five blocks in the local branch, the code has stages of
1, 2, 4 and 1 blocks and a decoder of five steps; its stem is 64 channels wide, not 8 like the global one. What the
code has without using it (a second head, a convolution in each position-free block) is left out.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from torch import Tensor, nn
from torch.nn import functional as F

from napari_medattn.errors import ModelError
from napari_medattn.models.axial.attention import PositionTerms
from napari_medattn.models.axial.block import axial_sites
from napari_medattn.models.axial.branch import DEPTH_STRIDE, OUT_CHANNELS, AxialBranch, image_sides
from napari_medattn.models.axial.gated_axial_unet import PAPER, RECIPE, SMALL_RECIPE
from napari_medattn.models.axial.names import from_medt_names
from napari_medattn.models.checks import check_input
from napari_medattn.models.registry import register
from napari_medattn.models.site import AttentionSite
from napari_medattn.models.spec import Variant

SMALL = {"image_size": 64, "patches": 2}


class LocalGlobalNet(AxialBranch):
    """Two stages of attention over the whole image plus four over each of patches x patches patches."""

    global_positions: ClassVar[PositionTerms]

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        spatial_dims: int,
        image_size: int | list[int],
        patches: int,
        local_positions: PositionTerms,
    ) -> None:
        if patches < 1:
            raise ModelError(f"An image cannot be cut into {patches} patches a side.", "Use 1 or more.")
        sides = image_sides(image_size, patches * DEPTH_STRIDE)
        super().__init__(in_channels, 8, 2, sides, self.global_positions)
        crop = (sides[0] // patches, sides[1] // patches)
        self.in_channels, self.patches = in_channels, patches
        self.stride = (patches * DEPTH_STRIDE,) * spatial_dims
        self.local = AxialBranch(in_channels, 64, 4, crop, local_positions, patches)
        self.merge = nn.Conv2d(OUT_CHANNELS, OUT_CHANNELS, 3, padding=1)
        self.head = nn.Conv2d(OUT_CHANNELS, num_classes, 1)

    def sites(self) -> list[AttentionSite]:
        """Columns and rows of every block: the whole image's, then the patches'."""
        return axial_sites(self)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, Y, X) with sides that are multiples of 32 * patches -> logits (B, K, Y, X)."""
        check_input(x, self.in_channels, self.stride)
        whole = super().forward(x)
        local = join_patches(self.local(cut_patches(x, self.patches)), self.patches)
        return self.head(F.relu(self.merge(whole + local), inplace=True))  # type: ignore[no-any-return]


def cut_patches(x: Tensor, patches: int) -> Tensor:
    """(B, C, Y, X) -> (B * patches**2, C, Y / patches, X / patches), the patches of an image row by row."""
    batch, channels, height, width = x.shape
    grid = x.reshape(batch, channels, patches, height // patches, patches, width // patches)
    return grid.permute(0, 2, 4, 1, 3, 5).reshape(-1, channels, height // patches, width // patches)


def join_patches(x: Tensor, patches: int) -> Tensor:
    """What `cut_patches` cut, put together."""
    _, channels, height, width = x.shape
    grid = x.reshape(-1, patches, patches, channels, height, width)
    return grid.permute(0, 3, 1, 4, 2, 5).reshape(-1, channels, patches * height, patches * width)


@register(
    "medt",
    title="Medical Transformer (MedT)",
    paper=PAPER,
    dims=(2,),
    from_authors=from_medt_names,
    recipe=RECIPE,
    variants={"small": Variant(SMALL, SMALL_RECIPE)},
)
class MedT(LocalGlobalNet):
    """Medical Transformer: gated axial attention over the image, axial attention over its patches.

    Args:
        in_channels: Image channels C.
        num_classes: Classes K including background.
        spatial_dims: 2.
        image_size: Side, or [Y, X], for which position vectors are made. Images may have any size that is a
            multiple of 32 * patches, see `position_tables`; the grid of patches always covers them.
        patches: Patches along each side of the image.
        local_positions: ``"none"`` as in the authors' code, or ``"gated"`` as in the paper.
    """

    global_positions = "gated"

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        spatial_dims: int,
        image_size: int | list[int] = 128,
        patches: int = 4,
        local_positions: Literal["none", "gated"] = "none",
    ) -> None:
        if local_positions not in ("none", "gated"):
            raise ModelError(f"There are no local_positions {local_positions!r}.", "Use 'none' or 'gated'.")
        super().__init__(in_channels, num_classes, spatial_dims, image_size, patches, local_positions)


@register(
    "logo",
    title="Local-global axial network (LoGo)",
    paper=PAPER,
    dims=(2,),
    from_authors=from_medt_names,
    recipe=RECIPE,
    variants={"small": Variant(SMALL, SMALL_RECIPE)},
)
class LoGo(LocalGlobalNet):
    """The Medical Transformer's two branches with plain axial attention in both.

    Args:
        in_channels: Image channels C.
        num_classes: Classes K including background.
        spatial_dims: 2.
        image_size: Side, or [Y, X], for which position vectors are made, see `MedT`.
        patches: Patches along each side of the image.
    """

    global_positions = "plain"

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        spatial_dims: int,
        image_size: int | list[int] = 128,
        patches: int = 4,
    ) -> None:
        super().__init__(in_channels, num_classes, spatial_dims, image_size, patches, "plain")
