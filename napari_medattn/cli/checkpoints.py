"""``medattn checkpoints``: the versions that there are, and what may be done with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from napari_medattn.cli.options import AsJson, check_order
from napari_medattn.cli.terminal import print_json

if TYPE_CHECKING:
    from napari_medattn.errors import CheckpointError
    from napari_medattn.store import Checkpoint
    from napari_medattn.store.versions import Version

app = typer.Typer()
Name = Annotated[str, typer.Argument(help="Name of a checkpoint.")]


@app.callback(invoke_without_command=True)
def checkpoints(context: typer.Context, as_json: AsJson = False) -> None:
    """List the checkpoints, shipped ones and your own, or change your own.

    Without a command: the list, with what each was trained on and its Dice on held-out cases. A checkpoint that was
    fine-tuned is a version of its parent; of all versions that share a root, one is current.
    """
    if context.invoked_subcommand is not None:
        check_order(as_json)
        return
    from napari_medattn.store import list_checkpoints

    problems: list[CheckpointError] = []
    found = list_checkpoints(problems)
    if as_json:
        _print_all([{"path": str(c.path), **asdict(c.card)} for c in found], problems)
        return
    table = _table("name", "network", "classes", "trained on", "Dice", "from")
    for checkpoint in found:
        card = checkpoint.card
        table.add_row(
            card.name,
            f"{card.network} {card.spatial_dims}-D",
            ", ".join(card.class_names[1:]),
            card.trained_on or "untrained",
            _mean(card.metrics.get("dice", {})),
            card.parent_name,
        )
    _show(table, problems)


@app.command()
def tree(as_json: AsJson = False) -> None:
    """Show who came from whom, how, and which version of each line is current."""
    from napari_medattn.store import TrainingRecord, Versions

    problems: list[CheckpointError] = []
    versions = Versions().tree(problems)
    if as_json:
        _print_all([_facts(version) for version in versions], problems)
        return
    table = _table("version", "current", "made", "method", "examples", "Dice before -> after", "note")
    below = [*(version.depth for version in versions[1:]), 0]
    for version, next_depth in zip(versions, below, strict=True):
        card, record = version.checkpoint.card, TrainingRecord.of(version.checkpoint.card)
        alone = version.depth == next_depth == 0
        scores = [_mean(part.get("dice", {})) for part in (record.before, record.after)] if record else []
        table.add_row(
            "   " * version.depth + escape(version.name + _lost(version)),
            "current" if version.current and not alone else "",
            card.created[:16].replace("T", " "),
            record.method if record else "",
            str(len(record.examples)) if record else "",
            " -> ".join(scores) if any(scores) else "",
            escape(card.note),
        )
    _show(table, problems)


@app.command()
def current(name: Name, as_json: AsJson = False) -> None:
    """Say which version is current in the line that NAME belongs to."""
    from napari_medattn.store import Versions

    versions = Versions()
    _tell(versions.current(versions.find(name)), "{name}", as_json)


@app.command()
def use(name: Name, as_json: AsJson = False) -> None:
    """Make NAME the current version of its line."""
    from napari_medattn.store import Versions

    versions = Versions()
    _tell(versions.make_current(versions.find(name)), "{name} is current now.", as_json)


@app.command("roll-back")
def roll_back(name: Name, as_json: AsJson = False) -> None:
    """Make the checkpoint that NAME was fine-tuned from the current version; NAME stays as it is."""
    from napari_medattn.store import Versions

    versions = Versions()
    _tell(versions.roll_back(versions.find(name)), "{name} is current now.", as_json)


@app.command()
def rename(
    name: Name,
    new: Annotated[str, typer.Argument(help="Its new name: letters, digits, - and _.")],
    as_json: AsJson = False,
) -> None:
    """Give one of your checkpoints another name; its weights and its place in the tree stay."""
    from napari_medattn.store import Versions

    versions = Versions()
    _tell(versions.rename(versions.find(name), new), f"{name} is called {{name}} now.", as_json)


@app.command()
def note(
    name: Name,
    text: Annotated[str | None, typer.Argument(help="The new note, in place of the old; '' for none.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write a note into the card of one of your checkpoints, or show the one that is there."""
    from napari_medattn.store import Versions

    versions = Versions()
    checkpoint = versions.find(name)
    if text is None:
        _tell(checkpoint, checkpoint.card.note or "{name} has no note.", as_json)
    else:
        _tell(versions.note(checkpoint, text), "Noted in {name}.", as_json)


@app.command()
def export(
    name: Name,
    out: Annotated[Path, typer.Argument(help="A file that ends with .safetensors, or a folder.")],
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that is there.")] = False,
    as_json: AsJson = False,
) -> None:
    """Write NAME as one file, weights and card, for `medattn checkpoints import` on another computer."""
    from napari_medattn.store import Versions

    versions = Versions()
    checkpoint = versions.find(name)
    path = versions.export(checkpoint, out, overwrite=overwrite)
    if as_json:
        print_json({"name": checkpoint.name, "path": str(path)})
    else:
        _say(f"Saved {path}")


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="A .safetensors file that napari-medattn saved.")],
    as_json: AsJson = False,
) -> None:
    """Take in a checkpoint; a name that is taken gets a number, and what is here already is not taken in twice."""
    from napari_medattn.store import Versions

    checkpoint, new = Versions().import_(file)
    _tell(checkpoint, "Imported as {name}." if new else "It is here already, as {name}.", as_json, new=new)


@app.command()
def delete(name: Name, as_json: AsJson = False) -> None:
    """Delete one of your checkpoints; never one that others came from, nor the current one of several."""
    from napari_medattn.store import Versions

    versions = Versions()
    checkpoint = versions.find(name)
    versions.delete(checkpoint)
    _tell(checkpoint, "{name} is deleted.", as_json)


def _facts(version: Version) -> dict[str, Any]:
    card = version.checkpoint.card
    return {
        "name": version.name,
        "path": str(version.checkpoint.path),
        "parent": version.parent.name if version.parent is not None else None,
        "parent_found_by_name_only": version.by_name,
        "lost_parent": version.lost_parent,
        "depth": version.depth,
        "current": version.current,
        "shipped": version.shipped,
        "created": card.created,
        "weights_sha256": card.weights_sha256,
        "note": card.note,
        "training": card.training,
        "metrics": card.metrics,
    }


def _lost(version: Version) -> str:
    """Whose it was, where that is gone."""
    if not version.lost_parent:
        return ""
    lost = version.lost_parent if version.lost_parent != version.name else "earlier weights of that name"
    return f" (from {lost}, not here)"


def _mean(scores: Mapping[str, float | None]) -> str:
    """The mean of the classes that have a score."""
    known = [score for score in scores.values() if score is not None]
    return f"{sum(known) / len(known):.3f}" if known else ""


def _tell(checkpoint: Checkpoint, text: str, as_json: bool, **more: Any) -> None:
    if as_json:
        print_json({"name": checkpoint.name, "path": str(checkpoint.path), "note": checkpoint.card.note, **more})
    else:
        _say(text.replace("{name}", checkpoint.name))


def _say(text: str) -> None:
    Console().print(text, highlight=False, markup=False, soft_wrap=True)


def _table(*columns: str) -> Table:
    return Table(*(Column(name, overflow="fold") for name in columns))


def _show(table: Table, problems: list[CheckpointError]) -> None:
    console = Console()
    console.print(table)
    for problem in problems:
        console.print(f"[red]left out:[/red] {escape(str(problem))}", highlight=False)


def _print_all(found: list[dict[str, Any]], problems: list[CheckpointError]) -> None:
    print_json({"checkpoints": found, "problems": [str(problem) for problem in problems]})
