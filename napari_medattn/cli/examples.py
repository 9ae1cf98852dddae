"""``medattn examples``: what networks are taught with, kept for every training to come."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

from napari_medattn.cli.options import AsJson, check_order
from napari_medattn.cli.terminal import console, print_json, run

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from napari_medattn.data import Volume
    from napari_medattn.errors import ExampleError
    from napari_medattn.store.example_entry import Entry

app = typer.Typer()
_SHOWN = 12  # digits of a name
Name = Annotated[str, typer.Argument(help="Name of an example, or the beginning of it.")]


@app.callback(invoke_without_command=True)
def examples(context: typer.Context, as_json: AsJson = False) -> None:
    """List the stored examples, add one, or leave one out.

    An example is an image, labels, and which voxels count. Of each scan and its classes the newest one is learned
    from; "held out" are the scans that are kept for scoring, about one in five, as soon as there are five. Scans are
    called by a hash of their voxels, as names of files may be names of people.
    """
    if context.invoked_subcommand is not None:
        check_order(as_json)
        return
    from napari_medattn.store import ExampleStore
    from napari_medattn.store.examples import held_out

    problems: list[ExampleError] = []
    store = ExampleStore()
    entries = store.entries(problems)
    latest = store.latest(among=entries)
    scoring = held_out(latest)
    roles = {entry.name: "held out" if entry in scoring else "learned from" for entry in latest}
    if as_json:
        found = [{**_facts(entry), "role": _role(entry, roles)} for entry in entries]
        print_json({"examples": found, "problems": [str(problem) for problem in problems]})
        return
    columns = ("name", "scan", "added", "classes", "voxels that count", "slices", "shape (Z, Y, X)", "modality", "use")
    table = Table(*(Column(column, overflow="fold") for column in columns))
    for entry in entries:
        table.add_row(
            entry.name[:_SHOWN],
            entry.title,
            entry.date[:16].replace("T", " "),
            ", ".join(f"{name} {count}" for name, count in zip(entry.class_names, entry.counts, strict=True) if count),
            str(entry.counted),
            str(entry.slices),
            " x ".join(map(str, entry.shape)),
            entry.modality,
            _role(entry, roles),
        )
    out = Console()
    out.print(table)
    for problem in problems:
        out.print(f"left out: {problem}", highlight=False, markup=False)


@app.command()
def add(
    image: Annotated[Path, typer.Argument(help="The scan.")],
    labels: Annotated[Path, typer.Argument(help="Its mask, on the same grid: one whole number per voxel.")],
    weights: Annotated[
        Path | None, typer.Option(help="How much each voxel counts, 0 to 1, on the same grid; all fully if not given.")
    ] = None,
    unlabelled: Annotated[
        int, typer.Option(help="Label value of voxels that nobody vouches for; -1: every voxel counts.")
    ] = -1,
    classes: Annotated[
        str, typer.Option(help="Names of the labels 0, 1, ... by comma; those in the mask's file if not given.")
    ] = "",
    modality: Annotated[str, typer.Option(help="What the scan was taken with, e.g. MR or CT.")] = "",
    checkpoint: Annotated[str, typer.Option("--checkpoint", "-c", help="Whose mask was corrected.")] = "",
    as_json: AsJson = False,
) -> None:
    """Add a scan with its mask. Neither file is changed, and neither's name is kept."""
    from napari_medattn.data import Example, read_labels, read_volume
    from napari_medattn.store import ExampleStore, load_checkpoint
    from napari_medattn.store.card import now

    volume = read_volume(image)
    found = read_labels(labels, like=volume)
    told: dict[str, Any] = {"made": now()}
    if checkpoint:
        card = load_checkpoint(checkpoint).card
        told |= {"checkpoint": card.name, "weights_sha256": card.weights_sha256}
    example = Example(
        volume,
        found,
        _weights(weights, volume, found, unlabelled),
        tuple(classes.split(",")) if classes else read_volume(labels).class_names,
        modality,
        told,
    )
    store = ExampleStore()
    entry = run(store.add_steps(example))
    if as_json:
        print_json(_facts(entry))
        return
    console.print(f"Added {entry.name[:_SHOWN]} ({entry.title}): {entry.counted} voxels count.", highlight=False)
    older = store.superseded(entry)
    if older:
        names = ", ".join(one.name[:_SHOWN] for one in older)
        console.print(f"It is learned from in place of {names}, which is of the same scan.", highlight=False)


@app.command()
def hide(name: Name, as_json: AsJson = False) -> None:
    """Leave an example out of every training; nothing is deleted. An older one of the same scan counts again then."""
    from napari_medattn.store import ExampleStore

    store = ExampleStore()
    _tell(store.hide(store.find(name)), "is left out", as_json)


@app.command()
def unhide(name: Name, as_json: AsJson = False) -> None:
    """Take back `hide`."""
    from napari_medattn.store import ExampleStore

    store = ExampleStore()
    _tell(store.unhide(store.find(name)), "counts again", as_json)


@app.command()
def check(as_json: AsJson = False) -> None:
    """Read every example and say which are damaged; exit status 1 if any is."""
    from napari_medattn.errors import ExampleError
    from napari_medattn.store import ExampleStore

    problems: list[ExampleError] = []
    store = ExampleStore()
    entries = store.entries(problems)
    for entry in entries:
        try:
            store.load(entry)
        except ExampleError as error:
            problems.append(error)
    if as_json:
        print_json({"listed": len(entries), "problems": [str(problem) for problem in problems]})
    else:
        for problem in problems:
            console.print(str(problem), highlight=False, markup=False, soft_wrap=True)
        console.print(f"{len(entries)} examples are listed, {len(problems)} problems were found.", highlight=False)
    if problems:
        raise typer.Exit(1)


def _weights(
    path: Path | None, volume: Volume, labels: NDArray[np.integer], unlabelled: int
) -> NDArray[np.generic] | None:
    from napari_medattn.data import read_volume
    from napari_medattn.errors import GeometryError, InputError

    if path is None:
        return labels != unlabelled if unlabelled >= 0 else None
    if unlabelled >= 0:
        raise InputError("Both --weights and --unlabelled say which voxels count.", "Give one of them.")
    given = read_volume(path)
    if given.channels != 1 or not given.grid.matches(volume.grid):
        raise GeometryError(f"{path.name} does not lie on the grid of {volume.name}.", "Save it on the scan's grid.")
    weights: NDArray[np.generic] = given.array[0]
    return weights


def _facts(entry: Entry) -> dict[str, Any]:
    return {**asdict(entry), "path": str(entry.path), "counted": entry.counted, "scan": entry.scan}


def _role(entry: Entry, roles: dict[str, str]) -> str:
    return "hidden" if entry.hidden else roles.get(entry.name, "superseded")


def _tell(entry: Entry, what: str, as_json: bool) -> None:
    if as_json:
        print_json(_facts(entry))
    else:
        console.print(f"{entry.name[:_SHOWN]} {what}.", highlight=False)
