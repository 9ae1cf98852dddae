"""One pass of a network over the tiles of a volume, within bounded memory."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_medattn.data.slabs import Slabs
from napari_medattn.data.tiles import Shape, Stitcher, TileMean, TilePlan, cut
from napari_medattn.events import Progress
from napari_medattn.inference.blend import Batches, RollingBlend
from napari_medattn.inference.outputs import Outputs
from napari_medattn.inference.predictor import Predictor, to_numpy
from napari_medattn.inference.run_events import SlicesReady
from napari_medattn.inference.settings import Attempt

Float = NDArray[np.float32]
_IN_FLIGHT = 2  # batches that a device may be behind, so that Cancel stays quick


class AccumulatorError(MemoryError):
    """The unfinished slices do not fit where they were to be kept."""


@dataclass(eq=False)
class Pass:
    """One attempt at a volume.

    Attributes:
        predictor: The network, on the attempt's device and in its precision.
        slabs: The volume, measured.
        plan: How it is cut.
        batches: First voxels of the tiles to run, in scan order, in batches.
        attempt: What it works with.
        outputs: Where finished slices go.
        flips: Axes of (Z, Y, X) to mirror along, one entry per forward pass; the first is empty.
        sites: Attention sites whose maps are wanted.
        half: Keep unfinished slices in half precision.
        tell_slices: Tell of slices as they are finished.
    """

    predictor: Predictor
    slabs: Slabs
    plan: TilePlan
    batches: Batches
    attempt: Attempt
    outputs: Outputs
    flips: Sequence[tuple[int, ...]] = ((),)
    sites: Sequence[str] = ()
    half: bool = False
    tell_slices: bool = False

    def steps(self) -> Generator[Progress, None, dict[str, Float]]:
        """Run it; can be left after every batch.

        Yields:
            Progress, once before the first tile and once after each batch, and slices that are finished.

        Returns:
            The blended maps of the attention sites, on the padded grid at their own stride.
        """
        total, done, began = sum(len(batch) for batch in self.batches), 0, time.monotonic()
        yield Progress("segmenting", 0, total, "tiles")
        blend, maps, flight = self._accumulator(), Maps(self), Flight(self.predictor.device)
        skips = self.slabs.skip_below is not None
        for batch in self.batches:
            first, stop = batch[0][0], batch[-1][0] + self.plan.tile[0]
            now = Progress("segmenting", done, total, "tiles", time.monotonic() - began)
            yield from self._finish(blend, first, now)
            slab = self.slabs.slab(first, min(stop, self.plan.shape[0]))
            shown = [start for start in batch if not skips or self._bright(start)]
            for start in (start for start in batch if start not in shown):
                blend.add_background(start)
            if shown:
                found = self._forward(self._tiles(slab, first, shown), shown, maps)
                for start, one in zip(shown, found, strict=True):
                    blend.add(start, one)
                del found
                flight.launched()
            done += len(batch)
            yield Progress("segmenting", done, total, "tiles", time.monotonic() - began)
        now = Progress("segmenting", done, total, "tiles", time.monotonic() - began)
        yield from self._finish(blend, self.plan.padded[0], now)
        return maps.result()

    def _accumulator(self) -> RollingBlend:
        classes = len(self.predictor.card.class_names)
        try:
            return RollingBlend(
                self.plan, self.batches, classes, self.predictor.device, self.attempt.accumulator, self.half
            )
        except (MemoryError, RuntimeError) as error:
            raise AccumulatorError(str(error)) from error

    def _finish(self, blend: RollingBlend, until: int, now: Progress) -> Generator[Progress, None, None]:
        """Hand on the slices in front of ``until``."""
        first, planes = blend.ready(until)
        box = self.outputs.put(first, planes, blend.origin)
        blend.forget(until)
        if box is not None and self.tell_slices:
            labels = self.outputs.labels[box]
            yield SlicesReady(now.stage, now.done, now.total, now.unit, now.seconds, box, labels)

    def _bright(self, start: Shape) -> bool:
        stops = (min(a + n, whole) for a, n, whole in zip(start, self.plan.tile, self.plan.shape, strict=True))
        z, y, x = (slice(a, b) for a, b in zip(start, stops, strict=True))
        return self.slabs.bright((z, y, x))

    def _tiles(self, slab: Float, first: int, starts: Sequence[Shape]) -> Tensor:
        """A batch of tiles (B, C, Z, Y, X) on the device."""
        cuda = self.predictor.device.type == "cuda"
        tiles = torch.empty((len(starts), len(slab), *self.plan.tile), pin_memory=cuda)
        for tile, start in zip(tiles.numpy(), starts, strict=True):
            tile[...] = cut(slab, self.plan, start, first)
        return tiles.to(self.predictor.device, non_blocking=cuda)

    @torch.inference_mode()
    def _forward(self, x: Tensor, starts: Sequence[Shape], maps: Maps) -> Tensor:
        """Probabilities (B, K, Z, Y, X), the mean over all mirrored passes."""
        found, records = self.predictor.forward(x, self.sites)
        maps.add(starts, records)
        for axes in self.flips[1:]:
            dims = [axis + 2 for axis in axes]
            other, _ = self.predictor.forward(x.flip(dims))
            found += other.flip(dims)
        return found / len(self.flips) if len(self.flips) > 1 else found


class Maps:
    """The attention maps of tiles, blended into maps of the whole."""

    def __init__(self, run: Pass) -> None:
        self._plan, self._sites = run.plan, run.predictor.sites
        self._blended: dict[str, Stitcher | TileMean] = {}

    @torch.inference_mode()
    def add(self, starts: Sequence[Shape], records: Any) -> None:
        """Add what sites did in some tiles."""
        for key, record in records.items():
            values = to_numpy(record.maps())
            if key not in self._blended:
                self._blended[key] = self._blender(values) if self._sites[key].spatial else TileMean()
            for start, one in zip(starts, values, strict=True):
                self._blended[key].add(start, one)

    def result(self) -> dict[str, Float]:
        """The maps by site."""
        return {key: blended.result() for key, blended in self._blended.items()}

    def _blender(self, values: Float) -> Stitcher:
        """For maps (B, heads, Z, Y, X) of tiles."""
        stride = tuple(t // n for t, n in zip(self._plan.tile, values.shape[2:], strict=True))
        return Stitcher(self._plan, values.shape[1], stride)


class Flight:
    """Keeps a device from being sent far more batches than it has finished."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._events: deque[torch.cuda.Event] = deque()

    def launched(self) -> None:
        """Wait until the batch before the latest ones is finished."""
        if not self._cuda:
            return
        event = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record()
        self._events.append(event)
        if len(self._events) >= _IN_FLIGHT:
            self._events.popleft().synchronize()
