"""Applying a proposal: the one place where a tool's labels meet what a person vouches for and what is locked."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_medattn.correct.proposal import Proposal
from napari_medattn.errors import GeometryError
from napari_medattn.store.confirmed import whole_box
from napari_medattn.store.edit import Edit, Labels, as_places, fitted
from napari_medattn.store.edits import EditLog


@dataclass(frozen=True, eq=False)
class Admitted:
    """What may be applied of a proposal.

    Attributes:
        edit: The step; None if nothing is left to change.
        kept: Voxels left as they are because a person edited or confirmed them.
        locked: Voxels left as they are because their class is locked.
    """

    edit: Edit | None
    kept: int
    locked: int

    @property
    def changed(self) -> int:
        """Voxels that change."""
        return 0 if self.edit is None else self.edit.count


def admit(proposal: Proposal, labels: Labels, log: EditLog, *, over_trusted: bool = False) -> Admitted:
    """What of a proposal may be applied to a mask.

    Args:
        proposal: What a tool would change.
        labels: The mask.
        log: The mask's log; it knows what is trusted and what is locked.
        over_trusted: Also change what a person edited or confirmed, because it was asked for.

    Raises:
        GeometryError: If the proposal's box does not lie in the mask, or its labels do not fill the box.
        InputError: If the mask's type cannot hold its labels.
    """
    box = whole_box(proposal.box, labels.shape) if len(proposal.box) <= labels.ndim else ()
    size = tuple(s.stop - s.start for s in box)
    if not box or proposal.labels.shape != size or proposal.changes.shape != size:
        raise GeometryError(
            f"The tool {proposal.tool} made labels of shape {proposal.labels.shape} for the box {proposal.box} of a "
            f"mask of shape {labels.shape}.",
            "Run the tool again on the mask as it is now.",
        )
    inside = labels[box]
    changes = proposal.changes & (proposal.labels != inside)
    locked = kept = 0
    if log.locked_classes:
        barred = changes & log.is_locked(inside)
        locked = int(np.count_nonzero(barred))
        changes &= ~barred
    if not over_trusted and (log.edited_count or log.confirmations):
        trusted = changes & log.trusted(labels, box)
        kept = int(np.count_nonzero(trusted))
        changes &= ~trusted
    return Admitted(_edit(proposal, labels, box, changes), kept, locked)


def apply(proposal: Proposal, labels: Labels, log: EditLog, *, over_trusted: bool = False) -> Admitted:
    """Apply a proposal to a mask without a window: writes into ``labels`` and adds one step to the log.

    Args:
        proposal: See `admit`.
        labels: See `admit`.
        log: See `admit`.
        over_trusted: See `admit`.

    Raises:
        GeometryError: See `admit`.
        InputError: See `admit`.
    """
    admitted = admit(proposal, labels, log, over_trusted=over_trusted)
    if admitted.edit is not None:
        admitted.edit.do(labels)
        log.append(admitted.edit)
    return admitted


def _edit(proposal: Proposal, labels: Labels, box: tuple[slice, ...], changes: NDArray[np.bool_]) -> Edit | None:
    places = np.flatnonzero(changes)
    if not places.size:
        return None
    if changes.shape != labels.shape:
        found = np.unravel_index(places, changes.shape)
        places = np.ravel_multi_index(tuple(axis + s.start for axis, s in zip(found, box, strict=True)), labels.shape)
    return Edit(
        labels.shape,
        as_places(places, labels.shape),
        labels[box][changes],
        fitted(proposal.labels[changes], labels.dtype),
        proposal.tool,
        human=False,
    )
