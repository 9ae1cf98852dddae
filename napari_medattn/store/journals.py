"""The journals in the user's folder: which belong to a scan, which hold unsaved work, and which may go.

A file is named by the scan's hash, the classes' hash and a number: each mask that is worked on has a file of its own,
so a second window on one scan never writes between the first one's records, and a journal that holds unsaved work is
never written over.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from napari_medattn.errors import MedAttnError
from napari_medattn.store.home import home_folder
from napari_medattn.store.journal_header import classes_id
from napari_medattn.store.records import to_frame
from napari_medattn.store.replay import Unsaved, look

SUFFIX = ".journal"
_KEPT = 30 * 24 * 3600  # seconds that a journal without unsaved work is kept


def journal_folder() -> Path:
    """Where journals lie."""
    return home_folder() / "journals"


def free_path(scan: str, class_names: Sequence[str], folder: Path | None = None) -> Path:
    """A name that no journal of this scan and these classes has."""
    folder = folder or journal_folder()
    stem = f"{scan}-{classes_id(class_names)}"
    taken = {path.name.split(".")[0] for path in folder.glob(f"{stem}-*")}
    names = (f"{stem}-{number}" for number in range(1, len(taken) + 2))
    return folder / f"{next(name for name in names if name not in taken)}{SUFFIX}"


def unsaved_work(scan: str, folder: Path | None = None) -> list[Unsaved]:
    """Journals of a scan that hold unsaved work and that no window has open, newest first."""
    found = []
    for path in (folder or journal_folder()).glob(f"{scan}-*{SUFFIX}"):
        if not is_free(path):
            continue
        try:
            held = look(path)
        except MedAttnError:
            continue  # nothing can be brought back from it
        if held.changed:
            found.append(held)
    return sorted(found, key=lambda held: held.last, reverse=True)


def in_use(scan: str, class_names: Sequence[str], folder: Path | None = None) -> bool:
    """Whether a window has a mask of this scan and these classes open."""
    paths = (folder or journal_folder()).glob(f"{scan}-{classes_id(class_names)}-*{SUFFIX}")
    return any(not is_free(path) for path in paths)


def forget(path: Path) -> None:
    """Offer a journal no more; it is deleted when it is old.

    Raises:
        OSError: If it cannot be written.
    """
    with path.open("ab") as file:
        file.write(to_frame("forgotten", {"time": time.time()}))


def sweep(folder: Path | None = None, now: float | None = None) -> int:
    """Delete old journals that hold no unsaved work; returns how many."""
    folder, now = folder or journal_folder(), time.time() if now is None else now
    gone = 0
    for path in folder.glob(f"*{SUFFIX}"):
        if now - path.stat().st_mtime < _KEPT or not is_free(path):
            continue
        try:
            if look(path).changed:
                continue
        except MedAttnError:
            continue  # perhaps a later version can read it
        for part in (path, *folder.glob(f"{path.stem}.*")):
            part.unlink(missing_ok=True)
        gone += 1
    return gone


def is_free(path: Path) -> bool:
    """Whether no window has a journal open."""
    lock = FileLock(path.with_suffix(".lock"), thread_local=False)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    except OSError:
        return True  # no lock can be had in this folder, so nobody has one
    lock.release()
    return True
