"""`Proposal`: what a tool would change, before anything is changed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Box = tuple[slice, ...]
Labels = NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class Proposal:
    """New labels for a part of a mask.

    Tools make proposals and never write: whoever applies one leaves out what a person vouches for and what is
    locked, and makes the rest a single undo step.

    Attributes:
        box: The part, in the mask's (Z, Y, X) or (Y, X).
        labels: New labels of the box.
        changes: Which voxels of the box are to change.
        tool: The tool's name, for people and for the journal.
    """

    box: Box
    labels: Labels
    changes: NDArray[np.bool_]
    tool: str

    @property
    def count(self) -> int:
        """How many voxels it would change."""
        return int(np.count_nonzero(self.changes))
