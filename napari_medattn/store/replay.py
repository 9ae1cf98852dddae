"""A journal read again: the mask, its log with undo and redo, and what of it was never saved."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from napari_medattn.store.edit import Labels
from napari_medattn.store.edits import EditLog
from napari_medattn.store.journal_base import damaged, load_base
from napari_medattn.store.journal_header import Header
from napari_medattn.store.records import Record, box_of, labels_crc, marks_of, read_records, step_of


@dataclass(frozen=True, eq=False)
class Replayed:
    """What a journal tells.

    Attributes:
        header: What it is about.
        labels: The mask.
        log: Its log.
        end: Where the last whole record ends.
        torn: Bytes after that, which could not be used.
        doubtful: Confirmations that were left out, because the mask did not show what had been confirmed.
        classes: What a person last called the classes, see `Journal.call_classes`; empty if nothing was told.
    """

    header: Header
    labels: Labels
    log: EditLog
    end: int
    torn: int
    doubtful: int
    classes: Mapping[str, Any] = field(default_factory=dict)


class _Player:
    """Applies records one after the other."""

    def __init__(self, labels: Labels) -> None:
        self.labels, self.log, self.doubtful = labels, EditLog(labels.shape), 0
        self.classes: Mapping[str, Any] = {}

    def play(self, record: Record) -> None:
        """Bring labels and log to where they were after this record."""
        if record.kind == "step":
            edit = step_of(record, self.log.shape)
            self.log.append(edit)
            edit.do(self.labels)
        elif record.kind == "undo":
            self.log.mark_undone().undo(self.labels)
        elif record.kind == "redo":
            self.log.mark_redone().do(self.labels)
        elif record.kind == "confirm":
            self._confirm(record)
        elif record.kind == "marks":
            self.log.confirmations.put(marks_of(record))
        elif record.kind == "locks":
            self.log.lock(record.head["classes"])
        elif record.kind == "type":
            self.labels = self.labels.astype(record.head["dtype"])
        elif record.kind == "classes":
            self.classes = record.head

    def _confirm(self, record: Record) -> None:
        box, right = box_of(record), record.head["right"]
        if right and labels_crc(self.labels, box) != record.head["crc"]:
            self.doubtful += 1
            return
        self.log.confirm(self.labels, box, right)


def replay(path: Path) -> Replayed:
    """Read a journal up to where it is whole.

    Raises:
        JournalError: If nothing can be recovered.
    """
    data = _read(path)
    header, records = _start(path, data)
    end, player = 0, None
    for record in records:
        if record.kind == "base":
            player = _Player(load_base(path, record.head["sha256"], record.head["dtype"], header.shape))
        elif player is not None:
            try:
                player.play(record)
            except (IndexError, KeyError, ValueError, zlib.error) as error:
                raise damaged(path, f"its records contradict each other ({error})") from error
        end = record.end
    if player is None:
        raise damaged(path, "it breaks off before the mask")
    return Replayed(header, player.labels, player.log, end, len(data) - end, player.doubtful, player.classes)


@dataclass(frozen=True)
class Unsaved:
    """A journal that may hold work that was never saved, told without reading its voxels.

    Attributes:
        path: The journal.
        header: What it is about.
        edits: Steps of a person since the mask was saved last.
        confirmations: Confirmations since then.
        changed: Whether there is unsaved work: these, or saved steps that were undone.
        last: When the last thing was done, in seconds since the epoch.
        class_names: What a person last called the labels from 0.
    """

    path: Path
    header: Header
    edits: int
    confirmations: int
    changed: bool
    last: float
    class_names: tuple[str, ...]


def look(path: Path) -> Unsaved:
    """What a journal holds that was not saved.

    Raises:
        JournalError: If nothing can be recovered.
    """
    header, records = _start(path, _read(path))
    try:
        return _looked(path, header, records)
    except (IndexError, KeyError) as error:
        raise damaged(path, f"its records contradict each other ({error})") from error


def _looked(path: Path, header: Header, records: list[Record]) -> Unsaved:
    names = header.class_names
    stack: list[tuple[int, bool]] = []  # number and whether a person did it
    undone: list[tuple[int, bool]] = []
    boxes: set[str] = set()  # that are confirmed
    saving: tuple[set[tuple[int, bool]], set[str]] = (set(), set())
    saved, last = saving, header.created
    for number, record in enumerate(records):
        if record.kind == "step":
            stack.append((number, bool(record.head["human"])))
            undone.clear()
        elif record.kind == "undo":
            undone.append(stack.pop())
        elif record.kind == "redo":
            stack.append(undone.pop())
        elif record.kind in ("confirm", "marks"):
            (boxes.add if record.head.get("right", True) else boxes.discard)(str(record.head["box"]))
        elif record.kind == "saving":
            saving = (set(stack), set(boxes))
        elif record.kind in ("saved", "forgotten"):
            saved = saving if record.kind == "saved" else (set(stack), set(boxes))
        elif record.kind == "classes":
            names = tuple(record.head["names"])
        last = float(record.head.get("time", last))
    before = {step for step in saved[0] if step[1]}
    now = {step for step in stack if step[1]}
    changed = now != before or boxes != saved[1]
    return Unsaved(path, header, len(now - before), len(boxes - saved[1]), changed, last, names)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise damaged(path, (error.strerror or str(error)).lower()) from error


def _start(path: Path, data: bytes) -> tuple[Header, list[Record]]:
    records = list(read_records(data))
    if not records or records[0].kind != "header":
        raise damaged(path, "it breaks off before its header")
    return Header.from_plain(records[0].head), records[1:]
