"""``medattn bench``: measure what the project promises, as ratios in one run."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from napari_medattn.cli.terminal import print_json, run
from napari_medattn.errors import InputError

if TYPE_CHECKING:
    from napari_medattn.bench import Row

_ARGUMENTS = {"compile": "compiled"}  # options whose name is a word of Python's own


def bench(
    name: Annotated[str, typer.Argument(help="What to measure: models, attention, correct, engine, learn.")],
    quick: Annotated[bool, typer.Option("--quick", help="The main figures only, within a minute.")] = False,
    compiled: Annotated[
        bool, typer.Option("--compile", help="models: also with torch.compile; takes minutes.")
    ] = False,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Data folder; models: on which shipped checkpoints are compared in both precisions; correct: some "
            "patients of it train a network, others are corrected; learn: its scans are adapted to and corrected."
        ),
    ] = None,
    scratch: Annotated[
        Path | None, typer.Option(help="correct, learn: folder in which networks trained on the data are kept.")
    ] = None,
    source: Annotated[
        Path | None, typer.Option(help="learn: the set from which the network comes that adapts to the data.")
    ] = None,
    figure: Annotated[Path | None, typer.Option(help="correct: draw the Dice over the slices to this file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the rows as JSON.")] = False,
) -> None:
    """Measure NAME on this machine and print each figure beside its target.

    A missed target does not change the exit status: machines are noisy.
    """
    benchmarks = _benchmarks()
    if name not in benchmarks:
        near = difflib.get_close_matches(name, benchmarks, n=1)
        raise InputError(f"There is no benchmark {name!r}.", f"Use {' or '.join(near or benchmarks)}.")
    given = {"compile": compiled, "data": data, "scratch": scratch, "source": source, "figure": figure}
    extra = {option: value for option, value in given.items() if value}
    known = inspect.signature(benchmarks[name]).parameters
    if wrong := [option for option in extra if _ARGUMENTS.get(option, option) not in known]:
        raise InputError(f"{name} is measured without --{wrong[0]}.", "Leave it out.")
    arguments = {_ARGUMENTS.get(option, option): value for option, value in extra.items()}
    rows: list[Row] = run(benchmarks[name](quick=quick, **arguments))
    if as_json:
        print_json({"rows": [row.to_json() for row in rows]})
        return
    table = Table("measured", "value", "target", "", "note")
    for row in rows:
        target = "" if row.target is None else f"{'<=' if row.at_most else '>='} {row.target:g}"
        verdict = "" if row.target is None else ("ok" if row.ok else "missed")
        table.add_row(row.name, f"{row.value:.2f} {row.unit}", target, verdict, row.note)
    Console().print(table)


def _benchmarks() -> dict[str, Callable[..., Generator[Any, None, Any]]]:
    from napari_medattn.bench import attention, correct, engine, learn, models

    return {
        "attention": attention.measure,
        "correct": correct.measure,
        "engine": engine.measure,
        "learn": learn.measure,
        "models": models.measure,
    }
