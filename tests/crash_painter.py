"""Paints seeded strokes into a real Labels layer under a journal, and is killed: what comes back must be what was done.

``python -m tests.crash_painter FOLDER ROUNDS SEED`` prints one line of JSON for each round. Each round forks a process
that paints and reports every step when it is done; it is killed with SIGKILL at a random moment.
"""

from __future__ import annotations

import json
import os
import random
import select
import signal
import sys
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from napari.components import ViewerModel

from napari_medattn.geometry import Grid
from napari_medattn.store.journal import Journal
from napari_medattn.store.journal_header import Header
from napari_medattn.store.replay import replay
from napari_medattn.widgets.edit_watch import EditWatch

SHAPE = (12, 40, 40)
PLANS = ("paint", "paint", "paint", "erase", "fill", "stroke", "tool", "undo", "redo", "napari undo", "confirm", "turn")
LONGEST = 0.5  # seconds until the kill


def digest(labels, log) -> int:
    """One number for all that must come back."""
    crc = zlib.crc32(labels.tobytes())
    for part in (log.edited, log.confirmed(labels)):
        crc = zlib.crc32(part.tobytes(), crc)
    for edit in (*log.edits, *log.redoable):
        crc = zlib.crc32(
            edit.places.tobytes() + edit.before.tobytes() + edit.after.tobytes() + bytes([edit.human]), crc
        )
    return crc


class Painter:
    """A person with a seed."""

    def __init__(self, seed: int) -> None:
        self.draw = random.Random(seed)
        self.viewer = ViewerModel()
        start = np.random.default_rng(seed).integers(0, 3, SHAPE, dtype=np.uint8)
        self.layer = self.viewer.add_labels(start)
        self.watch = EditWatch(self.layer, lambda: None)

    def steps(self) -> Iterator[int]:
        """Do one thing after the other, endlessly; yields the digest after each."""
        while True:
            getattr(self, self.draw.choice(PLANS).replace(" ", "_"))()
            self.watch.flush()
            yield digest(self.layer.data, self.watch.log)

    def _at(self) -> tuple[int, ...]:
        return tuple(self.draw.randrange(size) for size in SHAPE)

    def paint(self) -> None:
        self.layer.mode = "paint"
        self.layer.brush_size = self.draw.randint(1, 12)
        self.layer.n_edit_dimensions = self.draw.choice((2, 3))
        self.layer.paint(self._at(), self.draw.randint(1, 4))

    def erase(self) -> None:
        self.layer.mode = "erase"
        self.layer.paint(self._at(), 0)

    def fill(self) -> None:
        self.layer.mode = "fill"
        self.layer.fill(self._at(), self.draw.randint(0, 4))

    def stroke(self) -> None:
        z, y, x = self._at()
        with self.layer.block_history():
            for step in range(self.draw.randint(2, 20)):
                self.layer.paint((z, y, (x + step) % SHAPE[2]), 2)

    def tool(self) -> None:
        z, y, x = self._at()
        with self.watch.machine("tool"):
            self.layer.data_setitem(np.nonzero(self.layer.data[: z + 1, : y + 1, : x + 1] == 1), 3)

    def undo(self) -> None:
        self.watch.undo()

    def redo(self) -> None:
        self.watch.redo()

    def napari_undo(self) -> None:
        self.layer.undo()

    def confirm(self) -> None:
        z = self.draw.randrange(SHAPE[0])
        self.watch.log.confirm(self.layer.data, (slice(z, z + 1),), self.draw.random() < 0.7)

    def turn(self) -> None:
        self.viewer.dims.order = tuple(self.draw.sample(range(3), 3))


def paint_until_killed(path: Path, seed: int, report: int) -> None:
    """The process that is killed: tells how many things are done, one line each."""
    painter = Painter(seed)
    grid = Grid.from_spacing(SHAPE, (1.0, 1.0, 1.0))
    journal = Journal(path, Header.of("ab" * 16, grid, painter.layer.data, ("background", "a"), {}))
    journal.begin(painter.watch.log, painter.layer.data)()
    journal.settle()
    os.write(report, b"0\n")
    for done, _ in enumerate(painter.steps(), start=1):
        os.write(report, f"{done}\n".encode())


def crash(path: Path, seed: int) -> dict[str, object]:
    """One round: what was reported, and whether replaying gives that state or the one after it."""
    ear, mouth = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            paint_until_killed(path, seed, mouth)
        finally:
            os._exit(1)
    os.close(mouth)
    said = b""
    while not said.endswith(b"\n"):  # until the journal is open
        said += os.read(ear, 1)
    until = time.monotonic() + random.Random(seed).uniform(0, LONGEST)
    while (left := until - time.monotonic()) > 0:
        if select.select([ear], [], [], left)[0]:
            said += os.read(ear, 65536)
    os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    while part := os.read(ear, 65536):
        said += part
    os.close(ear)
    done = int(said.splitlines()[-1])
    found = replay(path)
    return {
        "seed": seed,
        "done": done,
        "killed": os.WTERMSIG(status) == signal.SIGKILL,
        "kept": kept(found, seed, done),
    }


def kept(found, seed: int, done: int) -> int | None:
    """How many things of a seed lead to what was found: ``done`` or one more; None if neither does."""
    painter = Painter(seed)
    states = [digest(painter.layer.data, painter.watch.log)]
    for _, now in zip(range(done + 1), painter.steps(), strict=False):
        states.append(now)
    now = digest(found.labels, found.log)
    return next((count for count in (done, done + 1) if states[count] == now), None)


def main(folder: str, rounds: str, seed: str) -> None:
    """Run the rounds."""
    for number in range(int(rounds)):
        path = Path(folder) / f"{number}.journal"
        print(json.dumps(crash(path, int(seed) + number)), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
