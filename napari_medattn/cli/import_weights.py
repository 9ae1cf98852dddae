"""``medattn import-weights``: weights that a network's authors published, as a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from napari_medattn.cli.options import parse_options, parse_triple, parse_window
from napari_medattn.cli.terminal import console, print_json


def import_weights(
    weights: Annotated[Path, typer.Argument(help=".safetensors, or .pth that holds nothing but tensors.")],
    network: Annotated[str, typer.Option(help="Name of the network, see `medattn models`.")],
    classes: Annotated[str, typer.Option(help="Class names in order, background first: background,liver,...")],
    tile: Annotated[str, typer.Option(help="Tile Z,Y,X in voxels that it was trained on; Z is 1 in 2-D.")],
    name: Annotated[str, typer.Option(help="Name of the new checkpoint; the file's if not given.")] = "",
    channels: Annotated[int, typer.Option(help="Image channels.")] = 1,
    dims: Annotated[int | None, typer.Option(help="Spatial axes, 2 or 3; the network's own if not given.")] = None,
    option: Annotated[list[str] | None, typer.Option(help="Network option as NAME=VALUE, repeatable.")] = None,
    spacing: Annotated[str, typer.Option(help="Voxel size Z,Y,X in mm that it expects; empty: any.")] = "",
    intensity: Annotated[
        str, typer.Option(help="zscore, percentile, window or none: how images were prepared.")
    ] = "zscore",
    window: Annotated[str, typer.Option(help="LOW,HIGH or a CT window such as lung, for --intensity window.")] = "",
    neighbours: Annotated[int, typer.Option(help="Slices on either side that a 2-D network sees too.")] = 0,
    trained_on: Annotated[str, typer.Option(help="What the authors trained it on, for the card.")] = "",
    out: Annotated[Path | None, typer.Option(help="Folder to save in; your own checkpoints if not given.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the card as JSON.")] = False,
) -> None:
    """Turn WEIGHTS with the authors' names into a checkpoint.

    The file is read without running any code that it may carry.
    """
    from dataclasses import asdict

    from napari_medattn.data import Preparation
    from napari_medattn.errors import InputError
    from napari_medattn.models import create_model, get_spec
    from napari_medattn.store import Card, save_checkpoint
    from napari_medattn.store.authors import load_authors_weights
    from napari_medattn.store.checkpoints import check_free

    if intensity not in ("zscore", "percentile", "window", "none"):
        raise InputError(f"There is no intensity {intensity!r}.", "Use zscore, percentile, window or none.")
    if (intensity == "window") != bool(window):
        raise InputError("--intensity window and --window belong together.", "Give both or neither.")
    names = tuple(part.strip() for part in classes.split(","))
    checkpoint_name = name or weights.stem
    check_free(checkpoint_name, out)
    arguments = {
        "in_channels": channels * (2 * neighbours + 1),
        "num_classes": len(names),
        "spatial_dims": dims or get_spec(network).dims[0],
        **parse_options(option),
    }
    model = create_model(network, **arguments)
    load_authors_weights(model, weights)
    card = Card(
        name=checkpoint_name,
        title=f"{get_spec(network).title}, its authors' weights",
        network=network,
        arguments=arguments,
        class_names=names,
        preparation=Preparation(
            spacing=parse_triple(spacing, float) if spacing else None,
            intensity=intensity,  # type: ignore[arg-type]
            window=parse_window(window) if window else None,
            neighbours=neighbours,
        ),
        tile=parse_triple(tile, int),
        trained_on=trained_on or f"by its authors, imported from {weights.name}",
        limits="Not scored here. For research only, not for diagnosis.",
    )
    checkpoint = save_checkpoint(card, model, out)
    if as_json:
        print_json({"path": str(checkpoint.path), **asdict(checkpoint.card)})
    else:
        console.print(f"Saved {checkpoint.path}", highlight=False)
