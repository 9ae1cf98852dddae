"""Which version of each line is in use: a small file beside the checkpoints, which may be lost without harm."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from napari_medattn.files import atomic_write, make_folder
from napari_medattn.store.checkpoints import Checkpoint

_NAME = ".current.json"  # no checkpoint can be called so
Mark = tuple[str, str]  # hash of the weights, name


def mark_of(checkpoint: Checkpoint) -> Mark:
    """What tells a checkpoint in that file."""
    return checkpoint.card.weights_sha256, checkpoint.name


def read_marks(folder: Path) -> list[Mark]:
    """The versions in use, the one chosen last at the end; none if the file is missing or damaged."""
    try:
        found = json.loads((folder / _NAME).read_text(encoding="utf-8"))["current"]
        return [(str(mark["weights_sha256"]), str(mark["name"])) for mark in found]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def write_marks(folder: Path, marks: Iterable[Mark]) -> None:
    """Keep which versions are in use.

    Raises:
        SaveError: If it cannot be written; what was kept before then still is.
    """
    plain = {"current": [{"weights_sha256": sha, "name": name} for sha, name in marks]}
    with atomic_write(make_folder(folder) / _NAME) as temporary:
        temporary.write_text(json.dumps(plain, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def chosen(line: list[Checkpoint], marks: Iterable[Mark]) -> Checkpoint:
    """The version of a line that is in use: the one chosen last, and where none was, the root, which comes first.

    A mark counts for the weights, whatever their name is by now; weights of the same name that were trained anew are
    others.
    """
    for sha, name in reversed(list(marks)):
        same = [one for one in line if one.card.weights_sha256 == sha]
        if same:
            return next((one for one in same if one.name == name), same[0])
    return line[0]
