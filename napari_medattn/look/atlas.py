"""`Atlas`: a network's maps of one scan, made frame by frame and kept in bounded memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_medattn.inference import AttentionMap
from napari_medattn.inference.placement import Box
from napari_medattn.look.query import Answer
from napari_medattn.look.scene import Glance, Scene

Float = NDArray[np.float32]
GLANCES = 8  # forward passes whose queries and keys are kept for questions


@dataclass(frozen=True, eq=False)
class Page:
    """What one forward pass adds to the atlas.

    Attributes:
        glance: The forward pass, for questions.
        maps: (heads, Z, Y, X) of the frame by site, at the site's stride.
    """

    glance: Glance
    maps: Mapping[str, Float]


class Atlas:
    """Maps by site and frame; the least recently shown are forgotten first.

    Frames are made by `make`, which changes nothing and so may run beside a window, and taken in by `keep`.

    Args:
        scene: The scan before the network.
        limit: Bytes that the maps may take.
    """

    def __init__(self, scene: Scene, limit: int = 1 << 29) -> None:
        self.scene, self.limit = scene, limit
        self._maps: OrderedDict[tuple[str, int], Float] = OrderedDict()
        self._whole: dict[str, Float] = {}
        self._glances: OrderedDict[int, Glance] = OrderedDict()
        self._latest: dict[str, int] = {}
        self.bytes = 0

    def missing(self, frame: int, keys: Iterable[str], *, questions: bool = False) -> list[str]:
        """The sites whose map of a frame is not here.

        Args:
            frame: The frame.
            keys: The sites.
            questions: Whether what is needed for questions about voxels must be here too.
        """
        asked = self._glances[frame].records if questions and frame in self._glances else {}
        return [key for key in keys if not self.knows(frame, key) or (questions and key not in asked)]

    def knows(self, frame: int, key: str) -> bool:
        """Whether a site's map of a frame is here."""
        return key in self._whole or (key, frame) in self._maps

    def make(self, frame: int, keys: Sequence[str]) -> Page:
        """One forward pass over a frame that feeds all the given sites."""
        glance = self.scene.glance(frame, keys)
        return Page(glance, {key: self.scene.map_of(glance, key) for key in keys})

    def keep(self, page: Page) -> None:
        """Take in what `make` made."""
        frame = page.glance.frame
        for key, values in page.maps.items():
            self._forget(key, frame)
            self._maps[key, frame] = values
            self._latest.setdefault(key, frame)
            self.bytes += values.nbytes
        before = self._glances.pop(frame, None)
        records = {**(before.records if before else {}), **page.glance.records}
        self._glances[frame] = Glance(frame, page.glance.probabilities, records)
        while len(self._glances) > GLANCES:
            self._glances.popitem(last=False)
        while self.bytes > self.limit and len(self._maps) > len(page.maps):
            self._forget(*next(iter(self._maps)))

    def adopt(self, found: AttentionMap) -> None:
        """Take in a map of the whole scan that was made with the mask."""
        if self.scene.predictor.sites.get(found.site.key) == found.site:
            self._whole[found.site.key] = found.values

    def begun(self, key: str) -> bool:
        """Whether any map of a site was ever here."""
        return key in self._whole or key in self._latest

    def sample(self, frame: int, key: str) -> Float | None:
        """The mean of a site's heads over a frame, in multiples of the even share; None if it is not here."""
        known = self._maps.get((key, frame))
        if known is None and key in self._whole:
            known = self._whole[key][(slice(None), *self.scene.span(frame, key))]
        return None if known is None else self._in_shares(key, known.mean(axis=0))

    def glance(self, frame: int) -> Glance | None:
        """The forward pass over a frame, if it is still here."""
        return self._glances.get(frame)

    def matrix(self, frame: int, key: str) -> Float | None:
        """The mean matrix (heads, C, C) of channel attention over a frame's tiles, if it is here."""
        found = self._maps.get((key, frame))
        return None if found is None else found[:, 0]

    def draw(self, key: str, head: int | None, box: Box) -> Float:
        """A site's map on a box of the image, softmax ones in multiples of the even share.

        Args:
            key: The site.
            head: Which head; the mean of all for None.
            box: Slices (Z, Y, X) of the source image.

        Returns:
            (Z, Y, X) of the box; nan where the map is not known.
        """
        placement = self.scene.placement(key)
        spans = placement.needed(box)
        if key in self._whole:
            values = one_head(self._whole[key][(slice(None), *spans)], head)
            return self._in_shares(key, placement.draw(values, box)[0])
        patch = _Patch(spans)
        for frame in self._frames(key, spans[0]):
            known = self._maps.get((key, frame))
            if known is not None:
                patch.put(one_head(known, head), self.scene.span(frame, key))
        return self._in_shares(key, placement.draw(patch.values, box, patch.known)[0])

    def draw_answer(self, answer: Answer, head: int | None, box: Box) -> Float:
        """What a voxel was answered, on a box (Z, Y, X) of the image; nan outside the voxel's tile."""
        key, spot = answer.site.key, answer.spot
        values = one_head(answer.values, head)
        placement = self.scene.placement(key)
        spans = placement.needed(box)
        start, stride = self.scene.starts(spot.frame)[spot.tile], self.scene.stride(key)
        begin = [first // step for first, step in zip(start, stride, strict=True)]
        z, y, x = (slice(first, first + size) for first, size in zip(begin, values.shape[1:], strict=True))
        patch = _Patch(spans)
        patch.put(values, (z, y, x))
        drawn: Float = placement.draw(patch.values, box, patch.known)[0]
        return drawn

    def show(self, frame: int, keys: Iterable[str]) -> None:
        """Let these be the maps that are in view: they are forgotten last, and of a 3-D network they are drawn."""
        if frame in self._glances:
            self._glances.move_to_end(frame)
        for key in keys:
            if (key, frame) in self._maps:
                self._maps.move_to_end((key, frame))
                self._latest[key] = frame

    def _frames(self, key: str, planes: slice) -> Iterable[int]:
        """Frames to draw from: for a 2-D network those of the planes, for a 3-D one the tile in view."""
        if self.scene.flat:
            return range(planes.start, planes.stop)
        return (self._latest[key],) if key in self._latest else ()

    def _in_shares(self, key: str, values: Float) -> Float:
        shares: Float = np.divide(values, np.float32(self.scene.site(key).even_share(self.scene.plan.tile)))
        return shares

    def _forget(self, key: str, frame: int) -> None:
        gone = self._maps.pop((key, frame), None)
        self.bytes -= 0 if gone is None else gone.nbytes


def one_head(values: Float, head: int | None) -> Float:
    """One head (1, Z, Y, X) of (heads, Z, Y, X), or the mean of all for None."""
    return values.mean(axis=0, keepdims=True) if head is None else values[head : head + 1]


class _Patch:
    """A window of a map that is filled part by part.

    Attributes:
        values: (1, Z, Y, X) of the window, zero where nothing was put.
        known: Along each axis, which positions something was put at.
    """

    def __init__(self, window: Box) -> None:
        self._window = window
        self.values: Float = np.zeros((1, *(span.stop - span.start for span in window)), np.float32)
        self.known = [np.zeros(size, bool) for size in self.values.shape[1:]]

    def put(self, values: Float, place: Box) -> None:
        """Put (1, Z, Y, X) values that lie at ``place`` of the whole map; what is outside the window is left out."""
        target, source = [], []
        for seen, there in zip(self._window, place, strict=True):
            first = max(seen.start, there.start)
            last = max(first, min(seen.stop, there.stop))
            target.append(slice(first - seen.start, last - seen.start))
            source.append(slice(first - there.start, last - there.start))
        self.values[(slice(None), *target)] = values[(slice(None), *source)]
        for known, part in zip(self.known, target, strict=True):
            known[part] = True
