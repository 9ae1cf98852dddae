"""Before and after: where and how much the attention of two checkpoints of one network differs on a scan."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from napari_medattn.attention import Record
from napari_medattn.attention.capture import choose_sites
from napari_medattn.attention.divergence import MEANS, Divergence, Measure, divergence
from napari_medattn.data.tiles import Stitcher
from napari_medattn.errors import InputError
from napari_medattn.events import Progress
from napari_medattn.inference import Predictor
from napari_medattn.inference.predictor import to_numpy
from napari_medattn.look.batches import batches, inside, starts_of
from napari_medattn.look.part import Part
from napari_medattn.look.scene import Scene
from napari_medattn.models import AttentionSite, get_spec
from napari_medattn.store import Card

Float = NDArray[np.float32]
KEEP = 1 << 29  # bytes of difference maps that are kept; the others can be made one by one
_SMALLEST_LIMIT = 1e-3


@dataclass(frozen=True)
class SiteChange:
    """How much one site's attention changed.

    Attributes:
        key: The site.
        title: Its name for people.
        kind: What kind of attention it is.
        value: The change, mean over the heads, 0..1.
        heads: The change of each head.
        map_value: The change of the overview maps alone, mean over the heads; None for channel attention.
        measure: How it was measured.
        note: What the number is, in words.
    """

    key: str
    title: str
    kind: str
    value: float
    heads: tuple[float, ...]
    map_value: float | None
    measure: Measure
    note: str


@dataclass(frozen=True, eq=False)
class Comparison:
    """What `before_after_steps` found.

    Attributes:
        before: Card of the one checkpoint.
        after: Card of the other.
        changes: The sites, those that changed most first.
        differences: After minus before by site, the mean of the heads, softmax maps in multiples of the even share;
            without channel attention, and without what would not have fitted into `KEEP`.
        related: Whether one checkpoint is known to come from the other, or both from a third.
    """

    before: Card
    after: Card
    changes: tuple[SiteChange, ...]
    differences: Mapping[str, Part]
    related: bool

    @property
    def note(self) -> str:
        """What to keep in mind when reading it; empty if nothing."""
        if self.related:
            return ""
        return (
            "Neither is known to be trained from the other, so heads and channels of one number need not correspond; "
            "compare the maps."
        )


def change_limit(on_image: Float) -> float:
    """Where the colours of a difference on the image end, on either side of zero; nearly its largest value.

    Args:
        on_image: (Z, Y, X), nan where not known.
    """
    some = on_image.ravel()[:: max(1, on_image.size // 1_000_000)]
    some = np.abs(some[np.isfinite(some)])
    return max(_SMALLEST_LIMIT, float(np.percentile(some, 99.5))) if some.size else _SMALLEST_LIMIT


def what_differs(before: Card, after: Card) -> list[str]:
    """Why the attention of two checkpoints cannot be compared, in words; empty if it can."""
    found = []
    if before.network != after.network:
        return [f"the network is {before.network} in {before.name} and {after.network} in {after.name}"]
    defaults = get_spec(before.network).options
    one_has, other_has = ({**defaults, **card.arguments} for card in (before, after))
    sides = [(name, one_has.get(name), other_has.get(name)) for name in sorted({*one_has, *other_has})]
    sides.append(("tile", before.tile, after.tile))
    one_has, other_has = asdict(before.preparation), asdict(after.preparation)
    sides += [(f"preparation: {name}", one_has[name], other_has[name]) for name in one_has]
    for name, one, other in sides:
        if one != other:
            found.append(f"{name} is {one} in {before.name} and {other} in {after.name}")
    return found


def check_comparable(before: Card, after: Card) -> None:
    """Refuse checkpoints of different networks.

    Raises:
        InputError: Saying what differs.
    """
    if differs := what_differs(before, after):
        raise InputError(
            f"{before.name} and {after.name} cannot be compared: {'; '.join(differs)}.",
            "Choose two checkpoints of one network, for example one and what was fine-tuned from it.",
        )


def before_after_steps(
    scene: Scene,
    before: Predictor,
    after: Predictor,
    *,
    frame: int | None = None,
    sites: Iterable[str] | None = None,
    keep: int = KEEP,
) -> Generator[Progress, None, Comparison]:
    """Compare the attention of two checkpoints on a scan; each tile goes through each network once.

    Args:
        scene: The scan before either of the two, or before another checkpoint of the network.
        before: The one.
        after: The other.
        frame: One frame; the whole scan for None.
        sites: Keys of the sites; all for None.
        keep: Bytes that the difference maps may take.

    Yields:
        Progress, before the first batch of tiles and after each.

    Raises:
        InputError: If the networks are not the same; it says what differs.
    """
    check_comparable(before.card, after.card)
    check_comparable(scene.predictor.card, before.card)
    keys = [site.key for site in choose_sites(before.model, sites)]
    starts, began, done = starts_of(scene, None if frame is None else [frame]), time.monotonic(), 0
    canvas = _Canvas(scene, frame, keys, keep)
    found: dict[str, list[Divergence]] = {key: [] for key in keys}
    yield Progress("comparing", 0, len(starts), "tiles")
    for some, tiles in batches(scene, starts):
        one, other = (network.run(tiles, keys)[1] for network in (before, after))
        for key in keys:
            found[key].append(divergence(one[key], other[key], inside(scene, some, key)))
            canvas.add(key, some, one[key], other[key])
        del one, other
        done += len(some)
        yield Progress("comparing", done, len(starts), "tiles", time.monotonic() - began)
    changes = [_change(scene.site(key), found[key]) for key in keys]
    changes.sort(key=lambda change: change.value, reverse=True)
    return Comparison(before.card, after.card, tuple(changes), canvas.result(), related(before.card, after.card))


def came_first(one: Card, other: Card) -> bool:
    """Whether ``one`` is the older of two checkpoints: the other's parent, or else not created after it."""
    if one.parent and one.parent == other.weights_sha256:
        return False
    if other.parent and other.parent == one.weights_sha256:
        return True
    return one.created <= other.created


def related(before: Card, after: Card) -> bool:
    """Whether one checkpoint was trained from the other, or both from a third."""
    one, other = ({card.weights_sha256, card.parent} - {None, ""} for card in (before, after))
    return bool(one & other)


class _Canvas:
    """Difference maps that grow tile by tile."""

    def __init__(self, scene: Scene, frame: int | None, keys: Sequence[str], keep: int) -> None:
        self.scene, self.frame = scene, frame
        self.plan = scene.plan if frame is None else scene.frame_plan(frame)
        first = (0, 0, 0) if frame is None else ((frame, 0, 0) if scene.flat else scene.starts(frame)[0])
        self.first = first
        self._stitchers: dict[str, Stitcher] = {}
        for key in keys:
            if scene.site(key).spatial:
                keep -= math.prod(n // s for n, s in zip(self.plan.padded, scene.stride(key), strict=True)) * 4
                if keep >= 0:
                    self._stitchers[key] = Stitcher(self.plan, 1, scene.stride(key))

    @torch.inference_mode()
    def add(self, key: str, starts: Sequence[tuple[int, ...]], before: Record, after: Record) -> None:
        if key not in self._stitchers:
            return
        share = np.float32(self.scene.site(key).even_share(self.scene.plan.tile))
        change = to_numpy((after.maps().float() - before.maps().float()).mean(dim=1, keepdim=True)) / share
        for start, values in zip(starts, change, strict=True):
            self._stitchers[key].add(tuple(a - b for a, b in zip(start, self.first, strict=True)), values)

    def result(self) -> dict[str, Part]:
        return {
            key: Part(self.scene, key, self.frame, stitcher.result()[0]) for key, stitcher in self._stitchers.items()
        }


def _change(site: AttentionSite, parts: Sequence[Divergence]) -> SiteChange:
    counts = np.array([part.count for part in parts], float)
    rows = np.average([part.rows for part in parts], axis=0, weights=counts)
    maps = [part.maps for part in parts if part.maps is not None]
    measure = parts[0].measure
    return SiteChange(
        key=site.key,
        title=site.title,
        kind=site.kind,
        value=float(rows.mean()),
        heads=tuple(float(value) for value in rows),
        map_value=float(np.average([one.mean() for one in maps], weights=counts)) if maps else None,
        measure=measure,
        note=MEANS[measure],
    )
