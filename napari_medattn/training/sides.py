"""Left and right: which classes are told apart by their side alone, and whether patches may be mirrored then."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from napari_medattn.errors import TrainingError
from napari_medattn.training.patches import Augmentation

Sides = Literal["refuse", "swap", "keep"]
_LEFT, _RIGHT = {"left", "l", "lt", "lh"}, {"right", "r", "rt", "rh"}


def side_pairs(class_names: Sequence[str]) -> tuple[tuple[int, int], ...]:
    """Classes whose names differ in left and right only, as (left, right), e.g. of "kidney_l" and "kidney_r"."""
    seen: dict[tuple[str, ...], dict[str, int]] = {}
    for number, name in enumerate(class_names):
        words = tuple(re.findall(r"[^\W_]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name).lower()))
        for place, word in enumerate(words):
            side = "left" if word in _LEFT else "right" if word in _RIGHT else None
            if side is not None:
                seen.setdefault((*words[:place], "", *words[place + 1 :]), {})[side] = number
    return tuple((both["left"], both["right"]) for both in seen.values() if len(both) == 2)


def mirrored_safely(
    how: Augmentation, class_names: Sequence[str], sides: Sides, orientation: str | None
) -> Augmentation:
    """Mirroring that turns no organ into another.

    Args:
        how: What is asked for.
        class_names: Names of the labels 0, 1, ...
        sides: What to do along the left-right axis where classes pair up: ``"refuse"``, ``"swap"`` the labels of each
            pair, or ``"keep"`` them, where shape tells what side does not (the heart's ventricles).
        orientation: World directions of the x, y, z axes of patches; None if they are not known: any axis may be
            the left-right one.

    Raises:
        TrainingError: If it is refused, or labels cannot be swapped along the left-right axis.
    """
    pairs = side_pairs(class_names)
    across = left_right_axes(orientation)
    asked = [axis for axis in how.flip_axes if axis in across]
    if not pairs or not asked or sides == "keep":
        return how
    names = " and ".join(f'"{class_names[number]}"' for number in pairs[0])
    if sides == "refuse":
        raise TrainingError(
            f"Mirroring along {_letters(asked)} would turn {names} into each other.",
            "Leave that axis out of --flip; or say --sides swap to exchange such labels, or --sides keep.",
        )
    if asked != [-1] or across != (-1,):
        raise TrainingError(
            f"The labels of {names} can be swapped along x only, and only where x is known to run from left to right.",
            "Leave other axes out of --flip.",
        )
    return replace(how, flip_axes=tuple(axis for axis in how.flip_axes if axis != -1), swap=pairs)


def left_right_axes(orientation: str | None) -> tuple[int, ...]:
    """Spatial axes, counted from the last, that run between left and right, as far as is known."""
    if orientation is None:
        return (-1, -2, -3)
    return tuple(-1 - place for place, direction in enumerate(orientation) if direction in "LR")


def _letters(axes: Sequence[int]) -> str:
    return ", ".join("zyx"[axis] for axis in axes)
