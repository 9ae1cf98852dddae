"""What a run tells besides how far it is; each is a `Progress` too, for whoever only wants that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from napari_medattn.events import Progress


@dataclass(frozen=True)
class StepDown(Progress):
    """Memory was not enough, and the run begins again with less.

    Attributes:
        step: What is done instead, e.g. ``"batch of 4 instead of 8 tiles"``.
        reason: What was too much.
    """

    step: str = ""
    reason: str = ""

    def to_record(self) -> dict[str, str]:
        """As plain data."""
        return {"step": self.step, "reason": self.reason}


@dataclass(frozen=True, eq=False)
class SlicesReady(Progress):
    """A part of the mask will not change any more, unless a `StepDown` follows.

    Attributes:
        box: Slices (Z, Y, X) of the image.
        labels: The mask there; a view, to be copied if it is kept.
    """

    box: tuple[slice, slice, slice] = (slice(0), slice(0), slice(0))
    labels: NDArray[Any] | None = None
