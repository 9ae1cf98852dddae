"""Writing files so that a reader finds the old one or the new one, never half of one."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from napari_medattn.errors import SaveError


def make_folder(folder: Path) -> Path:
    """Create a folder and those above it.

    Raises:
        SaveError: If that is not possible.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SaveError(f"The folder {folder} could not be created: {_reason(error)}.", _remedy(error)) from error
    return folder


@contextmanager
def atomic_write(target: Path | str) -> Iterator[Path]:
    """A temporary path beside ``target`` that takes its place when the block ends without an error.

    The temporary name ends like the target's, for libraries that choose a format by suffix.

    Raises:
        SaveError: If the folder does not exist or cannot be written, or the disk is full. The target is
            then untouched and the temporary file is gone.
    """
    target = Path(target)
    temporary: Path | None = None
    try:
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=".saving-", suffix="".join(target.suffixes[-2:]))
        temporary = Path(name)
        os.close(descriptor)
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)
    except OSError as error:
        raise trouble(target, error) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def trouble(target: Path | str, error: OSError) -> SaveError:
    """What went wrong with writing a file, in words."""
    return SaveError(f"{target} could not be saved: {_reason(error)}.", _remedy(error))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).rstrip(".").lower()


def _remedy(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "Free some space or save elsewhere; nothing was changed."
    if error.errno == errno.ENOENT:
        return "Create the folder first, or save elsewhere."
    return "Save to a folder that you may write to; nothing was changed."
