"""Does it matter? Switch off heads, sites and gates, one at a time, and watch the mask.

Heads are ablated without training anything again, as in Michel et al., "Are Sixteen Heads Really Better than One?",
arXiv 1905.10650, section 3. What "off" means for each kind of attention says `attention.off_means`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from napari_medattn.attention import switched_off
from napari_medattn.errors import InputError
from napari_medattn.events import Progress
from napari_medattn.inference.placement import Box
from napari_medattn.look.frame_input import FrameInput, frame_passes
from napari_medattn.look.scene import Scene
from napari_medattn.models import AttentionSite

Float = NDArray[np.float32]
Double = NDArray[np.float64]
Bracket = Callable[[], AbstractContextManager[None]]


@dataclass(frozen=True)
class Target:
    """What is switched off.

    Attributes:
        key: The site.
        head: The head, from 0; None for the whole site.
    """

    key: str
    head: int | None = None


@dataclass(frozen=True, eq=False)
class KnockOut:
    """What happened to the mask while something was off.

    Attributes:
        site: The site.
        head: The head that was off, from 0; None for the whole site.
        dice: (K,) Dice of each class with it off against the mask with everything on; nan where neither has the class.
        changed: (K,) voxels that each class gained or lost.
        voxels: Voxels that are of another class than with everything on.
        moved: Mean over the voxels of how much probability changed its class, 0..1 (total variation distance).
        reference: (K,) Dice against the reference, nan where neither has the class; None without one.
    """

    site: AttentionSite
    head: int | None
    dice: Double
    changed: NDArray[np.int64]
    voxels: int
    moved: float
    reference: Double | None


@dataclass(frozen=True, eq=False)
class KnockOuts:
    """A table of knock-outs on the same frames.

    Attributes:
        class_names: Names of the K classes.
        frames: The frames.
        size: Voxels in all frames, on the grid that the network sees.
        reference: (K,) Dice against the reference with everything on; None without one.
        rows: What was switched off, in the order asked for.
    """

    class_names: tuple[str, ...]
    frames: tuple[int, ...]
    size: int
    reference: Double | None
    rows: tuple[KnockOut, ...]


def targets_of(sites: Iterable[AttentionSite], *, heads: bool = True) -> list[Target]:
    """Every site as a whole and, where it has several and they are wanted, each of its heads."""
    found = []
    for site in sites:
        found.append(Target(site.key))
        if heads and site.heads > 1:
            found += [Target(site.key, head) for head in range(site.heads)]
    return found


def knock_out_steps(
    scene: Scene, frames: Sequence[int], targets: Sequence[Target], *, reference: NDArray[np.integer] | None = None
) -> Generator[Progress, None, KnockOuts]:
    """Run frames with everything on, then with each target off.

    Voxels are counted on the grid that the network sees. For a 3-D network neighbouring frames overlap, and voxels
    there count twice; for the mask of a whole scan use ``segment`` inside `attention.switched_off`.

    Args:
        scene: The scan before the network.
        frames: Which frames, e.g. the one in view.
        targets: What to switch off, each by itself; see `targets_of`.
        reference: (Z, Y, X) labels on the source image's grid, to measure the Dice against as well.

    Yields:
        Progress in runs of the frames, once before the first and after each forward pass.

    Raises:
        InputError: If nothing is chosen, or there is no such site, head or frame.
        GeometryError: If the reference does not lie on the image.
    """
    for target in targets:
        _check(scene, target)
    if not targets:
        raise InputError("Nothing is chosen to be switched off.", "Choose a site or a head.")
    if not frames:
        raise InputError("No frame is chosen.", "Choose at least one.")
    given = [FrameInput.of(scene, frame) for frame in frames]
    classes = range(len(scene.predictor.card.class_names))
    truth = None if reference is None else [frame.labels(reference) for frame in given]
    began, total = time.monotonic(), 1 + len(targets)
    yield Progress("switching off", 0, total, "runs")

    def run(done: int, around: Bracket = nullcontext) -> Generator[Progress, None, list[Float]]:
        found: list[Float] = []
        for finished in frame_passes(scene.predictor, ((frame, frame.image) for frame in given), around):
            found += finished
            whole = len(found) == len(given)
            yield Progress("switching off", done + whole, total, "runs", time.monotonic() - began)
        return found

    plain = yield from run(0)
    masks = [probabilities.argmax(axis=0) for probabilities in plain]
    rows = []
    for number, target in enumerate(targets, start=1):
        off = yield from run(number, _bracket(scene, target))
        now = [probabilities.argmax(axis=0) for probabilities in off]
        rows.append(
            KnockOut(
                site=scene.site(target.key),
                head=target.head,
                dice=np.array([_dice(now, masks, label) for label in classes]),
                changed=np.array([_gained_or_lost(now, masks, label) for label in classes]),
                voxels=sum(int(np.count_nonzero(a != b)) for a, b in zip(now, masks, strict=True)),
                moved=_moved(off, plain),
                reference=None if truth is None else np.array([_dice(now, truth, label) for label in classes]),
            )
        )
    return KnockOuts(
        class_names=tuple(scene.predictor.card.class_names),
        frames=tuple(frames),
        size=sum(mask.size for mask in masks),
        reference=None if truth is None else np.array([_dice(masks, truth, label) for label in classes]),
        rows=tuple(rows),
    )


def mask_without(scene: Scene, frame: int, target: Target) -> tuple[NDArray[np.uint8], Box]:
    """The mask of a frame with something switched off, on the source image's grid.

    Returns:
        The classes on a box of the image, and the box (Z, Y, X). The frame of a 2-D network gives the slices of the
        image that are nearest to it.

    Raises:
        InputError: If there is no such site, head or frame.
    """
    _check(scene, target)
    given = FrameInput.of(scene, frame)
    passes = frame_passes(scene.predictor, [(given, given.image)], _bracket(scene, target))
    (probabilities,) = (one for finished in passes for one in finished)
    found, box = given.on_source(probabilities)
    return found.argmax(axis=0).astype(np.uint8), box


def _bracket(scene: Scene, target: Target) -> Bracket:
    return partial(switched_off, scene.predictor.model, target.key, None if target.head is None else [target.head])


def _check(scene: Scene, target: Target) -> None:
    site = scene.site(target.key)
    if target.head is not None and not 0 <= target.head < site.heads:
        raise InputError(f"{site.title} has no head {target.head}.", f"Its heads go from 0 to {site.heads - 1}.")


def _dice(masks: Sequence[NDArray[np.integer]], others: Sequence[NDArray[np.integer]], label: int) -> float:
    both = either = 0
    for one, other in zip(masks, others, strict=True):
        a, b = one == label, other == label
        both += int(np.count_nonzero(a & b))
        either += int(np.count_nonzero(a) + np.count_nonzero(b))
    return 2 * both / either if either else float("nan")


def _gained_or_lost(masks: Sequence[NDArray[np.integer]], others: Sequence[NDArray[np.integer]], label: int) -> int:
    return sum(int(np.count_nonzero((a == label) != (b == label))) for a, b in zip(masks, others, strict=True))


def _moved(off: Sequence[Float], plain: Sequence[Float]) -> float:
    total: float = sum(float(np.abs(a - b).sum(dtype=np.float64)) / 2 for a, b in zip(off, plain, strict=True))
    return total / sum(int(one[0].size) for one in plain)
