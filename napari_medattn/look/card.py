"""The card of a saved map: what it is, where it comes from, and how it may be read."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from napari_medattn.look.placed_map import PlacedMap

HONEST = "Attention is where the block looks, not why."
_ASKED = {
    "to": "what the query voxel attends to",
    "from": "who attends to the query voxel",
    "through": "what the query voxel reaches through rows and columns composed, an approximation of the block",
}
_SEEN = {"to": "seen from +", "from": "who attends to +", "through": "composed from +"}
_KIND = {"gate": "gate", "vector": "token weights"}
_NORMALISED = {"l2": "unit length"}
_RUN = ("checkpoint", "weights_sha256", "parent", "network", "trained_on", "device", "precision", "overlap")


def card_of(found: PlacedMap) -> dict[str, Any]:
    """All that is known of a map, as plain data for JSON."""
    site, record = found.site, found.record
    return {
        "note": HONEST,
        "shows": "an overview of the site" if found.asked is None else _ASKED[found.asked.direction],
        "site": {
            "key": site.key,
            "title": site.title,
            "block": " ".join(site.path[:-1]) or site.title,
            "kind": site.kind,
            "normalisation": site.normalisation,
            "legend": site.legend,
            "heads": site.heads,
            "stride_zyx": list(found.stride) if site.spatial else None,
            "patches": site.patches,
        },
        "head": found.heads + 1 if isinstance(found.heads, int) else found.heads,
        "heads_count_from": 1,
        "query": None if found.asked is None else _question(found),
        "values": {
            "unit": unit_of(found),
            "even_share": found.even_share if site.normalisation == "softmax" and site.spatial else None,
            "comparable_across_tiles": site.comparable_across_tiles,
            "nan": "outside what the forward pass covered" if site.spatial and found.partial else None,
        },
        "tile_zyx": list(found.tile),
        "image": {
            "name": found.source.name,
            "shape_zyx": list(found.source.grid.shape),
            "spacing_zyx": list(found.source.grid.spacing),
            "units": found.source.grid.units,
            "affine_xyz_to_ras": found.source.grid.affine.tolist(),
            "oriented": found.source.grid.oriented,
        },
        **{key: record.get(key) for key in _RUN},
        "notes": list(record.get("notes", ())),
        "versions": dict(record.get("versions", {})),
        "created": record.get("created"),
    }


def unit_of(found: PlacedMap) -> str:
    """What the saved numbers are counted in, in a few words."""
    site = found.site
    if site.normalisation == "sigmoid":
        return "gate, 0..1"
    if site.normalisation == "l2":
        return "weight of unit length inside its tile"
    return "multiples of the even share" if site.spatial and site.sums_to_one else "weight, each row sums to 1"


def short_unit(found: PlacedMap) -> str:
    """`unit_of` for a colour bar."""
    if found.site.kind == "gate":
        return "0..1"
    return "\N{MULTIPLICATION SIGN} even share" if found.even_share != 1 else unit_of(found)


def describe(found: PlacedMap) -> str:
    """Kind, head and question in a few words."""
    site = found.site
    parts = [
        "sigmoid gate"
        if site.kind == "gate"
        else f"{_KIND.get(site.kind, site.kind)} {_NORMALISED.get(site.normalisation, site.normalisation)}"
    ]
    if site.heads > 1 and found.heads != "all":
        parts.append(f"head {found.heads + 1}" if isinstance(found.heads, int) else f"mean of {site.heads} heads")
    if found.asked is not None:
        parts.append(_SEEN[found.asked.direction])
    return ", ".join(parts)


def _question(found: PlacedMap) -> dict[str, Any]:
    asked = found.asked
    assert asked is not None
    facts, grid = asdict(asked), found.source.grid
    return {
        "direction": facts["direction"],
        "voxel_zyx": list(facts["voxel"]),
        "world_xyz_ras": list(facts["world"]) if grid.units == "mm" and grid.oriented else None,
        "position_on_sites_grid": list(facts["position"]),
    }
