"""The records of a journal as bytes: frames that tell where they end and whether they are whole.

A journal is `MAGIC` and then frames of ``length, crc32, payload``. A payload is a JSON head, which says what kind of
record it is, and a blob. Voxels are kept as runs of neighbours, all numbers little-endian.
"""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medattn.store.confirmed import Box, Marks
from napari_medattn.store.edit import Edit, Labels, Places, as_places

MAGIC = b"MEDATTN journal 1\n"
_FRAME = struct.Struct("<II")  # length and CRC-32 of the payload
_HEAD = struct.Struct("<I")  # length of the JSON head
_QUICK = 1  # zlib level


@dataclass(frozen=True)
class Record:
    """One record.

    Attributes:
        kind: What it tells of, e.g. ``"step"``.
        head: What it tells, as plain data.
        blob: Voxels and labels, compressed.
        end: Where in the file it ends.
    """

    kind: str
    head: Mapping[str, Any]
    blob: bytes = b""
    end: int = 0


def to_frame(kind: str, head: Mapping[str, Any], blob: bytes = b"") -> bytes:
    """A record as it lies in the file."""
    text = json.dumps({"kind": kind, **head}, separators=(",", ":")).encode()
    payload = _HEAD.pack(len(text)) + text + blob
    return _FRAME.pack(len(payload), zlib.crc32(payload)) + payload


def read_records(data: bytes) -> Iterator[Record]:
    """The whole records of a journal, up to the first that is cut off or damaged."""
    start = len(MAGIC)
    while data[: len(MAGIC)] == MAGIC and start + _FRAME.size <= len(data):
        length, crc = _FRAME.unpack_from(data, start)
        end = start + _FRAME.size + length
        payload = data[start + _FRAME.size : end]
        if end > len(data) or length < _HEAD.size or zlib.crc32(payload) != crc:
            return
        text = _HEAD.size + _HEAD.unpack_from(payload)[0]
        head = json.loads(payload[_HEAD.size : text])
        yield Record(head.pop("kind"), head, payload[text:], end)
        start = end


def step_frame(edit: Edit) -> bytes:
    """A step as a record."""
    types = [part.dtype.newbyteorder("<").str for part in (edit.before, edit.after)]
    head = {"tool": edit.tool, "human": edit.human, "time": edit.time, "count": edit.count, "types": types}
    runs = _to_runs(edit.places)
    parts = [np.uint32(runs.size).tobytes(), runs.tobytes()]
    parts += [
        part.astype(kind, copy=False).tobytes() for part, kind in zip((edit.before, edit.after), types, strict=True)
    ]
    return to_frame("step", head, zlib.compress(b"".join(parts), _QUICK))


def step_of(record: Record, shape: Sequence[int]) -> Edit:
    """The step that a record tells of."""
    head, data = record.head, zlib.decompress(record.blob)
    size = int(np.frombuffer(data, "<u4", 1)[0])
    at = 4 + 8 * size
    places = as_places(_from_runs(np.frombuffer(data, "<i8", size, 4)), shape)
    values = []
    for kind in head["types"]:
        values.append(np.frombuffer(data, kind, head["count"], at).astype(np.dtype(kind).newbyteorder("=")))
        at += values[-1].nbytes
    return Edit(tuple(shape), places, values[0], values[1], head["tool"], head["human"], head["time"])


def confirm_frame(labels: Labels, box: Box, right: bool, time: float) -> bytes:
    """A confirmation as a record: what was confirmed is what the mask shows, of which a check sum is kept."""
    return to_frame("confirm", {"box": _ends(box), "right": right, "crc": labels_crc(labels, box), "time": time})


def labels_crc(labels: Labels, box: Box) -> int:
    """A check sum of the labels in a box, however they lie in memory."""
    crc, kind = 0, labels.dtype.newbyteorder("<")
    for plane in labels[box]:
        crc = zlib.crc32(np.ascontiguousarray(plane, kind).data, crc)
    return crc


def box_of(record: Record) -> Box:
    """The box that a record is about."""
    return tuple(slice(start, stop) for start, stop in record.head["box"])


def marks_frame(marks: Marks) -> bytes:
    """All that is confirmed, as a record."""
    kind = marks.labels.dtype.newbyteorder("<").str
    data = np.packbits(marks.mask).tobytes() + marks.labels[marks.mask].astype(kind, copy=False).tobytes()
    return to_frame("marks", {"box": _ends(marks.box), "type": kind}, zlib.compress(data, _QUICK))


def marks_of(record: Record) -> Marks:
    """All that a record says is confirmed."""
    box, kind, data = box_of(record), np.dtype(record.head["type"]), zlib.decompress(record.blob)
    shape = [s.stop - s.start for s in box]
    size = int(np.prod(shape))
    packed = np.frombuffer(data, np.uint8, -(-size // 8))
    mask = np.unpackbits(packed, count=size).astype(bool).reshape(shape)
    labels = np.zeros(shape, kind.newbyteorder("="))
    labels[mask] = np.frombuffer(data, kind, -1, packed.size)
    return Marks(box, mask, labels)


def _ends(box: Box) -> list[list[int]]:
    return [[int(s.start), int(s.stop)] for s in box]


def _to_runs(places: Places) -> NDArray[np.int64]:
    """Ascending indices as gap, length, gap, length, ..."""
    breaks = np.flatnonzero(np.diff(places) != 1) + 1
    starts = np.concatenate([[0], breaks])
    first = places[starts].astype(np.int64)
    lengths = np.diff(np.concatenate([starts, [len(places)]]))
    gaps = np.diff(first, prepend=0)
    gaps[1:] -= lengths[:-1]  # from the end of the run before
    return np.stack([gaps, lengths], axis=1).astype("<i8").ravel()


def _from_runs(runs: NDArray[np.integer]) -> NDArray[np.int64]:
    gaps, lengths = runs[0::2], runs[1::2]
    steps = np.ones(int(lengths.sum()), np.int64)
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    steps[starts] += gaps
    steps[0] -= 1
    return np.cumsum(steps)
