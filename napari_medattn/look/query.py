"""What one voxel attends to, and who attends to it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from napari_medattn.attention.composition import through_block
from napari_medattn.errors import InputError
from napari_medattn.inference.predictor import to_numpy
from napari_medattn.look.scene import Glance, Scene, Spot
from napari_medattn.models import AttentionSite

Float = NDArray[np.float32]
Direction = Literal["to", "from", "through"]
DIRECTIONS: dict[Direction, str] = {
    "to": "what it attends to",
    "from": "who attends to it",
    "through": "rows and columns composed (approximation)",
}


@dataclass(frozen=True, eq=False)
class Answer:
    """A row or a column of one site's attention.

    Attributes:
        site: The site.
        spot: Where the question was asked.
        direction: Which question.
        values: (heads, Z, Y, X) on the grid of the spot's tile, in multiples of the even share.
    """

    site: AttentionSite
    spot: Spot
    direction: Direction
    values: Float


def can_ask(site: AttentionSite) -> bool:
    """Whether single voxels of a site can be asked."""
    return site.kind in ("pairwise", "factored", "axial")


def sites_to_listen(sites: dict[str, AttentionSite], keys: Iterable[str], direction: Direction) -> list[str]:
    """The sites whose records are needed to ask ``keys``: for a composition the other half of each block too."""
    wanted = list(keys)
    if direction == "through":
        partners = [partner_of(sites, key) for key in wanted]
        wanted += [key for key in partners if key is not None and key not in wanted]
    return wanted


def partner_of(sites: dict[str, AttentionSite], key: str) -> str | None:
    """For an axial site the other one of its block: columns for rows, and rows for columns."""
    site = sites[key]
    if site.kind != "axial":
        return None
    parent = key.rpartition(".")[0]
    others = [other for other in sites if other != key and other.rpartition(".")[0] == parent]
    return next((other for other in others if sites[other].kind == "axial"), None)


@torch.inference_mode()
def ask(scene: Scene, glance: Glance, key: str, spot: Spot, direction: Direction = "to") -> Answer:
    """Ask a site about a voxel; no forward pass, only one row or column.

    Args:
        scene: The scan before the network.
        glance: A forward pass over the spot's tile that listened to the site.
        key: The site.
        spot: The voxel.
        direction: ``"to"``, ``"from"``, or ``"through"`` for the composition of an axial block's rows and columns;
            sites that are not axial answer that as ``"to"``.

    Raises:
        InputError: If the site was not listened to, or has no queries.
    """
    site = scene.site(key)
    if not glance.shows(spot) or key not in glance.records:
        raise InputError(f"{site.title} was not listened to at this place.", "Tick it, and wait for its map.")
    record, position = glance.records[key], spot.on_grid(site)
    share = site.even_share(scene.plan.tile)
    partner = partner_of(scene.predictor.sites, key) if direction == "through" else None
    if partner is not None and partner in glance.records:
        values = through_block(record, glance.records[partner], position)
        share *= scene.site(partner).even_share(scene.plan.tile)
    else:
        direction = "from" if direction == "from" else "to"
        values = record.received(position) if direction == "from" else record.query(position)
    item = spot.tile - glance.first
    return Answer(site, spot, direction, to_numpy(values[item : item + 1])[0] / np.float32(share))
