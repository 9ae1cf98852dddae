"""Does it matter? Erase what is attended most, at random and least, and watch the mask.

Deletion curves as in Petsiuk et al., "RISE", arXiv 1806.07421, section 4.2, with most, random and least relevant
voxels first as in Samek et al., arXiv 1509.06321, section III, here for a class of a mask: what is measured is the
Dice of the mask against the mask without erasing.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_medattn.errors import InputError
from napari_medattn.events import Progress
from napari_medattn.look.erasure import Curve, Erasure
from napari_medattn.look.frame_input import FrameInput, frame_passes
from napari_medattn.look.scene import Scene
from napari_medattn.models import AttentionSite

Float = NDArray[np.float32]
Replacement = Literal["blur", "mean"]
BLUR = 1 / 8  # standard deviation of the blur as a share of each side of the frame


def even_steps(up_to: float = 0.5, steps: int = 10) -> tuple[float, ...]:
    """Shares from ``up_to / steps`` to ``up_to``, evenly spaced."""
    return tuple(up_to * (number + 1) / steps for number in range(steps))


def erasing_steps(
    scene: Scene,
    frames: Sequence[int],
    key: str,
    label: int,
    *,
    head: int | None = None,
    replacement: Replacement = "blur",
    shares: Sequence[float] = even_steps(),
    draws: int = 5,
    seed: int = 0,
    reference: NDArray[np.integer] | None = None,
) -> Generator[Progress, None, Erasure]:
    """Erase voxels of the network's input in the order in which a site attends to them, and run again.

    Each frame is erased by itself, all channels at once, and counts with the voxels of its mask; frames in whose mask
    the class does not occur are left out. For a 3-D network neighbouring frames overlap, and so count twice there.

    Args:
        scene: The scan before the network.
        frames: Which frames, e.g. the one in view, or ``range(scene.frames)``.
        key: The site whose overview map is followed; where it may be negative, its magnitude.
        label: The class whose mask is watched, from 1.
        head: The head, from 0; None for the mean of all.
        replacement: What voxels are erased with: ``"blur"``, the image smoothed with a Gaussian of `BLUR` of each
            side, or ``"mean"``, the frame's mean of each channel.
        shares: Which shares of the frame's voxels to erase, rising, above 0 and up to 1.
        draws: How many random orders. They come from noise on the site's own grid, interpolated like the map, so that
            they erase in grains of the same size.
        seed: Of the random orders, which also break ties.
        reference: (Z, Y, X) labels on the source image's grid, to measure the Dice against as well.

    Yields:
        Progress in runs of a frame, once before the first and after each forward pass.

    Raises:
        InputError: If the site has no place on the image, there is no such site, head, class or frame, the class is
            not in the mask of any frame, or an option does not exist.
        GeometryError: If the reference does not lie on the image.
    """
    site = scene.site(key)
    _check(scene, site, frames, label, head, replacement, shares, draws)
    began, done = time.monotonic(), 0
    per_frame = len(shares) * (2 + draws)
    total = len(frames) * (1 + per_frame)
    tallies = np.zeros((2 + draws, 1 + len(shares), 6))
    used: list[int] = []
    yield Progress("erasing", 0, total, "runs")
    for number, frame in enumerate(frames):
        given = FrameInput.of(scene, frame)
        truth = None if reference is None else given.labels(reference) == label
        glance = scene.glance(frame, [key])
        plain = given.blend(glance.probabilities)
        mask = plain.argmax(axis=0) == label
        done = number * (1 + per_frame) + 1
        yield Progress("erasing", done, total, "runs", time.monotonic() - began)
        if mask.any():
            used.append(frame)
            tallies[:, 0] += _tally(plain, mask, truth, label)
            orders = _orders(given, site, _attended(scene.map_of(glance, key), site, head), draws, seed)
            plan = [(row, column) for column in range(len(shares)) for row in range(len(orders))]
            work = ((given, image) for image in _erased(given, orders, shares, replacement))
            cells = iter(plan)
            for finished in frame_passes(scene.predictor, work):
                for probabilities in finished:
                    row, column = next(cells)
                    tallies[row, 1 + column] += _tally(probabilities, mask, truth, label)
                    done += 1
                yield Progress("erasing", done, total, "runs", time.monotonic() - began)
    if not used:
        raise _not_in_mask(scene, label, len(frames))
    curves = [_curve(row, reference is not None) for row in tallies]
    return Erasure(
        site=site,
        head=head,
        label=label,
        class_name=scene.predictor.card.class_names[label],
        frames=tuple(used),
        replacement=replacement,
        shares=np.array([0.0, *shares]),
        most=curves[0],
        least=curves[1],
        random=tuple(curves[2:]),
    )


def replaced(image: Float, how: Replacement) -> Float:
    """What the voxels of an image (C, Z, Y, X) are erased with, in the same shape."""
    if how == "mean":
        return np.broadcast_to(image.mean(axis=(1, 2, 3), keepdims=True), image.shape)
    sigmas = [0.0, *(side * BLUR if side > 1 else 0.0 for side in image.shape[1:])]
    found: Float = ndimage.gaussian_filter(image, sigmas, mode="nearest")
    return found


def _orders(given: FrameInput, site: AttentionSite, attended: Float, draws: int, seed: int) -> list[NDArray[np.intp]]:
    """Flat voxel indices: most attended first, least attended first, and some random orders."""
    random = np.random.default_rng([seed, given.frame])
    on_voxels = given.on_voxels(attended[None])[0]
    ties = random.random(on_voxels.size)
    most = np.lexsort((ties, -on_voxels.ravel()))
    noise = (random.random((1, *attended.shape), dtype=np.float32) for _ in range(draws))
    return [most, most[::-1], *(np.argsort(given.on_voxels(one)[0].ravel(), kind="stable") for one in noise)]


def _erased(
    given: FrameInput, orders: Sequence[NDArray[np.intp]], shares: Sequence[float], how: Replacement
) -> Iterator[Float]:
    """The frame's image with growing parts of it erased: for each share, along each order."""
    flat = given.image.reshape(len(given.image), -1)
    instead = replaced(given.image, how).reshape(flat.shape)
    for share in shares:
        count = round(share * flat.shape[1])
        for order in orders:
            changed = flat.copy()
            changed[:, order[:count]] = instead[:, order[:count]]
            yield changed.reshape(given.image.shape)


def _attended(maps: Float, site: AttentionSite, head: int | None) -> Float:
    """How much each position (z, y, x) is attended to by one head, or by all on average."""
    strength = np.abs(maps) if site.normalisation == "l2" else maps
    found: Float = strength.mean(axis=0) if head is None else strength[head]
    return found


def _tally(
    probabilities: Float, mask: NDArray[np.bool_], truth: NDArray[np.bool_] | None, label: int
) -> NDArray[np.float64]:
    """Voxels in both masks, in the new one, in the old one; summed probability in the old one; both and truth."""
    now = probabilities.argmax(axis=0) == label
    against = (0, 0) if truth is None else (np.count_nonzero(now & truth), np.count_nonzero(truth))
    summed = probabilities[label][mask].sum(dtype=np.float64)
    return np.array([np.count_nonzero(now & mask), np.count_nonzero(now), np.count_nonzero(mask), summed, *against])


def _curve(tally: NDArray[np.float64], referred: bool) -> Curve:
    both, now, before, summed, hit, truth = tally.T
    reference = None
    if referred:
        reference = np.divide(2 * hit, now + truth, out=np.full(len(now), np.nan), where=now + truth > 0)
    return Curve(dice=2 * both / (now + before), probability=summed / before, reference=reference)


def _check(
    scene: Scene,
    site: AttentionSite,
    frames: Sequence[int],
    label: int,
    head: int | None,
    replacement: str,
    shares: Sequence[float],
    draws: int,
) -> None:
    if not site.spatial:
        raise InputError(
            f"{site.title} attends between channels, which have no place on the image to erase.",
            "Switch it off, or randomise its weights.",
        )
    if head is not None and not 0 <= head < site.heads:
        raise InputError(f"{site.title} has no head {head}.", f"Its heads go from 0 to {site.heads - 1}.")
    names = scene.predictor.card.class_names
    if not 1 <= label < len(names):
        raise InputError(f"There is no class {label} to watch.", f"Choose one from 1 to {len(names) - 1}.")
    if not frames:
        raise InputError("No frame is chosen, so there is nothing to erase.", "Choose at least one.")
    if replacement not in get_args(Replacement):
        raise InputError(f"There is no replacement {replacement!r}.", f"Use {' or '.join(get_args(Replacement))}.")
    rising = all(a < b for a, b in zip([0.0, *shares], shares, strict=False))
    if not shares or not rising or shares[-1] > 1:
        raise InputError(f"The shares {tuple(shares)} do not rise from above 0 up to 1.", "Use e.g. 0.1, 0.2, 0.5.")
    if draws < 1:
        raise InputError(f"{draws} random orders tell nothing.", "Use 1 or more.")


def _not_in_mask(scene: Scene, label: int, frames: int) -> InputError:
    name = scene.predictor.card.class_names[label]
    where = "this slice" if scene.flat else "this tile"
    return InputError(
        f"{name!r} is not in the mask of {where if frames == 1 else 'these frames'}, so erasing cannot change it.",
        "Go to where the mask shows it, or choose another class.",
    )
