"""A data set in a folder: ``images/``, ``labels/`` with the same names, and ``dataset.json``.

Labels may also lie in another folder, such as ``scribbles/``; ``dataset.json`` then says under that folder's name what
its values mean: the classes' own names, or ``"unlabelled"``.

Where ``dataset.json`` names no values, but says in words that the labels number instances (1 to N nuclei) or that each
file is binary, every value above 0 is of one class, the foreground.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medattn.data import Volume, read_labels, read_volume
from napari_medattn.data.formats import find_format, stem
from napari_medattn.errors import ReadError, TrainingError
from napari_medattn.training.examples import Example
from napari_medattn.training.patients import fold_of, hold_out, patient_of

LABELS = "labels"
_UNLABELLED = {"unlabelled", "unlabeled", "unpainted", "ignore"}
_FOREGROUND = ("background", "foreground")
_REMEDY = 'Put one there: {"labels": {"0": "background", "1": "..."}}.'


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
        labelled: The subfolder that the label files come from.
        classes: Class of each value of a label file; values that are not named are of no class. Empty if the values
            are the classes.
        masks: Where labels are sparse: file with the whole mask, of the cases that have one.
        patients: Patient of each case; taken from the cases' names where it is not given.
        foreground: Whether every value above 0 is of the one class there is.
        notes: What had to be decided about the labels, to be shown to the user.
    """

    root: Path
    name: str
    class_names: tuple[str, ...]
    licence: str
    source: str
    cases: dict[str, tuple[Path, Path]]
    labelled: str = LABELS
    classes: Mapping[int, int] = field(default_factory=dict)
    masks: Mapping[str, Path] = field(default_factory=dict)
    patients: Mapping[str, str] = field(default_factory=dict)
    foreground: bool = False
    notes: tuple[str, ...] = ()

    @classmethod
    def open(cls, root: Path | str, labels: str = LABELS) -> DataFolder:
        """Look through a folder.

        Args:
            root: The folder.
            labels: Its subfolder with the labels to learn from.

        Raises:
            ReadError: If ``dataset.json`` is missing or unreadable, or no image has a label.
        """
        root = Path(root)
        facts = _facts(root)
        class_names, notes = _named(root, facts)
        files = {stem(path): path for path in _images(root / labels)}
        cases = {stem(path): (path, files[stem(path)]) for path in _images(root / "images") if stem(path) in files}
        if not cases:
            raise ReadError(f"{root} has no image with a label.", f"Use images/NAME.nii.gz and {labels}/NAME.nii.gz.")
        sparse = labels != LABELS
        return cls(
            root=root,
            name=str(facts.get("name", root.name)),
            class_names=class_names,
            licence=str(facts.get("licence", "not stated")),
            source=str(facts.get("source", "not stated")),
            cases=dict(sorted(cases.items())),
            labelled=labels,
            classes=_classes(root, facts, labels, class_names) if sparse else {},
            masks={stem(p): p for p in _images(root / LABELS) if stem(p) in cases} if sparse else {},
            patients={str(case): str(patient) for case, patient in facts.get("patients", {}).items()},
            foreground=bool(notes),
            notes=notes,
        )

    def example(self, case: str) -> Example:
        """Read one case: its labels, and no weight where they say nothing."""
        volume = read_volume(self.cases[case][0])
        return self._example(volume, read_labels(self.cases[case][1], like=volume))

    def scored(self, case: str) -> Example:
        """Read one case to score a network on: the whole mask where there is one."""
        if case not in self.masks:
            return self.example(case)
        volume = read_volume(self.cases[case][0])
        return Example(volume, self._whole(read_labels(self.masks[case], like=volume)))

    def examples(self, cases: Sequence[str]) -> Iterator[Example]:
        """Read cases one after the other."""
        return (self.example(case) for case in cases)

    def files(self, case: str) -> list[Path]:
        """Everything that is read of one case."""
        return [*self.cases[case], *([self.masks[case]] if case in self.masks else [])]

    def patient(self, case: str) -> str:
        """Whose scan a case is."""
        return self.patients.get(case, patient_of(case))

    def split(self, validation: int, seed: int = 0) -> tuple[list[str], list[str]]:
        """Training cases, and about as many validation cases as are wanted; all scans of one patient are for one.

        The choice hangs on the names alone, so it is the same on every machine, and a case that is added later
        moves few others.
        """
        return self._part(hold_out(self._by_patient(), validation, seed))

    def fold(self, number: int, folds: int, seed: int = 0) -> tuple[list[str], list[str]]:
        """Training and validation cases of one fold; over all folds, every patient is held out once.

        Args:
            number: Which, from 0.
            folds: How many there are.
            seed: Which patients go together.

        Raises:
            TrainingError: If there is no such fold, or there are fewer patients than folds.
        """
        return self._part(fold_of(self._by_patient(), number, folds, seed))

    def _by_patient(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for case in self.cases:
            found.setdefault(self.patient(case), []).append(case)
        # If all names tell of one and the same patient, they tell nothing.
        return found if len(found) > 1 or self.patients else {case: [case] for case in self.cases}

    def _part(self, held_out: set[str]) -> tuple[list[str], list[str]]:
        return [c for c in self.cases if c not in held_out], [c for c in self.cases if c in held_out]

    def _whole(self, values: NDArray[np.int32]) -> NDArray[np.int32]:
        """Classes of a label file that labels every voxel."""
        return (values > 0).astype(np.int32) if self.foreground else values

    def _example(self, volume: Volume, values: NDArray[np.int32]) -> Example:
        if not self.classes:
            return Example(volume, self._whole(values))
        labels, weights = np.zeros(values.shape, np.int32), np.zeros(values.shape, bool)
        for value, number in self.classes.items():
            here = values == value
            labels[here], weights[here] = number, True
        return Example(volume, labels, weights)


def _facts(root: Path) -> dict[str, Any]:
    path = root / "dataset.json"
    if not path.is_file():
        raise ReadError(f"{root} has no dataset.json.", _REMEDY)
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ReadError(f"{path} cannot be read ({error}).", _REMEDY) from error
    if not isinstance(facts, dict) or not facts.get("labels"):
        raise ReadError(f"{path} does not say what the labels mean.", _REMEDY)
    return facts


def _named(root: Path, facts: Mapping[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the classes, and what had to be decided about them."""
    told = facts["labels"]
    if isinstance(told, str):
        if not any(word in told.lower() for word in ("instance", "binary")):
            raise ReadError(f"{root / 'dataset.json'} says of the labels only {told!r}.", _REMEDY)
        kind = "number instances" if "instance" in told.lower() else "are binary"
        note = f"The labels of {root.name} {kind} and name no classes: every value above 0 is taken as foreground."
        return _FOREGROUND, (note,)
    try:
        names = {int(number): str(label) for number, label in told.items()}
    except (ValueError, AttributeError) as error:
        raise ReadError(f"{root / 'dataset.json'} cannot be read ({error}).", _REMEDY) from error
    if min(names) < 0:
        raise ReadError(f"{root / 'dataset.json'} names the label {min(names)}.", _REMEDY)
    return tuple(names.get(n, f"class {n}") for n in range(max(names) + 1)), ()


def _classes(root: Path, facts: Mapping[str, Any], labels: str, class_names: Sequence[str]) -> dict[int, int]:
    """Which class each value of sparse labels stands for."""
    remedy = f'Say there {{"{labels}": {{"0": "unlabelled", "1": "{class_names[0]}", ...}}}}.'
    told = facts.get(labels)
    if not isinstance(told, Mapping):
        raise ReadError(f"{root / 'dataset.json'} does not say what the values in {labels}/ mean.", remedy)
    found = {}
    for value, name in told.items():
        if name in class_names:
            found[int(value)] = class_names.index(name)
        elif str(name).lower() not in _UNLABELLED:
            raise ReadError(f"{root / 'dataset.json'} calls the value {value} of {labels}/ {name!r}.", remedy)
    if not found:
        raise TrainingError(f"No value in {labels}/ is of a class.", remedy)
    return found


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*") if find_format(path)) if folder.is_dir() else []
