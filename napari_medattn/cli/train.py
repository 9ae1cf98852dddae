"""``medattn train``: a network from scratch on a folder of labelled scans."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from napari_medattn.cli.options import parse_axes, parse_options, parse_triple
from napari_medattn.cli.terminal import console, print_json, run


def train(
    data: Annotated[Path, typer.Argument(help="Folder with images/, labels/ and dataset.json.")],
    network: Annotated[str, typer.Option(help="Name of the network, see `medattn models`.")] = "attention_unet",
    name: Annotated[str, typer.Option(help="Name of the new checkpoint; the data set's if not given.")] = "",
    title: Annotated[str, typer.Option(help="One line for people.")] = "",
    out: Annotated[Path | None, typer.Option(help="Folder to save in; your own checkpoints if not given.")] = None,
    variant: Annotated[
        str, typer.Option(help="small for a laptop; paper for the published size and recipe.")
    ] = "small",
    dims: Annotated[int | None, typer.Option(help="Spatial axes, 2 or 3; the network's own if not given.")] = None,
    option: Annotated[
        list[str] | None, typer.Option(help="Network option as NAME=VALUE, repeatable; goes before the variant's.")
    ] = None,
    patch: Annotated[str, typer.Option(help="Training patch Z,Y,X in voxels; chosen by the images if not given.")] = "",
    tile: Annotated[str, typer.Option(help="Tile Z,Y,X for segmenting; the patch if not given.")] = "",
    spacing: Annotated[str, typer.Option(help="Resample to this voxel size Z,Y,X in mm; empty: as stored.")] = "",
    neighbours: Annotated[int, typer.Option(help="Slices on either side that a 2-D network sees too.")] = 0,
    epochs: Annotated[int | None, typer.Option(help="Passes over the cases; the recipe's if not given.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Time budget instead of epochs.")] = None,
    batch: Annotated[int | None, typer.Option(help="Patches per step; the recipe's if not given.")] = None,
    rate: Annotated[float | None, typer.Option(help="Learning rate; the recipe's if not given.")] = None,
    flip: Annotated[
        str, typer.Option(help="Axes to mirror at random, e.g. x or xy; none if left and right differ.")
    ] = "",
    start: Annotated[
        str, typer.Option("--from", help="Checkpoint of the same network to go on from; random weights if not given.")
    ] = "",
    validation: Annotated[int, typer.Option(help="Cases held out for scoring.")] = 30,
    seed: Annotated[int, typer.Option(help="Seed of weights, patches and augmentation.")] = 0,
    precision: Annotated[str, typer.Option(help="fp32 or bf16.")] = "fp32",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda:N or mps.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the card as JSON.")] = False,
) -> None:
    """Train a network on DATA and save it as a checkpoint with its card."""
    from dataclasses import replace

    from napari_medattn.data import Preparation
    from napari_medattn.models import get_spec
    from napari_medattn.store import load_checkpoint
    from napari_medattn.training.folder import DataFolder
    from napari_medattn.training.loop import TrainingConfig
    from napari_medattn.training.patches import Augmentation
    from napari_medattn.training.train import TrainPlan, train_on_folder

    folder = DataFolder.open(data)
    spec = get_spec(network)
    chosen = spec.variant(variant)
    recipe = chosen.recipe
    dims = dims or spec.dims[0]
    config = TrainingConfig(
        epochs=epochs if epochs is not None or minutes is not None else recipe.epochs,
        seconds=None if minutes is None else minutes * 60,
        batch_size=batch,
        recipe=recipe if rate is None else replace(recipe, learning_rate=rate),
        augmentation=Augmentation(flip_axes=parse_axes(flip)),
        seed=seed,
        precision=precision,
    )
    plan = TrainPlan(
        network=network,
        name=name or folder.name,
        title=title,
        spatial_dims=dims,
        options={**chosen.options, **parse_options(option)},
        patch=parse_triple(patch, int) if patch else None,
        tile=parse_triple(tile, int) if tile else None,
        preparation=Preparation(spacing=parse_triple(spacing, float) if spacing else None, neighbours=neighbours),
        start=load_checkpoint(start) if start else None,
        validation=validation,
        config=config,
        command=shlex.join(["medattn", *sys.argv[1:]]),
    )
    checkpoint = run(train_on_folder(folder, plan, device=device, out=out))
    if as_json:
        print_json({"path": str(checkpoint.path), "metrics": checkpoint.card.metrics})
    else:
        console.print(f"Saved {checkpoint.path}", highlight=False)
        for label, dice in checkpoint.card.metrics.get("dice", {}).items():
            console.print(f"  {label}: Dice {dice:.4f}")
