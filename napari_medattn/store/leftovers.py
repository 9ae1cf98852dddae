"""Files that a killed process was writing: nobody lists them, and they go after a day."""

from __future__ import annotations

import time
from pathlib import Path

_KEPT = 24 * 3600  # seconds; nobody writes one file for as long


def is_leftover(path: Path) -> bool:
    """Whether a file has the name of one that is being written, see `files.atomic_write`."""
    return path.name.startswith(".")


def sweep_leftovers(folder: Path, now: float | None = None) -> int:
    """Delete what was left half-written long ago; returns how many files."""
    now, gone = time.time() if now is None else now, 0
    for path in folder.glob(".saving-*"):
        try:
            if now - path.stat().st_mtime > _KEPT:
                path.unlink()
                gone += 1
        except OSError:
            continue  # another window was first, or it is still open there
    return gone
