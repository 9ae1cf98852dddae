"""A file of records, one line of JSON each, that is only ever appended to.

One record is one `os.write`, so windows that append at the same time do not mix theirs. A line that a crash cut off
is passed over: each record also begins a line, so nothing is ever appended to a broken one.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from napari_medattn.files import make_folder, trouble


def append(path: Path, record: Mapping[str, Any]) -> None:
    """Add a record.

    Raises:
        SaveError: If it cannot be written.
    """
    line = f"\n{json.dumps(record, ensure_ascii=False)}\n".encode()
    make_folder(path.parent)
    try:
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
        try:
            done = os.write(file, line)
            if done < len(line):
                os.write(file, line[done:])  # says what is wrong
            os.fsync(file)
        finally:
            os.close(file)
    except OSError as error:
        raise trouble(path, error) from error


def read_all(path: Path) -> list[dict[str, Any]]:
    """All records that are whole, oldest first; none if there is no file."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return []
    found = (_record(line) for line in lines if line)
    return [record for record in found if record is not None]


def _record(line: bytes) -> dict[str, Any] | None:
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None
