"""`FrameInput`: what a network is given for one frame, to be changed and run again."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from napari_medattn.data.prepare import resample
from napari_medattn.data.tiles import Stitcher, TilePlan, cut
from napari_medattn.errors import GeometryError, InputError
from napari_medattn.inference import Predictor
from napari_medattn.inference.placement import Box, Placement
from napari_medattn.look.batches import VOXELS
from napari_medattn.look.part_of_map import nearest_voxels
from napari_medattn.look.scene import Scene
from napari_medattn.models.convolution import resize

Float = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class FrameInput:
    """The prepared image of one frame.

    Attributes:
        scene: The scan before the network.
        frame: The frame's number.
        image: (C, Z, Y, X) without the padding of the tiles.
        plan: How it is cut into tiles.
        box: Where it lies in the prepared volume.
    """

    scene: Scene
    frame: int
    image: Float
    plan: TilePlan
    box: Box

    @classmethod
    def of(cls, scene: Scene, frame: int) -> FrameInput:
        """A frame of a scan.

        Raises:
            InputError: If the scan has no such frame.
        """
        if not 0 <= frame < scene.frames:
            raise InputError(
                f"{scene.volume.name} has no frame {frame} for {scene.predictor.card.name}.",
                f"Its frames go from 0 to {scene.frames - 1}.",
            )
        whole = scene.frame_plan(frame)
        begin = (frame, 0, 0) if scene.flat else scene.starts(frame)[0]
        ends = (
            min(first + size, limit) for first, size, limit in zip(begin, whole.shape, scene.plan.shape, strict=True)
        )
        z, y, x = (slice(first, end) for first, end in zip(begin, ends, strict=True))
        image = scene.prepared.array[:, z, y, x]
        plan = TilePlan(tuple(image.shape[1:]), whole.padded, whole.tile, whole.starts)
        return cls(scene, frame, image, plan, (z, y, x))

    def tiles(self, image: Float) -> list[Float]:
        """Some image (C, Z, Y, X) of this size as the network's tiles (C, *tile)."""
        return [cut(image, self.plan, start) for start in self.plan.starts]

    def blend(self, outputs: Iterable[Float]) -> Float:
        """What the network says of the tiles, (K, *tile) each, as one (K, Z, Y, X)."""
        stitcher: Stitcher | None = None
        for start, one in zip(self.plan.starts, outputs, strict=True):
            stitcher = stitcher or Stitcher(self.plan, len(one))
            stitcher.add(start, one)
        assert stitcher is not None
        return self._crop(stitcher.result())

    def on_voxels(self, values: Float) -> Float:
        """A map (N, z, y, x) at a site's stride, on the image's voxels by linear interpolation: (N, Z, Y, X)."""
        # A single slice is resized as such: 2-D networks keep their slices apart anyway.
        flat = values.shape[1] == self.plan.padded[0]
        map_, size = (values, self.plan.padded[1:]) if flat else (values[None], self.plan.padded)
        found = resize(torch.from_numpy(np.ascontiguousarray(map_)), tuple(size), align_corners=False).numpy()
        return self._crop(found if flat else found[0])

    def labels(self, reference: NDArray[np.integer]) -> NDArray[np.integer]:
        """Labels (Z, Y, X) of the source image on the image's voxels, by the nearest voxel.

        Raises:
            GeometryError: If they have another shape than the source image.
        """
        source = self.scene.volume.grid.shape
        if reference.shape != source:
            raise GeometryError(
                f"The reference has shape {reference.shape}, {self.scene.volume.name} has {source}.",
                "Give labels on the image's own grid.",
            )
        z, y, x = self.scene.prepared.array.shape[1:]
        turned = self.scene.prepared.turn.apply(reference[None])
        found: NDArray[np.integer] = resample(turned, (z, y, x), order=0)[0][self.box].astype(np.int64)
        return found

    def on_source(self, values: Float) -> tuple[Float, Box]:
        """(N, Z, Y, X) on the image's voxels -> (N, box) on the source image's, and the box that the frame covers.

        Interpolated linearly inside the frame; at its faces, what is outermost goes on.
        """
        scene = self.scene
        placement = Placement(scene.prepared, scene.plan.padded, (1, 1, 1))
        spans: list[slice] = [slice(0, 0)] * 3
        for axis, inside in enumerate(self.box):
            spans[scene.prepared.turn.order[axis]] = nearest_voxels(scene.prepared, axis, inside)
        box = (spans[0], spans[1], spans[2])
        for axis, (needed, inside) in enumerate(zip(placement.needed(box), self.box, strict=True)):
            at = np.arange(needed.start, needed.stop).clip(inside.start, inside.stop - 1) - inside.start
            values = values.take(at, axis=axis + 1)
        return placement.draw(values, box), box

    def _crop(self, values: Float) -> Float:
        z, y, x = self.plan.shape
        return values[:, :z, :y, :x]


def frame_passes(
    predictor: Predictor,
    work: Iterable[tuple[FrameInput, Float]],
    around: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Iterator[list[Float]]:
    """Run images of frames through a network, tiles of several together where they are small.

    Args:
        predictor: The network.
        work: Frames, and an image (C, Z, Y, X) for each; made as they are needed.
        around: A bracket that is put around each forward pass, and around nothing else.

    Yields:
        After each forward pass the class probabilities (K, Z, Y, X) of the images that it finished, in order.
    """
    waiting: list[tuple[FrameInput, int]] = []  # images on their way, and how many of their outputs are missing
    outputs: list[Float] = []
    batch: list[Float] = []

    def run() -> list[Float]:
        with around():
            found, _ = predictor.run(np.stack(batch))
        batch.clear()
        outputs.extend(found)
        done = []
        while waiting and waiting[0][1] <= len(outputs):
            frame, count = waiting.pop(0)
            done.append(frame.blend(outputs[:count]))
            del outputs[:count]
        return done

    for frame, image in work:
        waiting.append((frame, len(frame.plan)))
        for tile in frame.tiles(image):
            batch.append(tile)
            if len(batch) >= max(1, VOXELS // math.prod(tile.shape[1:])):
                yield run()
    if batch:
        yield run()
