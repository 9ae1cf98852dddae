"""``medattn finetune``: train a checkpoint further on labelled scans."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from napari_medattn.cli.terminal import console, print_json, run


def finetune(
    data: Annotated[Path, typer.Argument(help="Folder with images/, labels/ and dataset.json.")],
    checkpoint: Annotated[str, typer.Option("--checkpoint", "-c", help="Where to start from.")],
    name: Annotated[str, typer.Option(help="Name of the new checkpoint.")] = "",
    seconds: Annotated[float, typer.Option(help="Time budget.")] = 60.0,
    cases: Annotated[str, typer.Option(help="Case names by comma; all if not given.")] = "",
    unlabelled: Annotated[
        int, typer.Option(help="Label value of voxels that nobody vouches for; -1: every voxel counts.")
    ] = -1,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda:N or mps.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print the new card's path and metrics as JSON.")] = False,
) -> None:
    """Fine-tune a checkpoint on the cases of DATA and save the result as a new one."""
    from napari_medattn.errors import InputError
    from napari_medattn.store import load_checkpoint
    from napari_medattn.training.finetune import DEFAULT, finetune_steps
    from napari_medattn.training.folder import DataFolder

    folder = DataFolder.open(data)
    chosen = cases.split(",") if cases else list(folder.cases)
    missing = [case for case in chosen if case not in folder.cases]
    if missing:
        raise InputError(f"{data} has no case {', '.join(missing[:3])}.", "Name images of the folder.")
    examples = list(folder.examples(chosen))
    if unlabelled >= 0:
        examples = [replace(e, weights=e.labels != unlabelled) for e in examples]
    config = replace(DEFAULT, seconds=seconds)
    new = run(finetune_steps(load_checkpoint(checkpoint), examples, config=config, name=name, device=device))
    if as_json:
        print_json({"name": new.name, "path": str(new.path), "metrics": new.card.metrics})
        return
    metrics = new.card.metrics
    console.print(f"Saved {new.name} as {new.path}", highlight=False)
    console.print(
        f"Agreement with what it was trained on: {metrics['agreement_before']:.1%} before, "
        f"{metrics['agreement_after']:.1%} after; other data is not measured by this.",
        highlight=False,
    )
