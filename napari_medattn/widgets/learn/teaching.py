"""What there is to learn from: the store's cases as the window shows them, and the open one as an example."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medattn.data import Example
from napari_medattn.layerdata import KEY, layer_to_volume
from napari_medattn.store.card import now
from napari_medattn.store.examples import Entry, ExampleStore, held_out
from napari_medattn.widgets.case import Case


@dataclass(frozen=True)
class Taught:
    """A scan in the store.

    Attributes:
        entry: The newest of its entries that is not hidden, or the newest of all where all are.
        scored: Whether it is held out, to score versions on.
    """

    entry: Entry
    scored: bool = False

    @property
    def used(self) -> bool:
        """Whether it is not left out."""
        return not self.entry.hidden

    @property
    def edited(self) -> int:
        """Voxels that a person painted, or vouches for where that is not known."""
        return int(self.entry.provenance.get("painted") or self.entry.counted)


def taught_cases(store: ExampleStore, class_names: Sequence[str]) -> list[Taught]:
    """The scans of these classes in the store, oldest first."""
    entries = [entry for entry in store.entries() if entry.class_names == tuple(class_names)]
    latest = store.latest(among=entries)
    scored = {entry.name for entry in held_out(latest)}
    known = {entry.scheme: entry for entry in entries}  # the newest, as entries come oldest first
    known.update({entry.scheme: entry for entry in latest})
    found = [Taught(entry, entry.name in scored) for entry in known.values()]
    return sorted(found, key=lambda one: (one.entry.date, one.entry.name))


def leave_out(store: ExampleStore, taught: Taught, out: bool) -> None:
    """Leave all that is known of a scan out, or take its newest entry in again.

    Raises:
        SaveError: If that cannot be written.
    """
    if not out:
        store.unhide(taught.entry)
        return
    for entry in [*store.superseded(taught.entry), taught.entry]:
        store.hide(entry)


@dataclass(frozen=True, eq=False)
class Vouched:
    """The open case's corrections at one moment; its image is read later.

    Attributes:
        case: The case.
        labels: (Z, Y, X).
        weights: (Z, Y, X), where a person vouches for the label.
        class_names: As networks know them.
        provenance: See `Example.provenance`.
    """

    case: Case
    labels: NDArray[np.integer]
    weights: NDArray[np.bool_]
    class_names: tuple[str, ...]
    provenance: dict[str, Any]

    @classmethod
    def of(cls, case: Case) -> Vouched:
        """What a person vouches for now; later painting does not change it.

        Raises:
            GeometryError: If there is no mask.
        """
        labels, weights = case.vouched()
        assert case.mask is not None and case.watch is not None
        log = case.watch.log
        record = case.mask.metadata[KEY].get("record", {})
        told = {key: record[key] for key in ("checkpoint", "weights_sha256") if record.get(key)}
        journal = getattr(log.recorder, "path", None)
        told |= {"journal": journal.name} if journal is not None else {}
        confirmed = int(np.count_nonzero(log.confirmed(case.watch.labels)))
        told |= {"painted": case.edited, "confirmed": confirmed, "made": now()}
        return cls(case, labels, weights, case.scheme, told)

    def example(self) -> Example:
        """The example; reads the image."""
        volume = layer_to_volume(self.case.image)
        return Example(volume, self.labels, self.weights, self.class_names, volume.modality, self.provenance)


def touched_slices(case: Case) -> int:
    """Slices along Z in which a person edited voxels, or that are confirmed as a whole."""
    if case.mask is None or case.watch is None:
        return 0
    log, labels = case.watch.log, case.watch.labels
    if labels.ndim == 2:
        return int(bool(log.edited_count) or bool(log.confirmed_slices(labels)))
    touched = np.zeros(labels.shape[0], bool)
    touched[log.confirmed_slices(labels)] = True
    if log.edited_count:
        touched |= log.edited.any(axis=(1, 2))
    return int(np.count_nonzero(touched))
