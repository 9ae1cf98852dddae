"""``medattn models``: the networks that there are."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

from napari_medattn.cli.options import AsJson
from napari_medattn.cli.terminal import print_json

if TYPE_CHECKING:
    from napari_medattn.models import ModelSpec


def models(
    name: Annotated[str, typer.Argument(help="Show all that is known of this network.")] = "", as_json: AsJson = False
) -> None:
    """List the networks that can be built, or show one with its options and recipes."""
    from napari_medattn.models import get_spec, list_models

    specs = [get_spec(name)] if name else [get_spec(known) for known in list_models()]
    if as_json:
        print_json([_facts(spec) for spec in specs])
    elif name:
        _page(specs[0])
    else:
        columns = ("name", "network", "dims", "variants", "starter weights", "paper")
        table = Table(*(Column(column, overflow="fold") for column in columns))
        for spec in specs:
            dims = ", ".join(f"{d}-D" for d in spec.dims)
            starters = ", ".join(_starters(spec.name)) or "none: starts untrained"
            table.add_row(spec.name, spec.title, dims, ", ".join(("paper", *spec.variants)), starters, spec.paper)
        Console().print(table)


def _facts(spec: ModelSpec) -> dict[str, Any]:
    variants = {name: spec.variant(name) for name in ("paper", *spec.variants)}
    return {
        "name": spec.name,
        "title": spec.title,
        "paper": spec.paper,
        "dims": spec.dims,
        "notes": spec.notes,
        "options": spec.options,
        "variants": {name: asdict(variant) for name, variant in variants.items()},
        "starter_weights": _starters(spec.name),
    }


def _page(spec: ModelSpec) -> None:
    """What the network's own file says of it, with its options and recipes."""
    from napari_medattn.models import Recipe

    console = Console()
    module = inspect.getdoc(sys.modules[spec.build.__module__]) or ""
    console.print(f"[bold]{spec.title}[/bold] ({spec.name})\n", highlight=False)
    for text in (module, spec.notes, inspect.getdoc(spec.build) or ""):
        if text:
            console.print(text + "\n", highlight=False, markup=False)
    usual = asdict(Recipe())
    table = Table("variant", "options", "recipe")
    for name in ("paper", *spec.variants):
        variant = spec.variant(name)
        options = {**spec.options, **variant.options}
        changed = {key: value for key, value in asdict(variant.recipe).items() if value != usual[key]}
        table.add_row(name, _listed(options), _listed(changed) or "as usual")
    console.print(table)
    console.print("Recipe: " + _listed(usual) + ", where nothing else is said.", highlight=False)


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}={value}" for key, value in values.items())


def _starters(network: str) -> list[str]:
    """Names of the shipped checkpoints of a network."""
    from napari_medattn.store import list_checkpoints
    from napari_medattn.store.checkpoints import SHIPPED

    return [c.name for c in list_checkpoints([]) if c.card.network == network and c.path.parent == SHIPPED]
