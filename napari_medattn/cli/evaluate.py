"""``medattn evaluate``: a checkpoint on a data folder, or masks against references."""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from napari_medattn.cli.terminal import print_json, run, say_notes
from napari_medattn.errors import GeometryError, InputError
from napari_medattn.events import Progress

if TYPE_CHECKING:
    from napari_medattn.training.metrics import ClassScores

Scores = dict[int, "ClassScores"]
_MEASURES = ("dice", "iou", "hd95", "assd")


def evaluate(
    masks: Annotated[Path, typer.Argument(help="A mask, a folder of masks, or with --checkpoint a data folder.")],
    references: Annotated[Path | None, typer.Argument(help="The reference, or a folder with the same names.")] = None,
    checkpoint: Annotated[str, typer.Option("--checkpoint", "-c", help="Segment the data folder with this.")] = "",
    cases: Annotated[
        str,
        typer.Option(help="With --checkpoint: 'validation' (held out in training), 'all', or names by comma."),
    ] = "validation",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda:N or mps.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print all scores as JSON.")] = False,
) -> None:
    """Score masks by Dice, IoU, HD95 and ASSD per class.

    Either MASKS against REFERENCES, or DATA --checkpoint NAME, which segments DATA/images and compares with
    DATA/labels.
    """
    if checkpoint:
        scores, names = _score_checkpoint(masks, checkpoint, cases, device)
    elif references is not None:
        scores, names = run(_score_files(_pairs(masks, references))), {}
    else:
        raise typer.BadParameter("Give REFERENCES, or a checkpoint with --checkpoint.")
    summary = _summary(scores, names)
    if as_json:
        print_json({"summary": summary, "cases": {case: _plain(found) for case, found in scores.items()}})
    else:
        _print(summary, len(scores))


def _score_checkpoint(
    folder: Path, checkpoint: str, cases: str, device: str
) -> tuple[dict[str, Scores], dict[int, str]]:
    from napari_medattn.inference import Predictor
    from napari_medattn.store import load_checkpoint
    from napari_medattn.training.folder import DataFolder

    data = DataFolder.open(folder)
    say_notes(data.notes)
    predictor = Predictor.load(load_checkpoint(checkpoint), device)
    chosen = _choose(data.cases, cases, predictor.card.training.get("validation_cases", ()))
    return run(_segment_and_score(data, predictor, chosen)), dict(enumerate(predictor.card.class_names))


def _choose(present: dict[str, Any], wanted: str, validation: Sequence[str]) -> list[str]:
    if wanted == "all":
        return list(present)
    chosen = list(validation) if wanted == "validation" else wanted.split(",")
    missing = [case for case in chosen if case not in present]
    if missing or not chosen:
        some = ", ".join(missing[:3]) + (f" and {len(missing) - 3} more" if len(missing) > 3 else "")
        what = f"The folder has no case {some}" if missing else "The card names no validation cases"
        raise InputError(f"{what}.", "Use --cases all, or names of images in the folder.")
    return chosen


def _segment_and_score(data: Any, predictor: Any, cases: Sequence[str]) -> Generator[Progress, None, dict[str, Scores]]:
    from napari_medattn.inference import segment
    from napari_medattn.training.metrics import evaluate as score

    found = {}
    for number, case in enumerate(cases):
        yield Progress("evaluating", number, len(cases), "cases")
        example = data.example(case)
        labels = segment(example.volume, predictor).labels
        found[case] = score(
            labels,
            example.labels,
            spacing=example.volume.grid.spacing,
            num_classes=len(predictor.card.class_names),
            background=True,
        )
    return found


def _score_files(pairs: dict[str, tuple[Path, Path]]) -> Generator[Progress, None, dict[str, Scores]]:
    from napari_medattn.data.formats import read_mask
    from napari_medattn.training.metrics import evaluate as score

    found = {}
    for number, (case, (mask, reference)) in enumerate(pairs.items()):
        yield Progress("evaluating", number, len(pairs), "cases")
        truth, guess = read_mask(reference), read_mask(mask)
        if not guess.grid.matches(truth.grid, tolerance=0.1 * min(truth.grid.spacing)):
            raise GeometryError(
                f"{mask.name} and {reference.name} do not lie on the same grid.",
                "Compare masks of one image, saved with its geometry.",
            )
        found[case] = score(guess.labels(), truth.labels(), spacing=truth.grid.spacing, background=True)
    return found


def _pairs(masks: Path, references: Path) -> dict[str, tuple[Path, Path]]:
    """Masks and references by name; a mask may be called NAME_mask."""
    from napari_medattn.data.formats import find_format, stem

    if not masks.is_dir():
        return {stem(masks): (masks, references)}
    truths = {stem(path): path for path in references.glob("*") if find_format(path)}
    found = {}
    for path in sorted(masks.glob("*")):
        case = stem(path).removesuffix("_mask")
        if find_format(path) and case in truths:
            found[case] = (path, truths[case])
    if not found:
        raise InputError(f"No mask in {masks} has a reference of its name in {references}.", "Check the folders.")
    return found


def _summary(scores: dict[str, Scores], names: dict[int, str]) -> list[dict[str, Any]]:
    """Means per class over the cases where the measure exists, their mean, and the mean with background."""
    classes = sorted({number for case in scores.values() for number in case})
    rows = {}
    for number in classes:
        row: dict[str, Any] = {"class": names.get(number, f"class {number}" if number else "background")}
        for measure in _MEASURES:
            values = [getattr(case[number], measure) for case in scores.values() if number in case]
            finite = [value for value in values if math.isfinite(value)]
            row[measure] = round(float(np.mean(finite)), 4) if finite else None
        row["missed"] = sum(math.isinf(case[number].hd95) for case in scores.values() if number in case)
        rows[number] = row
    foreground = [row for number, row in rows.items() if number]
    if not foreground:
        return []
    background = [rows[0]] if 0 in rows else []
    whole = [_mean("mean with background", [*foreground, *background], ("dice", "iou"))] if background else []
    return [*foreground, _mean("mean", foreground, _MEASURES), *background, *whole]


def _mean(title: str, rows: list[dict[str, Any]], measures: Sequence[str]) -> dict[str, Any]:
    values = {m: [row[m] for row in rows if row[m] is not None] if m in measures else [] for m in _MEASURES}
    means = {m: round(float(np.mean(found)), 4) if found else None for m, found in values.items()}
    return {"class": title, **means, "missed": None}


def _plain(found: Scores) -> dict[str, dict[str, float | None]]:
    return {
        str(number): {m: value if math.isfinite(value := getattr(one, m)) else None for m in _MEASURES}
        for number, one in found.items()
    }


def _print(summary: list[dict[str, Any]], cases: int) -> None:
    table = Table("class", "Dice", "IoU", "HD95 mm", "ASSD mm", "absent in one", title=f"{cases} cases")
    for row in summary:
        cells = [f"{row[m]:.4f}" if row[m] is not None else "-" for m in _MEASURES]
        table.add_row(row["class"], *cells, "" if row["missed"] is None else str(row["missed"]))
    Console().print(table)
