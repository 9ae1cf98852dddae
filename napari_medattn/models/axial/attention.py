"""Axial attention along the rows or the columns of an image, with gated position terms.

Valanarasu et al., "Medical Transformer: Gated Axial-Attention for Medical Image Segmentation", arXiv 2102.10662,
section 3.2 and equation 5, on top of Axial-DeepLab (arXiv 2003.07853). The paper's equation gates positions only;
its code, followed here, also has a batch norm on each of the three products in the logits and on both results, no
``1 / sqrt(d)``, and gates as plain numbers. Queries and keys have half the channels of values.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor, nn

from napari_medattn.models.axial.logit_norm import LogitNorm, Moments, content_moments, position_moments
from napari_medattn.models.axial.patch_norm import PatchBatchNorm
from napari_medattn.models.axial.position_tables import position_tables
from napari_medattn.models.axial.product import Positions, axial_product, axial_weights
from napari_medattn.models.folding import scale_and_shift
from napari_medattn.models.tap import Tap

HEADS = 8
PositionTerms = Literal["none", "plain", "gated"]
# Our name of a gate, the paper's, and where training finds it.
GATES: Mapping[str, tuple[str, float]] = {
    "query_gate": ("G_Q", 0.1),
    "key_gate": ("G_K", 0.1),
    "value_table_gate": ("G_V1", 0.1),
    "value_gate": ("G_V2", 1.0),
}


class AxialAttention(nn.Module):
    """Every position attends to the positions of its own row or column.

    Args:
        channels: C, of the input and of the result; a multiple of 16.
        length: T, positions on a line for which position vectors are made.
        axis: The attended axis of (N, C, Y, X): 2 along columns, 3 along rows.
        positions: ``"none"``, ``"plain"`` or ``"gated"`` position terms.
        patches: Patches along each side of the images; N is then B * patches**2.
    """

    query_gate: nn.Parameter
    key_gate: nn.Parameter
    value_table_gate: nn.Parameter
    value_gate: nn.Parameter

    def __init__(self, channels: int, length: int, axis: int, positions: PositionTerms, patches: int = 1) -> None:
        super().__init__()
        placed = positions != "none"
        self.axis, self.patches, self.positions, self.width = axis, patches, positions, channels // HEADS
        conv = nn.Conv2d(channels, 2 * channels, 1, bias=False)
        nn.init.normal_(conv.weight, 0, channels**-0.5)
        self.project = nn.Sequential(OrderedDict(conv=conv, norm=PatchBatchNorm(2 * channels, patches**2)))
        self.logit_norm = LogitNorm(3 if placed else 1, HEADS)
        self.output_norm = PatchBatchNorm(2 * channels if placed else channels, patches**2)
        if placed:
            self.vectors = nn.Parameter(torch.randn(2 * self.width, 2 * length - 1) * self.width**-0.5)
        if positions == "gated":
            for name, (_, start) in GATES.items():
                self.register_parameter(name, nn.Parameter(torch.tensor(start), requires_grad=False))
        self.tap = Tap()

    @property
    def gates(self) -> dict[str, float]:
        """The gates by the paper's names; empty where position terms are not gated."""
        if self.positions != "gated":
            return {}
        return {symbol: float(self.get_parameter(name)) for name, (symbol, _) in GATES.items()}

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, Y, X), same shape back.

        The tap emits ``weights`` (B, patch rows, patch columns, lines, 8, K, K), the softmax over keys.
        """
        query, key, value = as_lines(self.project(x), self.axis, (self.width // 2, self.width // 2, self.width))
        tables = position_tables(self.vectors, query.shape[-1]) if self.positions != "none" else None
        scales = self._scales(query, key, tables)
        placed = None
        if tables is not None:
            on_query, on_key = scales[1], scales[2]
            if self.positions == "gated":
                on_query, on_key = on_query * self.query_gate, on_key * self.key_gate
            placed = Positions(flat(query * on_query), flat(key * on_key), *tables)
        content, place = attend(self.tap, self.patches, query * scales[0], key, value, placed)
        if placed is None:
            return kept(self.tap, self.output_norm(as_image(content, self.axis)))
        if self.positions == "gated":
            content, place = content * self.value_gate, place * self.value_table_gate
        both = torch.stack([content, place], dim=4).flatten(3, 4)
        both = self.output_norm(as_image(both, self.axis))
        return kept(self.tap, torch.unflatten(both, 1, (-1, 2)).sum(dim=2))

    def _scales(self, query: Tensor, key: Tensor, tables: tuple[Tensor, Tensor, Tensor] | None) -> list[Tensor]:
        """What the logits' batch norms multiply each product with, (heads, N or 1, 1, 1, 1) each."""
        moments: list[Moments] = []
        count = query[0, :, :, 0].numel() // self.patches**2 * query.shape[-1]
        if self.logit_norm.training:
            apart = [torch.unflatten(t, 1, (-1, self.patches**2)) for t in (query, key)]
            moments.append(content_moments(*apart))
            if tables is not None:
                gates = (self.query_gate, self.key_gate) if self.positions == "gated" else (None, None)
                moments += [
                    position_moments(vectors, table, gate)
                    for vectors, table, gate in zip(apart, tables[:2], gates, strict=True)
                ]
        scales = self.logit_norm(moments, count)
        if len(scales) > 1:
            scales = scales.repeat(query.shape[1] // len(scales), 1, 1)
        return [scale.T[..., None, None, None] for scale in scales.unbind(1)]

    @torch.no_grad()
    def folded(self) -> FoldedAxialAttention:
        """The same with all scales, gates and shifts in the projection."""
        return FoldedAxialAttention(self)


class FoldedAxialAttention(nn.Module):
    """`AxialAttention` in evaluation mode; its projection gives queries and keys once for each use.

    Args:
        plain: The attention whose ``project`` is already one convolution.

    Attributes:
        gates: What `AxialAttention.gates` was, for people; in here the gates are part of the weights.
    """

    to_place: Tensor

    def __init__(self, plain: AxialAttention) -> None:
        super().__init__()
        self.axis, self.patches, self.positions, self.width = plain.axis, plain.patches, plain.positions, plain.width
        self.gates = plain.gates
        half, placed, gated = plain.width // 2, plain.positions != "none", plain.positions == "gated"
        conv = plain.project[0]
        assert isinstance(conv, nn.Conv2d) and conv.bias is not None
        kernels, biases = (
            torch.split(t.view(HEADS, 2 * plain.width, *t.shape[1:]), [half, half, plain.width], dim=1)
            for t in (conv.weight[:, :, 0, 0], conv.bias)
        )
        scale, shift = scale_and_shift(plain.output_norm)
        scale, shift = (t.view(HEADS, plain.width, -1) for t in (scale, shift))
        logits = plain.logit_norm([], 0)[0][..., None]
        one = torch.ones_like(logits[0])
        factors = [(0, logits[0]), (1, one)]
        to_value = scale[..., 0] * (plain.value_gate if gated else 1)
        if placed:
            on_query = logits[1] * (plain.query_gate if gated else 1)
            on_key = logits[2] * (plain.key_gate if gated else 1)
            factors += [(0, on_query), (1, on_key)]
            to_place = scale[..., 1] * (plain.value_table_gate if gated else 1)
            self.register_buffer("to_place", to_place.clone(), persistent=False)
        factors.append((2, to_value))
        self.sizes = tuple(kernels[which].shape[1] for which, _ in factors)
        weight = torch.cat([kernels[which] * factor[..., None] for which, factor in factors], dim=1)
        bias = [biases[which] * factor for which, factor in factors]
        bias[-1] = bias[-1] + shift.sum(-1)  # Attention sums to one, so what is added to values arrives.
        self.weight = nn.Parameter(weight.flatten(0, 1))
        self.bias = nn.Parameter(torch.cat(bias, dim=1).flatten()[:, None])
        if placed:
            self.vectors = plain.vectors
        self.tap = Tap()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, Y, X), same shape back; emits what `AxialAttention` emits."""
        # A product of matrices that reads the channels last and writes lines, where a convolution keeps its layout.
        pixels = x.permute(0, 3, 2, 1) if self.axis == 2 else x.permute(0, 2, 3, 1)
        planes = torch.baddbmm(self.bias, self.weight.expand(len(x), -1, -1), pixels.flatten(1, 2).mT)
        query, key, *more, value = cut_lines(torch.unflatten(planes, 2, pixels.shape[1:3]), self.sizes)
        placed = None
        if more:
            placed = Positions(flat(more[0]), flat(more[1]), *position_tables(self.vectors, query.shape[-1]))
        content, place = attend(self.tap, self.patches, query, key, value, placed)
        if more:
            content = torch.addcmul(content, place, self.to_place[:, None, None, :, None])
        return kept(self.tap, as_image(content, self.axis))


def as_lines(planes: Tensor, axis: int, sizes: tuple[int, ...]) -> list[Tensor]:
    """Cut (N, heads * sum(sizes), Y, X) into tensors (heads, N, lines, size, K) along ``axis``."""
    return cut_lines(planes.transpose(2, 3) if axis == 2 else planes, sizes)


def cut_lines(planes: Tensor, sizes: tuple[int, ...]) -> list[Tensor]:
    """Cut (N, heads * sum(sizes), lines, K) into tensors (heads, N, lines, size, K), in single precision or better."""
    if planes.dtype in (torch.bfloat16, torch.float16):
        planes = planes.float()
    lines = torch.unflatten(planes, 1, (HEADS, -1)).permute(1, 0, 3, 2, 4)
    return [part.contiguous() for part in torch.split(lines, list(sizes), dim=3)]


def as_image(lines: Tensor, axis: int) -> Tensor:
    """(heads, N, lines, size, K) -> (N, heads * size, Y, X)."""
    planes = lines.permute(1, 0, 3, 2, 4).flatten(1, 2)
    return planes.transpose(2, 3) if axis == 2 else planes


def kept(tap: Tap, image: Tensor) -> Tensor:
    """(N, heads * size, Y, X) without the channels of heads that are switched off."""
    return tap.result(tap.heads(image, 1, HEADS))


def flat(lines: Tensor) -> Tensor:
    """(heads, N, lines, size, K) -> (heads * N * lines, size, K)."""
    return lines.flatten(0, 2)


def attend(
    tap: Tap, patches: int, query: Tensor, key: Tensor, value: Tensor, placed: Positions | None
) -> tuple[Tensor, Tensor]:
    """`axial_product` of (heads, N, lines, size, K), in that shape; weights go to the tap if it is listened to."""
    heads, images, lines, _, length = query.shape
    with torch.autocast(query.device.type, enabled=False):
        content, place = axial_product(flat(query), flat(key), flat(value), placed)
        if tap.listened:
            weights = axial_weights(flat(query), flat(key), placed)
            weights = weights.view(heads, images // patches**2, patches, patches, lines, length, length)
            tap.emit(weights=weights.permute(1, 2, 3, 4, 0, 5, 6))
    return content.view_as(value), place.view_as(value) if placed is not None else place
