"""`Learned`: a new version, and what is known of it."""

from __future__ import annotations

from dataclasses import dataclass

from napari_medattn.learning.keep import Verdict
from napari_medattn.learning.scoring import Scores
from napari_medattn.store import Checkpoint


@dataclass(frozen=True)
class Learned:
    """What came of learning.

    Attributes:
        checkpoint: The saved new version.
        before: The parent on held-out voxels: Dice, IoU and HD95 by class; None if none could be held out.
        after: The new version on the same voxels. Where corrections were held back in folds (`folds` above 0), these
            are the scores of the folds' networks, which learned the same way for a shorter time from a part.
        earlier_before: The parent on earlier examples; None if there are none.
        earlier_after: The new version on the same: what it forgot.
        agreement: Share of the voxels that were learned from whose label the network gives, before and after.
        verdict: Better, not worse, worse or unknown, with a sentence for people.
        folds: In how many parts the corrections were cut for ``before`` and ``after``; 0 if examples were held out.
        steps: Steps that were taken.
        stopped: Why it ended early; empty if it did not.
        notes: What had to be decided or changed on the way, one sentence each.
    """

    checkpoint: Checkpoint
    before: Scores | None
    after: Scores | None
    earlier_before: Scores | None
    earlier_after: Scores | None
    agreement: tuple[float, float]
    verdict: Verdict
    folds: int = 0
    steps: int = 0
    stopped: str = ""
    notes: tuple[str, ...] = ()
