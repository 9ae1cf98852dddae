"""`Predictor`: a network on a device, ready to be called tile by tile."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from napari_medattn.attention import Record, capture_attention
from napari_medattn.data import Volume
from napari_medattn.device import resolve_device
from napari_medattn.errors import InputError
from napari_medattn.inference.estimate import forward_bytes
from napari_medattn.models import AttentionSite, attention_sites, prepare_for_inference
from napari_medattn.store import Card, Checkpoint, load_checkpoint

Float = NDArray[np.float32]
_HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Predictor:
    """A network made ready for inference, with what is known of it.

    Args:
        model: The network; it is copied, so that later training does not change this predictor.
        card: Its card.
        device: Where to compute.
        precision: ``"fp32"``, or ``"bf16"`` or ``"fp16"`` (not on a CPU) for autocast: faster on some processors, with
            a slightly other result.
        compiled: Let torch compile the network at its first forward pass, which takes minutes and pays for long runs
            on some devices; attention is still looked at in the network as it is.

    Raises:
        InputError: If there is no such precision on the device.
    """

    def __init__(
        self, model: nn.Module, card: Card, device: torch.device, precision: str = "fp32", compiled: bool = False
    ) -> None:
        check_precision(precision, device)
        self.card, self.device, self.precision = card, device, precision
        layout = torch.channels_last_3d if card.spatial_dims == 3 else torch.channels_last
        fast = prepare_for_inference(model)
        self.model = fast.to(device=device, memory_format=layout)  # type: ignore[call-overload]
        self._compiled = torch.compile(self.model) if compiled else None
        self._bytes: dict[tuple[int, ...], int | None] = {}
        self.sites: dict[str, AttentionSite] = {site.key: site for site in attention_sites(model)}

    @classmethod
    def load(
        cls, checkpoint: Checkpoint, device: str = "auto", precision: str = "fp32", compiled: bool = False
    ) -> Predictor:
        """Build a checkpoint's network on a device given by name."""
        there = resolve_device(device)
        check_precision(precision, there)
        return cls(checkpoint.build(), checkpoint.card, there, precision, compiled)

    @classmethod
    def named(
        cls, checkpoint: Checkpoint | str | Path, device: str = "auto", precision: str = "fp32", compiled: bool = False
    ) -> Predictor:
        """`load` a checkpoint that is given by itself, by its name or by its path."""
        found = checkpoint if isinstance(checkpoint, Checkpoint) else load_checkpoint(checkpoint)
        return cls.load(found, device, precision, compiled)

    @property
    def channels(self) -> int:
        """Channels of an image; with neighbours the network sees several slices of each."""
        return self.card.in_channels // self.card.preparation.slices

    @property
    def stride(self) -> tuple[int, int, int]:
        """The multiple that tiles need along (Z, Y, X)."""
        z, y, x = _three_axes(self.model.stride)
        return z, y, x

    def check(self, volume: Volume) -> None:
        """Check that the network can make sense of a volume.

        Raises:
            InputError: Saying what differs and what to choose instead.
        """
        channels = self.channels
        if volume.channels != channels:
            what = "an RGB image" if volume.channels in (3, 4) else f"an image of {volume.channels} channels"
            raise InputError(
                f"{volume.name} is {what}, {self.card.name} was trained on {channels} channel(s).",
                "Choose a checkpoint for such images, or open one channel of it as an image of its own.",
            )
        if self.card.spatial_dims == 3 and volume.grid.shape[0] == 1:
            raise InputError(
                f"{volume.name} is a single slice, {self.card.name} needs a volume.",
                "Choose a 2-D checkpoint.",
            )

    def probabilities(self, tiles: Float, sites: Sequence[str] = ()) -> tuple[Float, dict[str, Float]]:
        """Run one batch.

        Args:
            tiles: (B, C, Z, Y, X) prepared; Z = 1 for a 2-D network.
            sites: Keys of the sites whose maps are wanted.

        Returns:
            Class probabilities (B, K, Z, Y, X), and maps (B, heads, Z', Y', X') by site; for sites of channel
            attention (B, heads, 1, C, C).
        """
        found, records = self.run(tiles, sites)
        with torch.inference_mode():
            return found, {key: to_numpy(record.maps()) for key, record in records.items()}

    def run(self, tiles: Float, sites: Sequence[str] = ()) -> tuple[Float, Mapping[str, Record]]:
        """Run one batch and keep what is needed to ask about the attention of some sites afterwards.

        Args:
            tiles: (B, C, Z, Y, X) prepared; Z = 1 for a 2-D network.
            sites: Keys of the sites.

        Returns:
            Class probabilities (B, K, Z, Y, X), and records by site key; their tensors stay on the device.
        """
        found, records = self.forward(torch.from_numpy(tiles).to(self.device), sites)
        return to_numpy(found), records

    @torch.inference_mode()
    def forward(self, x: Tensor, sites: Sequence[str] = ()) -> tuple[Tensor, Mapping[str, Record]]:
        """`run` from and to tensors on the device, in float32."""
        flat = self.card.spatial_dims == 2
        with ExitStack() as stack:
            if self.precision != "fp32":
                stack.enter_context(torch.autocast(self.device.type, _HALF[self.precision]))
            records = stack.enter_context(capture_attention(self.model, sites)) if sites else {}
            network = self.model if sites or self._compiled is None else self._compiled
            logits = network(x[:, :, 0] if flat else x)
        found = logits.float().softmax(dim=1)
        return found[:, :, None] if flat else found, records

    def changed(self, device: str | None = None, precision: str | None = None) -> Predictor:
        """The same network elsewhere or in another precision; this one stays as it is."""
        there = self.device if device is None else torch.device(device)
        model = self.model if there == self.device else copy.deepcopy(self.model)
        other = copy.copy(self)
        other.device, other.precision = there, precision or self.precision
        if model is not self.model:
            other.model, other._compiled = model.to(there), None
        return other

    def forward_bytes(self, tile: Sequence[int]) -> int | None:
        """What a forward pass over one tile (Z, Y, X) takes in single precision, or None if that cannot be said."""
        key = tuple(tile)
        if key not in self._bytes:
            sides = key if self.card.spatial_dims == 3 else key[1:]
            self._bytes[key] = forward_bytes(self.model, (1, self.card.in_channels, *sides))
        return self._bytes[key]

    def free(self) -> None:
        """Give memory that the device only caches back to it."""
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def check_precision(precision: str, device: torch.device) -> None:
    """Check that a device can compute in a precision.

    Raises:
        InputError: Saying which there are.
    """
    known = ("fp32", "bf16") if device.type == "cpu" else ("fp32", "bf16", "fp16")
    if precision not in known:
        raise InputError(
            f"There is no precision {precision!r} on {device.type}.", f"Use {', '.join(known[:-1])} or {known[-1]}."
        )


def to_numpy(tensor: Tensor) -> Float:
    """(B, N, [Z,] Y, X) on any device -> (B, N, Z, Y, X) in memory; Z = 1 for a 2-D one."""
    values: Float = tensor.float().cpu().numpy()
    return values[:, :, None] if values.ndim == 4 else values


def _three_axes(stride: tuple[int, ...]) -> tuple[int, ...]:
    """A stride over (Y, X) or (Z, Y, X) as one over (Z, Y, X)."""
    return (1,) * (3 - len(stride)) + tuple(stride)
