"""What a JSON file beside an image says about its geometry, for formats that have no place for it.

Our own keys are ``affine`` (4x4, voxel (x, y, z) to RAS+ mm), ``oriented`` (false where its directions mean nothing),
``spacing`` ((Z, Y, X) in ``unit``) and ``class_names``.
BIDS microscopy has ``PixelSize`` ([X, Y] or [X, Y, Z]) and ``PixelSizeUnits``; by its inheritance principle
``sub-1_SEM.json`` speaks of ``sub-1_sample-2_SEM.png`` too
(https://bids-specification.readthedocs.io, Microscopy, and Common principles).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from napari_medattn.errors import GeometryError
from napari_medattn.geometry import Grid

_LIMIT = 1 << 20  # bytes; a larger file is no sidecar
_MOST = 100  # JSON files looked at in a folder
TO_MM = {
    "mm": 1.0,
    "millimeter": 1.0,
    "cm": 10.0,
    "centimeter": 10.0,
    "um": 1e-3,
    "µm": 1e-3,
    "μm": 1e-3,
    "\\u00b5m": 1e-3,
    "micron": 1e-3,
    "micrometer": 1e-3,
    "nm": 1e-6,
    "nanometer": 1e-6,
    "inch": 25.4,
}


def facts_beside(path: Path, stem: str) -> dict[str, Any]:
    """Geometry and class names that JSON files beside an image give, the most special one first.

    Args:
        path: The image.
        stem: Its name without suffix.
    """
    parts = set(stem.split("_"))
    fitting = []
    for found in sorted(path.parent.glob("*.json"))[:_MOST]:
        own = found.stem.split("_")
        if found.stem == stem or (own[-1] == stem.rsplit("_", maxsplit=1)[-1] and set(own) <= parts):
            fitting.append(found)
    facts: dict[str, Any] = {}
    for found in sorted(fitting, key=lambda one: len(one.stem)):
        facts |= _read(found)
    return facts


def grid_of(facts: Mapping[str, Any], shape: tuple[int, int, int]) -> Grid | None:
    """The grid (Z, Y, X) that our own or BIDS' keys describe, or None where they do not, or make no sense."""
    try:
        if "affine" in facts:
            affine, unit = np.array(facts["affine"], float), str(facts.get("unit", "mm"))
            return Grid(shape, affine, unit, facts.get("oriented") is not False)
        spacing = _spacing(facts)
        return None if spacing is None else Grid.from_spacing(shape, spacing)
    except (GeometryError, ValueError, TypeError):
        return None


def _spacing(facts: Mapping[str, Any]) -> tuple[float, float, float] | None:
    if "PixelSize" in facts:
        scale = TO_MM.get(str(facts.get("PixelSizeUnits", "")).lower())
        sizes = [float(size) for size in facts["PixelSize"]]
        if scale is None or len(sizes) not in (2, 3):
            return None
        x, y, z = [*sizes, sizes[0]][:3]
    else:
        scale = TO_MM.get(str(facts.get("unit", "")).lower())
        if scale is None or len(facts.get("spacing", ())) != 3:
            return None
        z, y, x = (float(size) for size in facts["spacing"])
    spacing = (z * scale, y * scale, x * scale)
    return spacing if all(np.isfinite(spacing)) and min(spacing) > 0 else None


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _LIMIT:
            return {}
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
