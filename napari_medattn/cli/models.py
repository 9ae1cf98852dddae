"""``medattn models`` and ``medattn checkpoints``: what there is."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from napari_medattn.cli.terminal import print_json

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


def models(as_json: AsJson = False) -> None:
    """List the networks that can be built, with their options."""
    from napari_medattn.models import get_spec, list_models

    specs = [get_spec(name) for name in list_models()]
    if as_json:
        print_json(
            [{"name": s.name, "title": s.title, "paper": s.paper, "dims": s.dims, "options": s.options} for s in specs]
        )
        return
    table = Table(*(Column(name, overflow="fold") for name in ("name", "network", "dims", "options", "paper")))
    for spec in specs:
        options = ", ".join(f"{name}={value}" for name, value in spec.options.items())
        table.add_row(spec.name, spec.title, ", ".join(f"{d}-D" for d in spec.dims), options, spec.paper)
    Console().print(table)


def checkpoints(as_json: AsJson = False) -> None:
    """List the checkpoints: shipped ones and your own."""
    from napari_medattn.errors import CheckpointError
    from napari_medattn.store import list_checkpoints

    problems: list[CheckpointError] = []
    found = list_checkpoints(problems)
    if as_json:
        print_json(
            {
                "checkpoints": [{"path": str(c.path), **asdict(c.card)} for c in found],
                "problems": [str(problem) for problem in problems],
            }
        )
        return
    columns = ("name", "network", "classes", "trained on", "Dice", "from")
    table = Table(*(Column(name, overflow="fold") for name in columns))
    for checkpoint in found:
        card = checkpoint.card
        dice = card.metrics.get("dice", {}).values()
        table.add_row(
            card.name,
            f"{card.network} {card.spatial_dims}-D",
            ", ".join(card.class_names[1:]),
            card.trained_on or "untrained",
            f"{sum(dice) / len(dice):.3f}" if dice else "",
            card.parent_name,
        )
    console = Console()
    console.print(table)
    for problem in problems:
        console.print(f"[red]left out:[/red] {problem}", highlight=False)
