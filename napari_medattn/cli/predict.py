"""``medattn predict``: segment files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from napari_medattn.cli import run_options as option
from napari_medattn.cli.again import make_again
from napari_medattn.cli.options import Series, of_series
from napari_medattn.cli.terminal import console, print_json, run, say_error
from napari_medattn.errors import InputError, MedAttnError


def predict(
    images: Annotated[list[Path] | None, typer.Argument(help="Image files, or folders of a DICOM series.")] = None,
    checkpoint: Annotated[
        str, typer.Option("--checkpoint", "-c", help="Name or path, see `medattn checkpoints`.")
    ] = "",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="A file for one image, else a folder; beside the image if not given."),
    ] = None,
    series: Series = None,
    device: option.Device = "auto",
    precision: option.Precision = "fp32",
    overlap: option.Overlap = 0.25,
    flips: option.Flips = "",
    tidy: option.TidySteps = None,
    skip_below: option.SkipBelow = None,
    box: Annotated[str, typer.Option(help="Segment only this part, as Z0:Z1,Y0:Y1,X0:X1 in voxels.")] = "",
    frames: option.Frames = False,
    uncertainty: option.Uncertainty = "",
    tile: option.Tile = "",
    batch: option.Batch = None,
    compiled: Annotated[
        bool, typer.Option("--compile", help="Compile the network first: minutes, which long runs may win back.")
    ] = False,
    from_record: Annotated[
        Path | None,
        typer.Option(help="Make a mask again exactly as the record beside it says; IMAGES only if it has moved."),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace masks that are there already.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the records as JSON.")] = False,
) -> None:
    """Segment IMAGES and save each mask with its image's exact geometry and a record beside it.

    An image that cannot be segmented does not keep the others from it; the exit status is then 1.
    """
    images = of_series(images or [], series)
    if from_record is not None:
        make_again(from_record, images, checkpoint, out, overwrite, as_json)
        return
    if not images:
        raise typer.BadParameter("Give IMAGES, or a record with --from-record.")
    if not checkpoint:
        raise typer.BadParameter("Give a checkpoint with --checkpoint.")
    from napari_medattn.inference import Predictor
    from napari_medattn.inference.case_file import segment_file_steps

    asked = option.gather(overlap, flips, tidy, skip_below, tile, batch, uncertainty, frames, box)
    targets = choose_targets(images, out)
    check_targets(images, targets, overwrite or frames)
    predictor = Predictor.named(checkpoint, device, precision, compiled)
    records: list[dict[str, Any]] = []
    failed = 0
    for image, target in zip(images, targets, strict=True):
        try:
            made = run(segment_file_steps(image, target, predictor, asked))
        except MedAttnError as error:
            say_error(error)
            failed += 1
            continue
        records += made
        if not as_json:
            _say_saved(made, target)
    if as_json:
        print_json(records)
    if failed:
        if len(images) > 1:
            console.print(f"{failed} of {len(images)} images could not be segmented.", highlight=False)
        raise typer.Exit(1)


def _say_saved(records: list[dict[str, Any]], target: Path) -> None:
    for record in records:
        notes = [*record["notes"], *(f"{step['reason']}: {step['step']}." for step in record["ladder"])]
        for note in notes:
            console.print(f"note: {note}", highlight=False)
        path = target.with_name(record["mask"])
        console.print(f"Saved {path} ({record['device']}, {record['seconds']:.1f} s)", highlight=False)


def choose_targets(images: list[Path], out: Path | None) -> list[Path]:
    """Where each mask goes: beside its image, into a folder, or for one image into a file."""
    from napari_medattn.data.formats import LABEL_SUFFIXES, find_format, mask_suffix, stem
    from napari_medattn.files import make_folder

    names = [f"{stem(image)}_mask{mask_suffix(image)}" for image in images]
    if out is None:
        return [image.with_name(name) for image, name in zip(images, names, strict=True)]
    if not out.is_dir() and find_format(out):
        if len(images) > 1:
            raise InputError(f"{out} is one file, and there are {len(images)} images.", "Give a folder.")
        make_folder(out.parent)
        return [out]
    if not out.is_dir() and out.suffix:
        known = ", ".join(LABEL_SUFFIXES)
        raise InputError(f"{out} has no suffix that masks can be written to.", f"Use one of {known}.")
    make_folder(out)
    return [out / name for name in names]


def check_targets(images: list[Path], targets: list[Path], overwrite: bool) -> None:
    """No mask may take the place of a scan, of another mask, or unasked of one that is there."""
    from napari_medattn.store.mask_record import record_path

    scans, records = {image.resolve() for image in images}, [record_path(target) for target in targets]
    for number, target in enumerate(targets):
        if target.resolve() in scans:
            raise InputError(f"{target} is one of the images.", "Give another --out.")
        if records[number] in records[:number]:
            raise InputError(f"Two masks would be saved as {target}.", "Segment images of one name one by one.")
        if target.exists() and not overwrite:
            raise InputError(f"{target} exists already.", "Give another --out, or --overwrite to replace it.")
