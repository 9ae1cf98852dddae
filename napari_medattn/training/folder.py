"""A data set in a folder: ``images/``, ``labels/`` with the same names, and ``dataset.json``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_medattn.data import read_labels, read_volume
from napari_medattn.data.formats import find_format, stem
from napari_medattn.errors import ReadError
from napari_medattn.training.examples import Example


@dataclass(frozen=True)
class DataFolder:
    """A folder of labelled images.

    Attributes:
        root: The folder.
        name: The set's name.
        class_names: Names of the labels 0, 1, ...
        licence: The set's licence, as its ``dataset.json`` gives it.
        source: Where it comes from.
        cases: Image and label file of each case by its name, sorted.
    """

    root: Path
    name: str
    class_names: tuple[str, ...]
    licence: str
    source: str
    cases: dict[str, tuple[Path, Path]]

    @classmethod
    def open(cls, root: Path | str) -> DataFolder:
        """Look through a folder.

        Raises:
            ReadError: If ``dataset.json`` is missing or unreadable, or no image has a label.
        """
        root = Path(root)
        if not (root / "dataset.json").is_file():
            raise ReadError(
                f"{root} has no dataset.json.", 'Put one there: {"labels": {"0": "background", "1": "..."}}.'
            )
        try:
            facts = json.loads((root / "dataset.json").read_text(encoding="utf-8"))
            labels = {int(number): str(label) for number, label in facts["labels"].items()}
        except (OSError, ValueError, KeyError, AttributeError) as error:
            raise ReadError(
                f"{root / 'dataset.json'} cannot be read ({error}).",
                'Put one there: {"labels": {"0": "background", "1": "..."}}.',
            ) from error
        masks = {stem(path): path for path in _images(root / "labels")}
        cases = {stem(path): (path, masks[stem(path)]) for path in _images(root / "images") if stem(path) in masks}
        if not cases:
            raise ReadError(f"{root} has no image with a label.", "Use images/NAME.nii.gz and labels/NAME.nii.gz.")
        return cls(
            root=root,
            name=str(facts.get("name", root.name)),
            class_names=tuple(labels.get(n, f"class {n}") for n in range(max(labels) + 1)),
            licence=str(facts.get("licence", "not stated")),
            source=str(facts.get("source", "not stated")),
            cases=dict(sorted(cases.items())),
        )

    def example(self, case: str) -> Example:
        """Read one case."""
        image, mask = self.cases[case]
        volume = read_volume(image)
        return Example(volume, read_labels(mask, like=volume))

    def examples(self, cases: Sequence[str]) -> Iterator[Example]:
        """Read cases one after the other."""
        return (self.example(case) for case in cases)

    def split(self, validation: int, seed: int = 0) -> tuple[list[str], list[str]]:
        """Training and validation cases.

        The choice hangs on the names alone, so it is the same on every machine, and a case that is added later
        moves few others.
        """
        drawn = sorted(self.cases, key=lambda case: hashlib.sha256(f"{seed}/{case}".encode()).hexdigest())
        held_out = set(drawn[: min(validation, len(drawn) - 1)])
        return [c for c in self.cases if c not in held_out], [c for c in self.cases if c in held_out]


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if find_format(path)) if folder.is_dir() else []
