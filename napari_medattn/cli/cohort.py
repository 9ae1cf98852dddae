"""``medattn cohort``: segment a folder of images."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from napari_medattn.cli import run_options as option
from napari_medattn.cli.terminal import console, print_json, run

if TYPE_CHECKING:
    from napari_medattn.inference.cohort import CaseResult


def cohort(
    images: Annotated[Path, typer.Argument(metavar="IN", help="Folder of images, with folders in it.")],
    out: Annotated[Path, typer.Argument(help="Folder for masks, records and the report.")],
    checkpoint: option.CheckpointName,
    device: option.Device = "auto",
    precision: option.Precision = "fp32",
    overlap: option.Overlap = 0.25,
    flips: option.Flips = "",
    tidy: option.TidySteps = None,
    skip_below: option.SkipBelow = None,
    frames: option.Frames = False,
    uncertainty: option.Uncertainty = "",
    tile: option.Tile = "",
    batch: option.Batch = None,
    scheduler: Annotated[
        str,
        typer.Option(help="Address or file of a Dask scheduler whose workers, which see the same files, do the work."),
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Segment every image in IN and save masks and records in OUT, with report.csv and report.json.

    Run it again after an interruption: what is finished, with the same network and options, is skipped. An image that
    cannot be segmented does not keep the others from it; the exit status is then 1, and the report says why.
    """
    from napari_medattn.inference import Predictor
    from napari_medattn.inference.cluster import cohort_on_cluster_steps
    from napari_medattn.inference.cohort import cohort_steps, find_cases
    from napari_medattn.store import load_checkpoint

    asked = option.gather(overlap, flips, tidy, skip_below, tile, batch, uncertainty, frames)
    cases, found = find_cases(images, out), load_checkpoint(checkpoint)
    if scheduler:
        steps = cohort_on_cluster_steps(cases, found, asked, out, scheduler, device=device, precision=precision)
    else:
        steps = cohort_steps(cases, Predictor.load(found, device, precision), asked, out)
    results = run(steps)
    _say(results, out, as_json)
    if any(result.status == "failed" for result in results):
        raise typer.Exit(1)


def _say(results: list[CaseResult], out: Path, as_json: bool) -> None:
    if as_json:
        print_json({"cases": [asdict(result) for result in results]})
        return
    counts = Counter(result.status for result in results)
    for result in results:
        if result.status == "failed":
            console.print(f"failed: {result.name}: {result.error}", highlight=False, soft_wrap=True)
    told = ", ".join(f"{counts[status]} {status}" for status in ("done", "skipped", "failed"))
    console.print(f"{len(results)} cases: {told}. See {out / 'report.csv'}.", highlight=False)
