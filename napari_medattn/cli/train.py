"""``medattn train``: a network from scratch on a folder of labelled scans."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from napari_medattn.cli.terminal import console, print_json, run


def train(
    data: Annotated[Path, typer.Argument(help="Folder with images/, labels/ and dataset.json.")],
    network: Annotated[str, typer.Option(help="Name of the network, see `medattn models`.")] = "attention_unet",
    name: Annotated[str, typer.Option(help="Name of the new checkpoint; the data set's if not given.")] = "",
    title: Annotated[str, typer.Option(help="One line for people.")] = "",
    out: Annotated[Path | None, typer.Option(help="Folder to save in; your own checkpoints if not given.")] = None,
    dims: Annotated[int, typer.Option(help="Spatial axes of the network, 2 or 3.")] = 3,
    option: Annotated[list[str] | None, typer.Option(help="Network option as NAME=VALUE, repeatable.")] = None,
    patch: Annotated[str, typer.Option(help="Training patch Z,Y,X in voxels; by default 32,48,32 or 1,128,128.")] = "",
    tile: Annotated[str, typer.Option(help="Tile Z,Y,X for segmenting; the patch if not given.")] = "",
    spacing: Annotated[str, typer.Option(help="Resample to this voxel size Z,Y,X in mm; empty: as stored.")] = "",
    epochs: Annotated[int | None, typer.Option(help="Passes over the cases.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Time budget instead of epochs.")] = None,
    batch: Annotated[int, typer.Option(help="Patches per step.")] = 4,
    rate: Annotated[float | None, typer.Option(help="Learning rate; the network's recipe if not given.")] = None,
    flip: Annotated[
        str, typer.Option(help="Axes to mirror at random, e.g. x or xy; none if left and right differ.")
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
    from napari_medattn.training.folder import DataFolder
    from napari_medattn.training.loop import TrainingConfig
    from napari_medattn.training.patches import Augmentation
    from napari_medattn.training.train import TrainPlan, train_on_folder

    folder = DataFolder.open(data)
    recipe = get_spec(network).recipe
    config = TrainingConfig(
        epochs=epochs if epochs is not None or minutes is not None else 100,
        seconds=None if minutes is None else minutes * 60,
        batch_size=batch,
        recipe=recipe if rate is None else replace(recipe, learning_rate=rate),
        augmentation=Augmentation(flip_axes=_axes(flip)),
        seed=seed,
        precision=precision,
    )
    plan = TrainPlan(
        network=network,
        name=name or folder.name,
        title=title,
        spatial_dims=dims,
        options=dict(_pair(text) for text in option or []),
        patch=_triple(patch or ("1,128,128" if dims == 2 else "32,48,32"), int),  # type: ignore[arg-type]
        tile=_triple(tile, int) if tile else None,  # type: ignore[arg-type]
        preparation=Preparation(spacing=_triple(spacing, float) if spacing else None),
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


def _axes(text: str) -> tuple[int, ...]:
    """Letters of z, y and x as axes counted from the last."""
    if set(text) - set("zyx"):
        raise typer.BadParameter(f"{text!r} is not made of the axes z, y and x.")
    return tuple("zyx".index(axis) - 3 for axis in text)


def _triple(text: str, kind: type) -> tuple[float, float, float]:
    parts = text.split(",")
    try:
        z, y, x = (kind(part) for part in parts)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not Z,Y,X.") from error
    return z, y, x


def _pair(text: str) -> tuple[str, int | str | bool]:
    """NAME=VALUE with whole numbers and true/false read as such."""
    name, found, value = text.partition("=")
    if not found:
        raise typer.BadParameter(f"{text!r} is not NAME=VALUE.")
    if value.lstrip("-").isdigit():
        return name, int(value)
    return name, {"true": True, "false": False}.get(value.lower(), value)
