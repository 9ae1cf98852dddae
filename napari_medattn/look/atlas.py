"""`Atlas`: a network's maps of one scan, made frame by frame and kept in bounded memory."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from napari_medattn.events import Progress, run_to_end
from napari_medattn.inference import AttentionMap
from napari_medattn.inference.placement import Box
from napari_medattn.inference.predictor import to_numpy
from napari_medattn.look.batches import tiles_at_once
from napari_medattn.look.part_of_map import draw_part
from napari_medattn.look.query import Answer, can_ask
from napari_medattn.look.scene import Glance, Scene, Spot

Float = NDArray[np.float32]
MAPS = 1 << 29  # bytes that maps may take
RECORDS = 400 << 20  # bytes that queries and keys kept for questions may take


@dataclass(frozen=True, eq=False)
class Page:
    """What looking at one frame adds to the atlas.

    Attributes:
        frame: The frame.
        maps: (heads, Z, Y, X) of the frame by site, at the site's stride.
        glances: Forward passes over some of the frame's tiles each, for questions.
    """

    frame: int
    maps: Mapping[str, Float] = field(default_factory=dict)
    glances: Sequence[Glance] = ()


class Atlas:
    """Maps by site and frame, and what is needed to ask about voxels; what was not used longest is forgotten first.

    Frames are made by `make` and `listen`, which change nothing and so may run beside a window, and are taken in by
    `keep`. Tiles go through the network a few at a time, so that what it holds for them does not add up.

    Args:
        scene: The scan before the network.
        limit: Bytes that the maps may take.
        answers_limit: Bytes that records for questions may take; a single forward pass over a few tiles may take
            more.
    """

    def __init__(self, scene: Scene, limit: int = MAPS, answers_limit: int = RECORDS) -> None:
        self.scene, self.limit, self.answers_limit = scene, limit, answers_limit
        self._maps: OrderedDict[tuple[str, int], Float] = OrderedDict()
        self._whole: dict[str, Float] = {}
        self._glances: OrderedDict[tuple[int, int], Glance] = OrderedDict()
        self._latest: dict[str, int] = {}
        self.bytes = 0

    def missing(self, frame: int, keys: Iterable[str]) -> list[str]:
        """The sites whose map of a frame is not here."""
        return [key for key in keys if not self.knows(frame, key)]

    def unheard(self, spot: Spot, keys: Iterable[str]) -> list[str]:
        """The sites that cannot be asked about a voxel before `listen`; those without queries are none of them."""
        glance = self.glance(spot)
        heard = glance.records if glance is not None else {}
        return [key for key in keys if key not in heard and can_ask(self.scene.site(key))]

    def knows(self, frame: int, key: str) -> bool:
        """Whether a site's map of a frame is here."""
        return key in self._whole or (key, frame) in self._maps

    def fits(self, keys: Iterable[str]) -> int:
        """Of how many frames the maps of these sites fit in at once; one of them always does."""
        voxels, size = math.prod(self.scene.frame_plan(0).padded), 0
        for key in keys:
            if key in self._whole:
                continue
            site, latest = self.scene.site(key), self._maps.get((key, self._latest.get(key, -1)))
            if latest is not None:
                size += latest.nbytes
            elif site.spatial:
                size += 4 * site.heads * voxels // math.prod(self.scene.stride(key))
        return max(1, self.limit // max(1, size))

    def make(self, frame: int, keys: Sequence[str], questions: Sequence[str] = ()) -> Page:
        """Look at a frame; see `make_steps`."""
        return run_to_end(self.make_steps(frame, keys, questions))

    def make_steps(
        self, frame: int, keys: Sequence[str], questions: Sequence[str] = (), tile: int = 0, room: int | None = None
    ) -> Generator[Progress, None, Page]:
        """One look at a frame that feeds all the given sites; can be left between any two forward passes.

        Args:
            frame: The frame.
            keys: Sites whose maps are wanted.
            questions: Sites that questions are to be asked of.
            tile: Which of the frame's tiles will be asked first.
            room: Bytes that may be kept for questions, as many as the atlas has for them if None; what is needed to
                ask ``tile`` is kept anyhow.

        Yields:
            Progress, between forward passes over a few tiles each.
        """
        room = self.answers_limit if room is None else room
        wanted, count = list(dict.fromkeys([*keys, *questions])), len(self.scene.starts(frame))
        found: dict[str, list[Float]] = {key: [] for key in keys}
        kept: list[Glance] = []
        for part in self._parts(frame):
            if part.start:
                yield Progress("looking", part.start, count, "tiles")
            glance = self.scene.glance(frame, wanted, part)
            for key in keys:
                found[key].append(maps_of(glance, key))
            if questions:
                records = {key: glance.records[key] for key in questions}
                kept.append(Glance(frame, glance.probabilities, records, glance.first))
                _forget_until_it_fits(kept, room, Spot(frame, tile, (0, 0, 0)))
        maps = {key: self.scene.blend(frame, key, np.concatenate(some)) for key, some in found.items()}
        return Page(frame, maps, kept)

    def listen(self, spot: Spot, keys: Sequence[str]) -> Page:
        """One forward pass over the tile that shows a voxel, and a few beside it, so that sites can be asked there."""
        part = next(part for part in self._parts(spot.frame) if spot.tile in part)
        return Page(spot.frame, glances=[self.scene.glance(spot.frame, keys, part)])

    def keep(self, page: Page) -> None:
        """Take in what `make` or `listen` made."""
        for key, values in page.maps.items():
            self._forget(key, page.frame)
            self._maps[key, page.frame] = values
            self._latest.setdefault(key, page.frame)
            self.bytes += values.nbytes
        while self.bytes > self.limit and len(self._maps) > len(page.maps):
            self._forget(*next(iter(self._maps)))
        for glance in page.glances:
            before = self._glances.pop((glance.frame, glance.first), None)
            records = {**(before.records if before else {}), **glance.records}
            self._glances[glance.frame, glance.first] = Glance(
                glance.frame, glance.probabilities, records, glance.first
            )
        while len(self._glances) > 1 and sum(map(_bytes, self._glances.values())) > self.answers_limit:
            self._glances.popitem(last=False)

    def _parts(self, frame: int) -> Iterator[range]:
        """A frame's tiles, a few at a time."""
        count, size = len(self.scene.starts(frame)), tiles_at_once(self.scene)
        for first in range(0, count, size):
            yield range(first, min(count, first + size))

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

    def glance(self, spot: Spot) -> Glance | None:
        """A forward pass over the tile that shows a voxel, if there is one to be asked."""
        found = next((key for key, glance in self._glances.items() if glance.shows(spot)), None)
        if found is None:
            return None
        self._glances.move_to_end(found)
        return self._glances[found]

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
        scene, key, spot = self.scene, answer.site.key, answer.spot
        start = scene.starts(spot.frame)[spot.tile]
        begin = tuple(first // step for first, step in zip(start, scene.stride(key), strict=True))
        slice_of = scene.prepared if scene.flat else None
        drawn: Float = draw_part(scene.placement(key), one_head(answer.values, head), begin, box, slice_of)[0]
        return drawn

    def show(self, frame: int, keys: Iterable[str]) -> None:
        """Let these be the maps that are in view: they are forgotten last, and of a 3-D network they are drawn."""
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


@torch.inference_mode()
def maps_of(glance: Glance, key: str) -> Float:
    """A site's maps (B, heads, Z, Y, X), one for each tile of a forward pass."""
    return to_numpy(glance.records[key].maps())


def _bytes(glance: Glance) -> int:
    """What a forward pass's records take; tensors that share memory count once."""
    tensors = (part for record in glance.records.values() for part in vars(record).values())
    storages = (tensor.untyped_storage() for tensor in tensors if isinstance(tensor, torch.Tensor))
    return sum({storage.data_ptr(): storage.nbytes() for storage in storages}.values())


def _forget_until_it_fits(glances: list[Glance], limit: int, spot: Spot) -> None:
    """Drop the oldest forward passes, but the one that shows ``spot`` last."""
    while len(glances) > 1 and sum(map(_bytes, glances)) > limit:
        oldest = next(index for index, glance in enumerate(glances) if not glance.shows(spot))
        del glances[oldest]


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
