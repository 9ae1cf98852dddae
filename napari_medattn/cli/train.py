"""``medattn train``: a network from scratch on a folder of labelled scans."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_medattn.cli.options import parse_axes, parse_numbers, parse_options, parse_triple, parse_window
from napari_medattn.cli.terminal import console, print_json, run, say_notes
from napari_medattn.errors import InputError, MedAttnError

if TYPE_CHECKING:
    from napari_medattn.training.workers import Workers

_LEARNING, _DATA, _KEEPING, _SEVERAL = "Learning", "Data", "Interrupting, logs", "Several processes"


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
    spacing: Annotated[
        str, typer.Option(help="Resample to this voxel size Z,Y,X in mm; empty, or 0 for an axis: as stored.")
    ] = "",
    window: Annotated[
        str,
        typer.Option(help="Train on CT in this window: its name, e.g. lung, or LOW,HIGH in HU; z-scores if not given."),
    ] = "",
    neighbours: Annotated[int, typer.Option(help="Slices on either side that a 2-D network sees too.")] = 0,
    labels: Annotated[
        str,
        typer.Option(
            help="Subfolder with the labels. Sparse ones, such as scribbles, are named in dataset.json; voxels "
            "without a label then learn from their neighbours.",
            rich_help_panel=_DATA,
        ),
    ] = "labels",
    validation: Annotated[
        int, typer.Option(help="Cases held out for scoring, by whole patients.", rich_help_panel=_DATA)
    ] = 30,
    fold: Annotated[
        int | None, typer.Option(help="Hold out this fold instead, counted from 0.", rich_help_panel=_DATA)
    ] = None,
    folds: Annotated[int, typer.Option(help="Folds that patients are shared out to.", rich_help_panel=_DATA)] = 5,
    flip: Annotated[str, typer.Option(help="Axes to mirror at random, e.g. x or xy.", rich_help_panel=_DATA)] = "",
    sides: Annotated[
        str,
        typer.Option(
            help="Where mirroring would turn left organs into right ones: refuse, swap their labels, or keep them.",
            rich_help_panel=_DATA,
        ),
    ] = "refuse",
    epochs: Annotated[
        int | None, typer.Option(help="Passes over the cases; the recipe's if not given.", rich_help_panel=_LEARNING)
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Time budget instead of epochs.", rich_help_panel=_LEARNING)
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(help="End after so many epochs without a better held-out score.", rich_help_panel=_LEARNING),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            help="Patches per step, over all processes; the recipe's if not given.", rich_help_panel=_LEARNING
        ),
    ] = None,
    rate: Annotated[
        float | None, typer.Option(help="Learning rate; the recipe's if not given.", rich_help_panel=_LEARNING)
    ] = None,
    class_weights: Annotated[
        str,
        typer.Option(
            help="Weights of the classes in the cross entropy, background first, with commas between; auto weighs by "
            "one over the square root of a class's share.",
            rich_help_panel=_LEARNING,
        ),
    ] = "",
    start: Annotated[
        str, typer.Option("--from", help="Checkpoint of the same network to go on from; random weights if not given.")
    ] = "",
    seed: Annotated[int, typer.Option(help="Seed of weights, patches and augmentation.")] = 0,
    precision: Annotated[str, typer.Option(help="fp32, or bf16 on a GPU.")] = "fp32",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda:N or mps.")] = "auto",
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with a run that was interrupted.", rich_help_panel=_KEEPING),
    ] = False,
    run_folder: Annotated[
        Path | None,
        typer.Option(
            "--run",
            help="Folder for the run's state and logs; runs/NAME beside if not given.",
            rich_help_panel=_KEEPING,
        ),
    ] = None,
    save_every: Annotated[
        float, typer.Option(help="Seconds between saves of the run's state.", rich_help_panel=_KEEPING)
    ] = 60.0,
    log_every: Annotated[int, typer.Option(help="Steps per line of log.csv.", rich_help_panel=_KEEPING)] = 1,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Log for TensorBoard too.", rich_help_panel=_KEEPING)
    ] = False,
    devices: Annotated[
        int,
        typer.Option(help="Processes per node, each with its GPU or on the CPU.", rich_help_panel=_SEVERAL),
    ] = 1,
    nodes: Annotated[int, typer.Option(help="Machines, each running this command.", rich_help_panel=_SEVERAL)] = 1,
    strategy: Annotated[str, typer.Option(help="How processes share the work: ddp.", rich_help_panel=_SEVERAL)] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the card as JSON.")] = False,
) -> None:
    """Train a network on DATA and save it as a checkpoint with its card."""
    from dataclasses import replace

    from napari_medattn.data import Preparation
    from napari_medattn.events import run_to_end
    from napari_medattn.models import get_spec
    from napari_medattn.store import load_checkpoint
    from napari_medattn.store.home import home_folder
    from napari_medattn.training.folder import DataFolder
    from napari_medattn.training.loop import TrainingConfig
    from napari_medattn.training.patches import Augmentation
    from napari_medattn.training.runs import RunFolder
    from napari_medattn.training.scribbles import scribble_recipe
    from napari_medattn.training.train import TrainPlan, train_on_folder

    folder = DataFolder.open(data, labels)
    say_notes(folder.notes)
    spec = get_spec(network)
    chosen = spec.variant(variant)
    recipe = scribble_recipe(chosen.recipe) if folder.classes else chosen.recipe
    config = TrainingConfig(
        epochs=epochs if epochs is not None or minutes is not None else recipe.epochs,
        seconds=None if minutes is None else minutes * 60,
        batch_size=batch,
        recipe=recipe if rate is None else replace(recipe, learning_rate=rate),
        augmentation=Augmentation(flip_axes=parse_axes(flip)),
        seed=seed,
        precision=precision,
        patience=patience,
        class_weights=parse_numbers(class_weights) if class_weights not in ("", "auto") else None,
    )
    plan = TrainPlan(
        network=network,
        name=name or folder.name,
        title=title,
        spatial_dims=dims or spec.dims[0],
        options={**chosen.options, **parse_options(option)},
        patch=parse_triple(patch, int) if patch else None,
        tile=parse_triple(tile, int) if tile else None,
        preparation=Preparation(
            spacing=parse_triple(spacing, float) if spacing else None,
            intensity="window" if window else "zscore",
            window=parse_window(window) if window else None,
            neighbours=neighbours,
        ),
        start=load_checkpoint(start) if start else None,
        validation=validation,
        fold=fold,
        folds=folds,
        sides=_choice("--sides", sides, ("refuse", "swap", "keep")),
        balance=class_weights == "auto",
        config=config,
        command=shlex.join(["medattn", *sys.argv[1:]]),
    )
    kept = RunFolder(
        path=run_folder or (out or home_folder()) / "runs" / plan.name,
        resume=resume,
        seconds=save_every,
        log_every=log_every,
        tensorboard=tensorboard,
    )
    workers = _workers(devices, nodes, strategy, device, recipe.gates_frozen > 0)
    steps = train_on_folder(folder, plan, device=device, out=out, run=kept, workers=workers)
    if workers is not None and workers.rank:  # the first process speaks for all
        try:
            run_to_end(steps)
        except MedAttnError as error:
            raise typer.Exit(1) from error
        return
    checkpoint = run(steps)
    if as_json:
        print_json({"path": str(checkpoint.path), "metrics": checkpoint.card.metrics})
    else:
        console.print(f"Saved {checkpoint.path}; losses and scores are in {kept.log}", highlight=False)
        for label, dice in checkpoint.card.metrics.get("dice", {}).items():
            console.print(f"  {label}: Dice {dice:.4f}")


def _choice(option: str, given: str, known: tuple[str, ...]) -> Any:
    if given not in known:
        raise InputError(f"{option} cannot be {given!r}.", f"Use {', '.join(known)}.")
    return given


def _workers(devices: int, nodes: int, strategy: str, device: str, sleeping: bool) -> Workers | None:
    if devices * nodes == 1 and not strategy:
        return None
    from napari_medattn.training.distributed import launch

    return launch(devices, nodes, strategy=strategy or "ddp", device=device, sleeping=sleeping)
