"""The mask that a journal's records start from: compressed, beside the journal, in a file named by its hash."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from napari_medattn.errors import JournalError
from napari_medattn.files import atomic_write
from napari_medattn.store.edit import Labels

_SLAB_BYTES = 2**22  # are compressed at a time
_QUICK = 1  # zlib level


def base_path(journal: Path, sha: str) -> Path:
    """Where the mask of a hash lies for a journal."""
    return journal.with_suffix(f".{sha[:12]}.base")


def write_base(journal: Path, labels: Labels) -> str:
    """Write a mask for a journal to start from; returns the hash of the file.

    Raises:
        SaveError: If it cannot be written.
    """
    squeeze, order = zlib.compressobj(_QUICK), labels.dtype.newbyteorder("<")
    rows = max(1, _SLAB_BYTES // max(1, labels[:1].nbytes))
    slabs = (np.ascontiguousarray(labels[at : at + rows], order) for at in range(0, len(labels), rows))
    data = b"".join([*(squeeze.compress(slab.data) for slab in slabs), squeeze.flush()])
    sha = hashlib.sha256(data).hexdigest()
    with atomic_write(base_path(journal, sha)) as temporary:
        temporary.write_bytes(data)
    return sha


def load_base(journal: Path, sha: str, dtype: str, shape: Sequence[int]) -> Labels:
    """Read the mask that a journal starts from.

    Raises:
        JournalError: If it is gone, or is not the one that the journal speaks of.
    """
    try:
        data = base_path(journal, sha).read_bytes()
    except OSError as error:
        raise damaged(journal, "the mask that it starts from is gone") from error
    if hashlib.sha256(data).hexdigest() != sha:
        raise damaged(journal, "the mask that it starts from is not the one it speaks of")
    array = np.frombuffer(zlib.decompress(data), dtype)
    return array.astype(array.dtype.newbyteorder("=")).reshape(shape)


def drop_bases(journal: Path, keep: str) -> None:
    """Delete the masks that a journal started from before."""
    for path in journal.parent.glob(f"{journal.stem}.*.base"):
        if path != base_path(journal, keep):
            path.unlink(missing_ok=True)


def damaged(journal: Path, why: str) -> JournalError:
    """The error for a journal that cannot be read."""
    return JournalError(f"The journal {journal.name} cannot be read: {why}.", "Its edits cannot be brought back.")
