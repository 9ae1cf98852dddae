"""What `bench engine` measures: volumes, small networks, and the runs over them that are compared."""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from napari_medattn.data import Preparation, Volume, prepare
from napari_medattn.events import Progress
from napari_medattn.geometry import Grid
from napari_medattn.inference import Predictor, RunSettings, segment_steps
from napari_medattn.models import create_model
from napari_medattn.store import Card

Tile = tuple[int, int, int]
CLASSES = 3
PAPER, SMALL, LIGHTEST = 4, 16, 64  # feature scales of the 3-D Attention U-Net: widths are divided by them


def network(scale: int, tile: Tile) -> Predictor:
    """An untrained 3-D Attention U-Net on the CPU; what it says does not matter here."""
    torch.manual_seed(0)
    arguments: dict[str, Any] = {"in_channels": 1, "num_classes": CLASSES, "spatial_dims": 3, "feature_scale": scale}
    names = ("background", "one", "two")
    card = Card("bench", "attention_unet", arguments, names, Preparation(orientation="RAS"), tile)
    return Predictor(create_model("attention_unet", **arguments).eval(), card, torch.device("cpu"))


class OneConvolution(nn.Conv3d):
    """Next to no network at all: what is left is the engine."""

    stride = (1, 1, 1)

    def __init__(self) -> None:
        super().__init__(1, CLASSES, 3, padding=1)

    def sites(self) -> list[Any]:
        """It attends to nothing."""
        return []


def bare(tile: Tile) -> Predictor:
    """One convolution in place of a network."""
    torch.manual_seed(0)
    return Predictor(OneConvolution().eval(), network(LIGHTEST, tile).card, torch.device("cpu"))


def ct_like(shape: Sequence[int], file: Path | None = None) -> Volume:
    """An int16 volume with the range of a CT, made slice by slice, in memory or memory-mapped."""
    size = (1, *shape)
    array: NDArray[Any] = (
        np.empty(size, np.int16) if file is None else np.lib.format.open_memmap(file, "w+", np.int16, size)
    )
    y, x = np.ogrid[-1 : 1 : shape[1] * 1j, -1 : 1 : shape[2] * 1j]
    body = np.where(y**2 + x**2 < 0.8, 40, -1000)
    random = np.random.default_rng(0)
    noise = random.normal(0, 30, shape[1:])
    for index in range(shape[0]):
        array[0, index] = body + np.roll(noise, index * 7, axis=index % 2)
    return Volume(array, Grid.from_spacing((shape[0], shape[1], shape[2]), (1.0, 1.0, 1.0)), name="bench")


@dataclass
class Tally:
    """Processor seconds of the network's own forward passes, out of which a run consists.

    Attributes:
        network: Seconds inside the network.
        total: Seconds of the whole run.
    """

    network: float = 0.0
    total: float = 0.0
    _began: list[float] = field(default_factory=list)

    def watch(self, model: nn.Module) -> list[Any]:
        """Hooks around each forward pass; to be removed."""
        return [
            model.register_forward_pre_hook(lambda *_: self._began.append(time.process_time())),
            model.register_forward_hook(lambda *_: self._add()),
        ]

    def _add(self) -> None:
        self.network += time.process_time() - self._began.pop()


def timed(predictor: Predictor, volume: Volume, settings: RunSettings) -> Generator[Progress, None, Tally]:
    """Segment a volume and tell how much of the time was the network's."""
    tally = Tally()
    hooks = tally.watch(predictor.model)
    try:
        began = time.process_time()
        yield from segment_steps(volume, predictor, settings=settings)
        tally.total = time.process_time() - began
    finally:
        for hook in hooks:
            hook.remove()
    return tally


def with_monai(predictor: Predictor, volume: Volume, settings: RunSettings) -> NDArray[np.uint8]:
    """The same by MONAI's sliding window, with equal settings, from the volume to the mask."""
    from monai.inferers import sliding_window_inference

    prepared = prepare(volume, predictor.card.preparation)
    with torch.inference_mode():
        logits = sliding_window_inference(
            torch.from_numpy(prepared.array)[None],
            predictor.card.tile,
            settings.batch or 1,
            lambda x: predictor.model(x).softmax(dim=1),
            overlap=settings.overlap,
            mode="gaussian",
            sigma_scale=0.125,
            padding_mode="replicate",
        )
        winner = logits[0].argmax(dim=0).to(torch.uint8)
    return np.ascontiguousarray(prepared.turn.undo(winner.numpy()[None])[0])
