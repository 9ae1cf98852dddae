"""Keep if better: whether a new version may take its parent's place by itself."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from napari_medattn.learning.scoring import Scores

Word = Literal["better", "not worse", "worse", "unknown"]
DICE_TOLERANCE = 0.01
HD95_TOLERANCE = 1.0  # voxels
FEWEST_VOXELS = 20


@dataclass(frozen=True)
class Verdict:
    """What the scores say of a new version.

    Attributes:
        word: ``"better"``: not worse, and the mean Dice of the classes rose. ``"not worse"``: no class lost more than
            `DICE_TOLERANCE` of Dice, and no HD95 grew by more than `HD95_TOLERANCE` voxels. ``"unknown"``: fewer than
            `FEWEST_VOXELS` voxels were held out, or no class among them.
        sentence: The reason, for people.
    """

    word: Word
    sentence: str

    @property
    def may_become_current(self) -> bool:
        """Whether the new version may take the parent's place without anybody being asked."""
        return self.word in ("better", "not worse")


def judge(
    before: Scores | None,
    after: Scores | None,
    earlier_before: Scores | None = None,
    earlier_after: Scores | None = None,
) -> Verdict:
    """Compare a new version with its parent.

    Args:
        before: The parent on held-out voxels; None if there are none.
        after: The new version on the same voxels.
        earlier_before: The parent on earlier examples; None if there are none.
        earlier_after: The new version on the same.
    """
    if earlier_before is not None and earlier_after is not None:
        lost = _worst_loss(earlier_before, earlier_after)
        if lost:
            return Verdict("worse", f"It forgets: on earlier examples, {lost}.")
    if before is None or after is None or before.voxels < FEWEST_VOXELS:
        return Verdict("unknown", "Too few voxels could be held out to tell whether it is better.")
    pairs = _pairs(before.dice, after.dice)
    if not pairs:
        return Verdict("unknown", "No class is found among the held-out voxels, so nothing tells whether it is better.")
    lost = _worst_loss(before, after)
    if lost:
        return Verdict("worse", f"On held-out voxels, {lost}.")
    old, new = (sum(pair[i] for pair in pairs.values()) / len(pairs) for i in (0, 1))
    scores = f"{old:.3f} before, {new:.3f} after"
    if round(new, 3) > round(old, 3):
        return Verdict("better", f"Mean Dice on held-out voxels: {scores}; no class lost.")
    return Verdict("not worse", f"Mean Dice on held-out voxels: {scores}; no class lost more than {DICE_TOLERANCE}.")


def _worst_loss(before: Scores, after: Scores) -> str:
    """The class that lost most, in words; empty if none lost more than is allowed."""
    dice = _pairs(before.dice, after.dice)
    losses = {name: old - new for name, (old, new) in dice.items()}
    worst = max(losses, key=losses.__getitem__, default="")
    if worst and losses[worst] > DICE_TOLERANCE + 1e-9:
        return "the Dice of {} falls from {:.3f} to {:.3f}".format(worst, *dice[worst])
    distances = {
        name: (old, after.hd95.get(name, math.nan)) for name, old in before.hd95.items() if not math.isnan(old)
    }
    growth = {name: new - old for name, (old, new) in distances.items() if not math.isnan(new)}
    worst = max(growth, key=growth.__getitem__, default="")
    if worst and growth[worst] > HD95_TOLERANCE * before.voxel_size + 1e-9:
        return "the HD95 of {} grows from {:.1f} to {:.1f}".format(worst, *distances[worst])
    return ""


def _pairs(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    """Values before and after of the classes that either has; a class that neither mask has is found perfectly."""
    both = {name: (old, after.get(name, math.nan)) for name, old in before.items()}
    return {
        name: (1.0 if math.isnan(old) else old, 1.0 if math.isnan(new) else new)
        for name, (old, new) in both.items()
        if not (math.isnan(old) and math.isnan(new))
    }
