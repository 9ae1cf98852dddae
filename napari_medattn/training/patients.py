"""Which scans are one patient's, and who is held out: what a network is scored on must be people it never saw."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence

from napari_medattn.errors import TrainingError

# What tells several scans of one patient apart, at the end of a name.
_SCAN = re.compile(r"[_-](?:(?:frame|time|phase|visit|slice|scan|im)[_-]?\d+(?:[_-]\d+)?|ed|es)$", re.IGNORECASE)
_BIDS = re.compile(r"^(sub-[A-Za-z0-9]+)_")


def patient_of(case: str) -> str:
    """A case's name without what tells the scans of one patient apart.

    ``patient006_frame16`` is of ``patient006``, ``sub-rat3_ses-2_T1w`` of ``sub-rat3`` (BIDS).
    """
    bids = _BIDS.match(case)
    if bids:
        return bids[1]
    while found := _SCAN.search(case):
        case = case[: found.start()]
    return case


def in_turn(patients: Sequence[str], seed: int) -> list[str]:
    """Patients in an order that hangs on their names and the seed alone."""
    return sorted(patients, key=lambda patient: hashlib.sha256(f"{seed}/{patient}".encode()).hexdigest())


def hold_out(cases: Mapping[str, Sequence[str]], wanted: int, seed: int) -> set[str]:
    """Cases of whole patients, up to as many as are wanted; the last patient is always left to learn from.

    Args:
        cases: Cases of each patient.
        wanted: How many cases at most; at least one patient is held out unless this is 0.
        seed: Which.
    """
    drawn: list[str] = []
    for patient in in_turn(list(cases), seed)[: len(cases) - 1]:
        if not wanted or (drawn and len(drawn) + len(cases[patient]) > wanted):
            break
        drawn += cases[patient]
    return set(drawn)


def fold_of(cases: Mapping[str, Sequence[str]], number: int, folds: int, seed: int) -> set[str]:
    """Cases that are held out in one fold.

    Raises:
        TrainingError: If there is no such fold, or there are fewer patients than folds.
    """
    if folds < 2 or not 0 <= number < folds:
        raise TrainingError(f"There is no fold {number} of {folds}.", "Folds count from 0; use two or more.")
    if folds > len(cases):
        raise TrainingError(f"{len(cases)} patients cannot be held out in {folds} folds.", "Use fewer folds.")
    return {case for patient in in_turn(list(cases), seed)[number::folds] for case in cases[patient]}
