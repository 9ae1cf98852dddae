"""One window at a time changes a folder of checkpoints; reading needs no lock, as files change in one step."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from napari_medattn.errors import CheckpointError
from napari_medattn.store.home import home_folder

_PATIENCE = 30.0  # seconds; long enough to write a large checkpoint


@contextmanager
def one_at_a_time(folder: Path, patience: float = _PATIENCE) -> Iterator[None]:
    """Wait until nobody else changes a folder, and keep others waiting meanwhile.

    The lock lies in the user's data folder, so that no stray file is left beside what is saved elsewhere. Where no
    lock can be had, as in a home that cannot be written, there is no other window either that could take one.

    Args:
        folder: The folder.
        patience: How many seconds to wait at most.

    Raises:
        CheckpointError: If another window is still at it after that time.
    """
    name = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    path = home_folder() / "locks" / f"{name}.lock"
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=patience)
    except Timeout as error:
        raise CheckpointError(
            f"Another window has been changing the checkpoints in {folder} for {patience:.0f} s.", "Try again."
        ) from error
    except OSError:
        yield
        return
    try:
        yield
    finally:
        lock.release()
