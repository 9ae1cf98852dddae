"""U-shaped networks of axial attention over the whole image, with and without gates on the position terms.

Valanarasu et al., "Medical Transformer: Gated Axial-Attention for Medical Image Segmentation", arXiv 2102.10662,
which compares them in its table 2 with the Medical Transformer, see `medt`. The authors' code calls them ``gated``
and ``axialunet``; both have stages of 1, 2, 4 and 1 blocks and a decoder whose skips are plain sums.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from napari_medattn.models.axial.attention import PositionTerms
from napari_medattn.models.axial.block import axial_sites
from napari_medattn.models.axial.branch import DEPTH_STRIDE, OUT_CHANNELS, AxialBranch, image_sides
from napari_medattn.models.axial.names import from_medt_names
from napari_medattn.models.checks import check_input
from napari_medattn.models.registry import register
from napari_medattn.models.site import AttentionSite
from napari_medattn.models.spec import Recipe, Variant

PAPER = "https://arxiv.org/abs/2102.10662"
GATES_FROZEN = 11
RECIPE = Recipe(
    optimiser="adam",
    learning_rate=1e-3,
    weight_decay=1e-5,
    batch_size=4,
    epochs=400,
    dice_weight=0.0,
    warm_up=0.0,
    decay_power=0.0,
    gates_frozen=GATES_FROZEN,
)
SMALL_RECIPE = Recipe(gates_frozen=GATES_FROZEN)


class WholeAxialUNet(AxialBranch):
    """Axial attention over the whole image; see `GatedAxialUNet`."""

    position_terms: ClassVar[PositionTerms]

    def __init__(
        self, in_channels: int, num_classes: int, spatial_dims: int, image_size: int | list[int] = 128
    ) -> None:
        sides = image_sides(image_size, DEPTH_STRIDE)
        super().__init__(in_channels, 8, 4, sides, self.position_terms)
        self.in_channels = in_channels
        self.stride = (DEPTH_STRIDE,) * spatial_dims
        self.head = nn.Conv2d(OUT_CHANNELS, num_classes, 1)

    def sites(self) -> list[AttentionSite]:
        """Columns and rows of every block, as a forward pass reaches them."""
        return axial_sites(self)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, Y, X) with sides that are multiples of 32 -> logits (B, K, Y, X)."""
        check_input(x, self.in_channels, self.stride)
        return self.head(F.relu(super().forward(x)))  # type: ignore[no-any-return]


@register(
    "gated_axial_unet",
    title="Gated Axial U-Net",
    paper=PAPER,
    dims=(2,),
    from_authors=from_medt_names,
    recipe=RECIPE,
    variants={"small": Variant({"image_size": 64}, SMALL_RECIPE)},
)
class GatedAxialUNet(WholeAxialUNet):
    """Axial attention over the whole image, with gates on the position terms.

    Args:
        in_channels: Image channels C.
        num_classes: Classes K including background.
        spatial_dims: 2.
        image_size: Side, or [Y, X], for which position vectors are made: those of the authors' weights. Images may
            have any size that is a multiple of 32, see `position_tables`.
    """

    position_terms = "gated"


@register(
    "axial_unet",
    title="Axial Attention U-Net",
    paper=PAPER,
    dims=(2,),
    from_authors=from_medt_names,
    recipe=RECIPE,
    variants={"small": Variant({"image_size": 64}, SMALL_RECIPE)},
)
class AxialUNet(WholeAxialUNet):
    """Axial attention over the whole image, its position terms without gates.

    Args:
        in_channels: Image channels C.
        num_classes: Classes K including background.
        spatial_dims: 2.
        image_size: Side, or [Y, X], for which position vectors are made, see `GatedAxialUNet`.
    """

    position_terms = "plain"
