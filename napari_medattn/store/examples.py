"""`ExampleStore`: what a person taught, kept in a folder for every training to come.

Nothing is ever changed or deleted here. An example is a file named by the hash of its content, and so is the image
that it is about, which is kept once however many examples of it come. Files appear whole or not at all and under names
that depend on nothing else, so windows may add at the same time without waiting for each other. What is left out, and
what was added once more, is told by records that are appended to one file.

No name of a file or a person is kept: a scan is called by its hash.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from napari_medattn.data import Example, Volume
from napari_medattn.errors import ExampleError, GeometryError
from napari_medattn.events import Progress, run_to_end
from napari_medattn.files import make_folder
from napari_medattn.geometry import Grid
from napari_medattn.store.appended import append, read_all
from napari_medattn.store.array_file import damaged, is_whole, read_array, read_card, write_steps
from napari_medattn.store.example_entry import (
    Entry,
    arrays_of,
    case_title,
    entry_of,
    example_card,
    example_hash,
    image_card,
    image_hash,
)
from napari_medattn.store.home import home_folder
from napari_medattn.store.leftovers import is_leftover, sweep_leftovers

__all__ = ["Entry", "ExampleStore", "examples_folder", "held_out"]

_SUFFIX = ".npz"
_FEWEST_CASES = 5  # with fewer, none is held out
_HELD_OUT = 0.2


def examples_folder() -> Path:
    """Where a person's own examples are kept: ``$MEDATTN_HOME/examples`` or the user's data folder."""
    return home_folder() / "examples"


class ExampleStore:
    """Examples in a folder.

    Args:
        folder: Where; the user's own if None. Created when the first example is added.
    """

    def __init__(self, folder: Path | str | None = None) -> None:
        self.folder = Path(folder) if folder is not None else examples_folder()
        self._images, self._records = self.folder / "images", self.folder / "records.jsonl"
        self._known: dict[Path, tuple[tuple[int, int], Entry]] = {}  # by file, with its time and size

    # -- adding

    def add(self, example: Example) -> Entry:
        """Keep an example; the same content twice is one entry, which then counts as added now, and is not hidden.

        Raises:
            InputError: If it has no class names, no voxel counts, or one that does has no class.
            SaveError: If it cannot be written; nothing is listed then.
        """
        return run_to_end(self.add_steps(example))

    def add_steps(self, example: Example) -> Generator[Progress, None, Entry]:
        """`add` as a generator; leaving it early adds nothing."""
        yield Progress("keeping the example", 0, 0)
        arrays = arrays_of(example)
        image = np.asarray(example.volume.array)
        about = image_card(example.volume)
        case = image_hash(about, image)
        card = example_card(example, case, arrays, _now())
        path = self.folder / f"{example_hash(card, arrays)}{_SUFFIX}"
        for folder in (make_folder(self.folder), make_folder(self._images)):
            sweep_leftovers(folder)
        if not is_whole(self._image(case)):
            yield from _telling(write_steps(self._image(case), about, {"image": image}), image.nbytes)
        if is_whole(path):
            append(self._records, {"kind": "added", "name": path.stem, "date": card["date"]})
        else:
            yield from _telling(write_steps(path, card, arrays), sum(array.nbytes for array in arrays.values()))
            if any(record.get("name") == path.stem for record in read_all(self._records)):  # damaged, or hidden
                append(self._records, {"kind": "added", "name": path.stem, "date": card["date"]})
        return self.find(path.stem)

    # -- listing

    def entries(self, problems: list[ExampleError] | None = None) -> list[Entry]:
        """All entries, hidden ones too, oldest first; voxels are not read.

        Args:
            problems: Damaged entries do not spoil the list; what is wrong with them is appended here.
        """
        records = read_all(self._records)
        found = []
        for path in self.folder.glob(f"*{_SUFFIX}"):
            if is_leftover(path):
                continue
            try:
                found.append(self._entry(path))
            except ExampleError as error:
                if problems is not None:
                    problems.append(error)
        return sorted(_with_records(found, records), key=lambda entry: (entry.date, entry.name))

    def find(self, name: str) -> Entry:
        """The entry of a name, or of the beginning of one.

        Raises:
            ExampleError: If there is none, several begin alike, or it is damaged.
        """
        problems: list[ExampleError] = []
        found = [entry for entry in self.entries(problems) if name and entry.name.startswith(name)]
        if len(found) == 1:
            return found[0]
        if found:
            raise ExampleError(f"{len(found)} examples begin with {name!r}.", "Give more of the name.")
        for problem in problems:
            if name and f" {name}" in problem.problem:
                raise problem
        raise ExampleError(f"There is no example {name!r}.", "`medattn examples` lists those that there are.")

    def latest(self, class_names: Sequence[str] | None = None, among: Iterable[Entry] | None = None) -> list[Entry]:
        """What to learn from: of each scan and its classes the newest entry that is not hidden, oldest first.

        What an older entry says of a voxel is thus never held against what the newest says; see `superseded` for what
        was left out, and `combined` for learning from it as well.

        Args:
            class_names: Only entries of these classes, if given.
            among: The entries to choose from; all if None.
        """
        newest: dict[Any, Entry] = {}
        for entry in sorted(self.entries() if among is None else among, key=lambda one: (one.date, one.name)):
            if not entry.hidden and class_names in (None, entry.class_names):
                newest[entry.scheme] = entry
        return sorted(newest.values(), key=lambda entry: (entry.date, entry.name))

    def superseded(self, entry: Entry) -> list[Entry]:
        """Older entries of the same scan and classes that are not hidden, oldest first."""
        same = [one for one in self.entries() if one.scheme == entry.scheme and not one.hidden]
        return [one for one in same if (one.date, one.name) < (entry.date, entry.name)]

    # -- reading

    def load(self, entry: Entry) -> Example:
        """An entry with its voxels, exactly as they were added; the image is called after its scan's hash.

        Raises:
            ExampleError: If a file of it is gone or damaged.
        """
        card = read_card(entry.path)
        arrays = {name: read_array(entry.path, card, name) for name in card["arrays"]}
        volume = self._volume(entry.case)
        try:
            if example_hash(card, arrays) != entry.name:
                raise ValueError("its content is not what its name says")
            return Example(
                volume,
                arrays["labels"],
                arrays.get("weights"),
                entry.class_names,
                entry.modality,
                dict(entry.provenance),
            )
        except (KeyError, ValueError, GeometryError) as error:
            raise damaged(entry.path, error) from error

    def combined(self, entry: Entry) -> tuple[Example, int]:
        """An entry with what older entries of the same scan and classes say where it says nothing.

        Of several entries from one journal only the newest counts: what it says no more was undone.

        Returns:
            The example, and the number of voxels of which an older entry says something else than a newer one: the
            newer one is followed.

        Raises:
            ExampleError: If a file of any of them is gone or damaged.
        """
        example = self.load(entry)
        older = _newest_of_each_journal(self.superseded(entry), entry)
        if not older:
            return example, 0
        labels, weights, contradicted = example.labels.copy(), _weights(example), np.zeros(example.labels.shape, bool)
        for one in older:
            earlier = self.load(one)
            known, told = weights > 0, earlier.counts()
            contradicted |= known & told & (labels != earlier.labels)
            new = told & ~known
            labels = labels.astype(np.promote_types(labels.dtype, earlier.labels.dtype), copy=False)
            labels[new], weights[new] = earlier.labels[new], _weights(earlier)[new]
        return replace(example, labels=labels, weights=weights), int(contradicted.sum())

    # -- leaving out

    def hide(self, entry: Entry) -> Entry:
        """Leave an entry out of `latest`; an older one of the same scan counts again then.

        Raises:
            SaveError: If that cannot be written.
        """
        append(self._records, {"kind": "hidden", "name": entry.name, "date": _now()})
        return self.find(entry.name)

    def unhide(self, entry: Entry) -> Entry:
        """Take back `hide`.

        Raises:
            SaveError: If that cannot be written.
        """
        append(self._records, {"kind": "shown", "name": entry.name, "date": _now()})
        return self.find(entry.name)

    # -- files

    def _image(self, case: str) -> Path:
        return self._images / f"{case}{_SUFFIX}"

    def _entry(self, path: Path) -> Entry:
        """What a file tells of its entry; read once as long as the file stays the same."""
        try:
            stat = path.stat()
        except OSError as error:
            raise damaged(path, error) from error
        stamp = stat.st_mtime_ns, stat.st_size
        known = self._known.get(path)
        if known is None or known[0] != stamp:
            try:
                known = stamp, entry_of(read_card(path), path)
            except (KeyError, TypeError, ValueError) as error:
                raise damaged(path, error) from error
        if not self._image(known[1].case).is_file():
            raise damaged(path, ValueError("its image is gone"))
        self._known[path] = known
        return known[1]

    def _volume(self, case: str) -> Volume:
        path = self._image(case)
        card = read_card(path)
        array = read_array(path, card, "image")
        try:
            if image_hash(card, array) != case:
                raise ValueError("its content is not what its name says")
            grid = Grid(array.shape[1:], np.array(card["affine"]).reshape(4, 4), str(card["units"]))
            # Cards of before do not say whether it is oriented.
            grid = replace(grid, oriented=bool(card.get("oriented", grid.units == "mm" and not grid.is_plain)))
            return Volume(array, grid, name=case_title(case), spatial_dims=int(card["spatial_dims"]))
        except (KeyError, TypeError, ValueError, GeometryError) as error:
            raise damaged(path, error) from error


def held_out(entries: Iterable[Entry]) -> list[Entry]:
    """The entries that are kept for scoring: about one scan in five; none of fewer than five scans.

    Which ones hangs on each scan's hash alone, so it is the same in every run. From five scans on at least one is held
    out, never all, and a scan that was learned from is not held out later when others are added; the first four were
    all learned from, so one of them may be among those held out.
    """
    entries = list(entries)
    cases = sorted({entry.case for entry in entries})  # by hash: in random order, but always the same
    if len(cases) < _FEWEST_CASES:
        return []
    chosen = [case for case in cases if int(case[:8], 16) < _HELD_OUT * 16**8]
    kept = set(chosen[: len(cases) - 1] or cases[:1])
    return [entry for entry in entries if entry.case in kept]


def _newest_of_each_journal(older: Sequence[Entry], entry: Entry) -> list[Entry]:
    """Older entries, newest first, without those whose journal a newer one tells of more fully."""
    told, found = {entry.provenance.get("journal")}, []
    for one in reversed(older):
        journal = one.provenance.get("journal")
        if journal is None or journal not in told:
            found.append(one)
        told.add(journal)
    return found


def _with_records(entries: Iterable[Entry], records: Iterable[dict[str, Any]]) -> list[Entry]:
    """Entries with what was said of them later."""
    known = {entry.name: entry for entry in entries}
    for record in records:
        entry = known.get(str(record.get("name")))
        if entry is None:
            continue
        if record.get("kind") in ("hidden", "shown"):
            known[entry.name] = replace(entry, hidden=record["kind"] == "hidden")
        elif record.get("kind") == "added":
            known[entry.name] = replace(entry, hidden=False, date=max(entry.date, str(record.get("date"))))
    return list(known.values())


def _telling(written: Iterable[int], total: int) -> Generator[Progress, None, None]:
    done = 0
    for size in written:
        done += size
        yield Progress("keeping the example", done >> 20, total >> 20, "MB")


def _weights(example: Example) -> Any:
    """Weights that may be written into, as numbers where they are not all 0 or 1."""
    if example.weights is None:
        return np.ones(example.labels.shape, np.float32)
    return np.asarray(example.weights).astype(np.float32)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="microseconds")
