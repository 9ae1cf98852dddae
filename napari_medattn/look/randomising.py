"""Does the map show what was learned? Give a block untrained weights and see how far the map moves.

The model parameter randomisation test of Adebayo et al., "Sanity Checks for Saliency Maps", arXiv 1810.03292,
section 3: a map that stays as it was shows the image or the architecture rather than what training put into the
weights. Their cascade from the output towards the input is left out: attention is made on the way forward, so that it
does not depend on weights behind it and would stay put until the cascade reaches its own block. Its last stage, all
weights, is here.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import rankdata
from torch import Tensor, nn

from napari_medattn.attention.capture import choose_sites
from napari_medattn.attention.divergence import Measure, divergence, measure_of
from napari_medattn.attention.records import Record
from napari_medattn.errors import InputError
from napari_medattn.events import Progress
from napari_medattn.inference import Predictor
from napari_medattn.look.batches import inside
from napari_medattn.look.scene import Scene
from napari_medattn.models import AttentionSite, create_model
from napari_medattn.store import Card, Checkpoint

Scope = Literal["block", "network"]
PerHead = NDArray[np.float64]
SCOPES: dict[Scope, str] = {"block": "the site's own block", "network": "the whole network"}


@dataclass(frozen=True, eq=False)
class Randomised:
    """How far a site's attention moved when weights were replaced by untrained ones.

    Means over the tiles of the frames, and over the draws but for `correlations`.

    Attributes:
        site: The site.
        scope: Whose weights were replaced, see `SCOPES`.
        module: Dotted path of the module whose weights were replaced; empty for the whole network.
        correlations: (draws, heads) Spearman's rank correlation of the map before and after, -1..1: 1 is unmoved, 0 is
            unrelated, -1 the same upside down; nan where a map is the same everywhere.
        difference: (heads,) mean absolute difference of the map; in multiples of the even share for softmax maps.
        divergence: (heads,) see ``measure``.
        measure: What ``divergence`` is, see `attention.divergence.MEANS`.
    """

    site: AttentionSite
    scope: Scope
    module: str
    correlations: PerHead
    difference: PerHead
    divergence: PerHead
    measure: Measure

    @property
    def correlation(self) -> PerHead:
        """(heads,) mean rank correlation over the draws; single draws may be far from it, on either side."""
        return _mean(list(self.correlations))


def randomising_steps(
    scene: Scene,
    frames: Sequence[int],
    checkpoint: Checkpoint,
    sites: Iterable[str],
    *,
    scopes: Sequence[Scope] = ("block", "network"),
    draws: int = 3,
    seed: int = 0,
) -> Generator[Progress, None, tuple[Randomised, ...]]:
    """Replace weights in copies of a network, and compare the attention before and after.

    The weights come from the network's own initialisation, batch norms with untrained statistics included. The network
    of the scene stays as it is: it is prepared for inference, with weights that belong to several blocks merged, which
    is why the checkpoint that it came from is needed to build the copies.

    Args:
        scene: The scan before the network.
        frames: Which frames, e.g. the one in view.
        checkpoint: What the scene's network was loaded from.
        sites: Keys of the sites.
        scopes: Whose weights to replace, one after the other.
        draws: Sets of untrained weights for each.
        seed: Of the first draw; the next ones count up.

    Yields:
        Progress in runs of the frames, once before the first and after each forward pass.

    Returns:
        For each site, each scope.

    Raises:
        InputError: If the checkpoint is another one, nothing is chosen, or there is no such site, frame or scope.
        CheckpointError: If the checkpoint is damaged.
    """
    chosen = choose_sites(scene.predictor.model, sites)
    _check(scene, frames, checkpoint, scopes, draws)
    work = [(site, scope) for site in chosen for scope in scopes]
    began, total = time.monotonic(), len(frames) * (len(work) * draws + 1)
    done = 0
    yield Progress("randomising", 0, total, "runs")
    trained, before = checkpoint.build(), []
    keys = [site.key for site in chosen]
    for frame in frames:
        before.append(scene.glance(frame, keys).records)
        done += 1
        yield Progress("randomising", done, total, "runs", time.monotonic() - began)
    rows = []
    for site, scope in work:
        by_draw: list[list[PerHead]] = []
        for draw in range(draws):
            moved: list[tuple[PerHead, PerHead, PerHead]] = []
            predictor = _with_untrained(trained, checkpoint.card, site, scope, seed + draw, scene.predictor)
            for frame, records in zip(frames, before, strict=True):
                _, after = predictor.run(scene.tiles(frame), [site.key])
                where = inside(scene, scene.starts(frame), site.key)
                moved.append(_compare(scene, records[site.key], after[site.key], where))
                done += 1
                yield Progress("randomising", done, total, "runs", time.monotonic() - began)
            by_draw.append([_mean([one[part] for one in moved]) for part in range(3)])
        difference, apart = (_mean([one[part] for one in by_draw]) for part in (1, 2))
        correlations = np.stack([one[0] for one in by_draw])
        module = block_of(site) if scope == "block" else ""
        rows.append(Randomised(site, scope, module, correlations, difference, apart, measure_of(site)))
    return tuple(rows)


def block_of(site: AttentionSite) -> str:
    """The module that holds the site's attention and what belongs to it, such as its norms and convolutions."""
    return site.key.rpartition(".")[0] or site.key


def randomise(model: nn.Module, card: Card, module: str, seed: int) -> None:
    """Replace the weights of a part of a network, in place, by those of an untrained network of the same card.

    Args:
        model: The network, not prepared for inference.
        card: Its card.
        module: Dotted path of the part; empty for all of it.
        seed: Of the untrained weights.
    """
    with torch.random.fork_rng(devices=[]):
        # Not the bare number: training may have begun from just these weights.
        torch.manual_seed(int(np.random.SeedSequence([1810, 3292, seed]).generate_state(1)[0]))
        untrained = create_model(card.network, **card.arguments)
    model.get_submodule(module).load_state_dict(untrained.get_submodule(module).state_dict())


def _with_untrained(
    trained: nn.Module, card: Card, site: AttentionSite, scope: Scope, seed: int, like: Predictor
) -> Predictor:
    """A predictor with some untrained weights; the trained network is put back as it was."""
    module = block_of(site) if scope == "block" else ""
    part = trained.get_submodule(module)
    kept = {name: tensor.clone() for name, tensor in part.state_dict().items()}
    try:
        randomise(trained, card, module, seed)
        return Predictor(trained, like.card, like.device, like.precision)
    finally:
        part.load_state_dict(kept)


@torch.inference_mode()
def _compare(scene: Scene, before: Record, after: Record, where: Tensor | None) -> tuple[PerHead, PerHead, PerHead]:
    """Rank correlation, mean absolute difference and divergence, each (heads,), over what lies on the scan."""
    site = before.site
    one, other = (record.maps().double().cpu().flatten(2).numpy() for record in (before, after))  # (B, heads, n)
    unit = site.even_share(scene.plan.tile) if site.spatial else 1 / one.shape[-1] ** 0.5
    places = np.ones((len(one), one.shape[-1]), bool) if where is None else where.flatten(1).numpy()
    pairs = [(a[:, seen], b[:, seen]) for a, b, seen in zip(one, other, places, strict=True)]
    correlation = _mean([_spearman(a, b) for a, b in pairs])
    difference = _mean([np.abs(a - b).mean(axis=1) / unit for a, b in pairs])
    return correlation, difference, divergence(before, after, where).rows


def _spearman(one: NDArray[np.float64], other: NDArray[np.float64]) -> PerHead:
    """Rank correlation along the last axis of (heads, n); nan where either is constant."""
    found = []
    for ranks in zip(rankdata(one, axis=1), rankdata(other, axis=1), strict=True):
        a, b = (of - of.mean() for of in ranks)
        length = np.sqrt((a**2).sum() * (b**2).sum())
        found.append((a * b).sum() / length if length > 0 else np.nan)
    return np.array(found)


def _mean(values: Sequence[PerHead]) -> PerHead:
    """Mean of several (heads,), leaving out what is not defined; nan where nothing is."""
    stacked = np.stack(values)
    known = np.isfinite(stacked)
    summed = np.where(known, stacked, 0).sum(axis=0)
    found: PerHead = np.divide(summed, known.sum(axis=0), out=np.full(summed.shape, np.nan), where=known.any(axis=0))
    return found


def _check(scene: Scene, frames: Sequence[int], checkpoint: Checkpoint, scopes: Sequence[str], draws: int) -> None:
    card = scene.predictor.card
    if checkpoint.card.weights_sha256 != card.weights_sha256:
        raise InputError(
            f"{checkpoint.name} has other weights than the network that is looked into, {card.name}.",
            f"Give the checkpoint {card.name}.",
        )
    if not frames:
        raise InputError("No frame is chosen.", "Choose at least one.")
    wrong = [frame for frame in frames if not 0 <= frame < scene.frames]
    if wrong:
        raise InputError(f"There is no frame {wrong[0]}.", f"The frames go from 0 to {scene.frames - 1}.")
    unknown = [scope for scope in scopes if scope not in SCOPES]
    if unknown or not scopes:
        raise InputError(f"There is no scope {unknown[0] if unknown else ''!r}.", f"Use {' or '.join(SCOPES)}.")
    if draws < 1:
        raise InputError(f"{draws} draws tell nothing.", "Use 1 or more.")
