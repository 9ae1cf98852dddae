"""What one stroke costs on a large mask, from napari's report to the record on disk, and how large the journal grows.

``python benchmarks/journal.py [SIDE] [STROKES]`` prints the table of ``journal.md``.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from napari.components import ViewerModel

from napari_medattn.bench.journal import JournalCost, hand, measure_journal, organ
from napari_medattn.bench.row import Row
from napari_medattn.correct.apply import admit
from napari_medattn.correct.proposal import Proposal
from napari_medattn.geometry import Grid
from napari_medattn.store.journal import Journal
from napari_medattn.store.journal_header import Header
from napari_medattn.store.replay import replay
from napari_medattn.store.scan_id import scan_id
from napari_medattn.widgets.edit_watch import EditWatch

BRUSH = 20


def timed(work) -> float:
    """Milliseconds of one call."""
    began = time.perf_counter()
    work()
    return 1000 * (time.perf_counter() - began)


class Listener:
    """Everything that `EditWatch` does of its own when napari reports a stroke, timed."""

    def __init__(self, watch: EditWatch) -> None:
        self.spent = self.worked = 0.0
        layer = watch.layer
        layer.events.paint.disconnect(watch._painted)
        self.heard = watch._painted
        layer.events.paint.connect(self.painted)

    def painted(self, event) -> None:
        worked = time.thread_time()
        self.spent += timed(lambda: self.heard(event))
        self.worked += 1000 * (time.thread_time() - worked)


def end_to_end(side: int, strokes: int) -> list[Row]:
    """A real Labels layer, and what a person waits for beside painting."""
    labels, draw = organ(side), np.random.default_rng(0)
    layer = ViewerModel().add_labels(labels)
    layer.brush_size = BRUSH
    layer.mode = "paint"
    watch = EditWatch(layer, lambda: watch.log.edited_count)
    with TemporaryDirectory() as folder:
        grid = Grid.from_spacing((side, side, side), (1.0, 1.0, 1.0))
        journal = Journal(Path(folder) / "b.journal", Header.of("0" * 32, grid, labels, ("a", "b", "c"), {}))
        work = journal.begin(watch.log, labels)
        base = timed(work)
        journal.settle()
        listener, times, working, whole, start = Listener(watch), [], [], [], journal.size
        for number in range(strokes):
            listener.spent = listener.worked = 0.0
            points = hand(side, draw)

            def stroke(points=points, label=number % 3) -> None:
                with layer.block_history():
                    for at in points:
                        layer.paint(at, label, refresh=False)

            whole.append(timed(stroke))
            times.append(listener.spent)
            working.append(listener.worked)
        cost = JournalCost(times, working, (journal.size - start) / labels.nbytes, 0.0)
        back = timed(lambda: replay(journal.path))
        scroll = timed(watch._redrawn)
        undo = timed(watch.undo)
        new = np.roll(organ(side), side // 16, axis=1)
        everywhere = np.broadcast_to(np.True_, new.shape)
        proposal = Proposal((slice(None),) * 3, new, everywhere, "segment")
        admitting = timed(lambda: admit(proposal, labels, watch.log))
        admitted = admit(proposal, labels, watch.log)
        rerun = timed(lambda: watch.write(admitted.edit))
        after = timed(watch._redrawn)
        back_again = timed(watch.undo)
        journal.close()
    rows = [row for row in cost.rows(side) if "starts from" not in row.name]
    rows = [Row(f"EditWatch: {row.name}", row.value, row.target, row.unit, row.at_most) for row in rows]
    return [
        *rows,
        Row("napari's painting and EditWatch together, median", float(np.median(whole)), unit="ms"),
        Row("after a stroke, a redrawn slice", scroll, unit="ms"),
        Row("undo of a stroke", undo, unit="ms"),
        Row("what a rerun may change, told", admitting, unit="ms"),
        Row(f"a rerun as one step, {admitted.changed:,} voxels", rerun, unit="ms"),
        Row("undo of a rerun", back_again, unit="ms"),
        Row("after a rerun, a redrawn slice", after, unit="ms"),
        Row("in the background: the mask that the journal starts from", base, unit="ms"),
        Row(f"in the background: bringing back {strokes} strokes", back, unit="ms"),
        Row("in the background: telling which scan it is", timed(lambda: scan_id(labels, grid)), unit="ms"),
    ]


def main(side: str = "512", strokes: str = "500") -> None:
    """Print the table."""
    rows = [*measure_journal(int(side), int(strokes), BRUSH).rows(int(side)), *end_to_end(int(side), int(strokes))]
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}\n")
    print("| what | value | asked for | |\n|---|---|---|---|")
    for row in rows:
        asked = "" if row.target is None else f"<= {row.target:g} {row.unit}"
        print(f"| {row.name} | {row.value:.3g} {row.unit} | {asked} | {'' if row.ok else 'NOT MET'} |")


if __name__ == "__main__":
    main(*sys.argv[1:])
