"""``medattn finetune``: train a checkpoint further on labelled scans, and say whether that made it better."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_medattn.cli.terminal import console, print_json, run, say_notes

if TYPE_CHECKING:
    from napari_medattn.data import Example
    from napari_medattn.learning.learn import Learned, Scores


def finetune(
    data: Annotated[Path, typer.Argument(help="Folder with images/, labels/ and dataset.json.")],
    checkpoint: Annotated[str, typer.Option("--checkpoint", "-c", help="Where to start from.")],
    name: Annotated[str, typer.Option(help="Name of the new checkpoint.")] = "",
    method: Annotated[str, typer.Option(help="What learns: whole, decoder, adapters or statistics.")] = "whole",
    seconds: Annotated[
        float | None, typer.Option(help="Time from start to the saved version; suits the device if not given.")
    ] = None,
    cases: Annotated[str, typer.Option(help="Case names by comma; all that are not held out if not given.")] = "",
    hold_out: Annotated[
        str, typer.Option(help="Cases to be scored on only, by comma; without them slices are held back in turn.")
    ] = "",
    rehearse: Annotated[
        list[Path] | None, typer.Option(help="Folder with earlier cases to be rehearsed, repeatable.")
    ] = None,
    share: Annotated[
        float | None, typer.Option(help="Share of the patches that are rehearsed, 0 to 1; chosen if not given.")
    ] = None,
    anchor: Annotated[
        float | None, typer.Option(help="Strength of the pull towards the checkpoint's weights; chosen if not given.")
    ] = None,
    opinion: Annotated[
        float | None,
        typer.Option(help="How much unlabelled voxels count as the checkpoint's own opinion; chosen if not given."),
    ] = None,
    unlabelled: Annotated[
        int, typer.Option(help="Label value of voxels that nobody vouches for; -1: every voxel counts.")
    ] = -1,
    anyway: Annotated[
        bool, typer.Option("--anyway", help="Learn although the images look unlike the training.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Seed of patches and augmentation.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda:N or mps.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print scores, verdict and path as JSON.")] = False,
) -> None:
    """Fine-tune a checkpoint on the cases of DATA, score it before and after, and save it as a new version."""
    from napari_medattn.learning.learn import LearnPlan, learn_steps
    from napari_medattn.store import load_checkpoint

    kept = _names(hold_out)
    plan = LearnPlan(
        method=method,
        seconds=seconds,
        rehearsal=share,
        anchor=anchor,
        opinion=opinion,
        accept_mismatch=anyway,
        seed=seed,
    )
    steps = learn_steps(
        load_checkpoint(checkpoint),
        _examples(data, _names(cases), kept, unlabelled),
        earlier=[example for folder in rehearse or [] for example in _examples(folder, [], [], unlabelled)],
        held_out=_examples(data, kept, [], unlabelled) if kept else [],
        plan=plan,
        name=name,
        device=device,
    )
    learned = run(steps)
    if as_json:
        print_json(_plain(learned))
    else:
        _say(learned)


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]


def _examples(data: Path, chosen: Sequence[str], without: Sequence[str], unlabelled: int) -> list[Example]:
    """Cases of a folder by name, or all but some."""
    from napari_medattn.errors import InputError
    from napari_medattn.training.folder import DataFolder

    folder = DataFolder.open(data)
    say_notes(folder.notes)
    missing = [case for case in (*chosen, *without) if case not in folder.cases]
    if missing:
        raise InputError(f"{data} has no case {', '.join(missing[:3])}.", "Name images of the folder.")
    both = [case for case in chosen if case in without]
    if both:
        raise InputError(f"{', '.join(both[:3])} cannot be learned from and held out.", "Name a case once.")
    names = list(chosen) or [case for case in folder.cases if case not in without]
    examples = [replace(example, class_names=folder.class_names) for example in folder.examples(names)]
    if unlabelled >= 0:
        examples = [replace(e, weights=e.counts() & (e.labels != unlabelled)) for e in examples]
    return examples


def _plain(learned: Learned) -> dict[str, Any]:
    def told(scores: Scores | None) -> dict[str, Any] | None:
        return None if scores is None else scores.to_plain()

    return {
        "name": learned.checkpoint.name,
        "path": str(learned.checkpoint.path),
        "verdict": learned.verdict.word,
        "sentence": learned.verdict.sentence,
        "may_become_current": learned.verdict.may_become_current,
        "folds": learned.folds,
        "before": told(learned.before),
        "after": told(learned.after),
        "earlier_before": told(learned.earlier_before),
        "earlier_after": told(learned.earlier_after),
        "steps": learned.steps,
        "stopped": learned.stopped,
        "notes": list(learned.notes),
        "metrics": learned.checkpoint.card.metrics,
    }


def _say(learned: Learned) -> None:
    from rich.table import Table

    for note in learned.notes:
        console.print(note, highlight=False)
    if learned.stopped:
        console.print(learned.stopped, style="yellow", highlight=False)
    where = f"held back in {learned.folds} folds" if learned.folds else "held out"
    table = Table("scored on", "class", "Dice before", "after", "HD95 before", "after")
    for place, before, after in (
        (where, learned.before, learned.after),
        ("earlier examples", learned.earlier_before, learned.earlier_after),
    ):
        if before is None or after is None:
            continue
        for label in before.dice:
            values = (before.dice[label], after.dice[label], before.hd95[label], after.hd95[label])
            table.add_row(place, label, *("-" if isnan(v) else f"{v:.3f}" for v in values))
    if table.row_count:
        console.print(table)
    before_all, after_all = learned.agreement
    console.print(
        f"Agreement with what was learned from: {before_all:.1%} before, {after_all:.1%} after.", highlight=False
    )
    console.print(f"{learned.verdict.word.capitalize()}. {learned.verdict.sentence}", highlight=False)
    console.print(f"Saved {learned.checkpoint.name} as {learned.checkpoint.path}", highlight=False)
