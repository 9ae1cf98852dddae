"""``medattn predict``: segment files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from napari_medattn.cli.terminal import console, print_json, run, say_error
from napari_medattn.errors import InputError, MedAttnError

if TYPE_CHECKING:
    from napari_medattn.inference import Predictor


def predict(
    images: Annotated[list[Path], typer.Argument(help="NIfTI or TIFF files.")],
    checkpoint: Annotated[str, typer.Option("--checkpoint", "-c", help="Name or path, see `medattn checkpoints`.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="A file for one image, else a folder; beside the image if not given."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda:N or mps.")] = "auto",
    precision: Annotated[str, typer.Option(help="fp32, or bf16: faster on some processors, nearly the same.")] = "fp32",
    overlap: Annotated[
        float, typer.Option(min=0.0, max=0.9, help="Share that neighbouring tiles have in common.")
    ] = 0.25,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace masks that are there already.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the records as JSON.")] = False,
) -> None:
    """Segment IMAGES and save each mask with its image's exact geometry and a record beside it.

    An image that cannot be segmented does not keep the others from it; the exit status is then 1.
    """
    from napari_medattn.inference import Predictor
    from napari_medattn.store import load_checkpoint

    targets = _targets(images, out)
    _check_targets(images, targets, overwrite)
    predictor = Predictor.load(load_checkpoint(checkpoint), device, precision)
    records, failed = [], 0
    for image, target in zip(images, targets, strict=True):
        try:
            record = _segment_file(predictor, image, target, overlap)
        except MedAttnError as error:
            say_error(error)
            failed += 1
            continue
        records.append(record)
        for note in record["notes"]:
            console.print(f"note: {note}", highlight=False)
        if not as_json:
            console.print(f"Saved {target} ({record['device']}, {record['seconds']:.1f} s)", highlight=False)
    if as_json:
        print_json(records)
    if failed:
        if len(images) > 1:
            console.print(f"{failed} of {len(images)} images could not be segmented.", highlight=False)
        raise typer.Exit(1)


def _segment_file(predictor: Predictor, image: Path, target: Path, overlap: float) -> dict[str, Any]:
    """Segment one file; returns the record that was saved beside the mask."""
    from napari_medattn.data import read_volume, write_labels
    from napari_medattn.data.formats import stem
    from napari_medattn.files import atomic_write
    from napari_medattn.inference import segment_steps

    volume = read_volume(image)
    prediction = run(segment_steps(volume, predictor, overlap=overlap))
    write_labels(target, prediction.labels, like=volume, class_names=prediction.class_names)
    record = {**prediction.record, "mask": target.name}
    with atomic_write(target.with_name(f"{stem(target)}.json")) as temporary:
        temporary.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return record


def _targets(images: list[Path], out: Path | None) -> list[Path]:
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
        raise InputError(f"{out} has no suffix that masks can be written to.", f"Use one of {', '.join(LABEL_SUFFIXES)}.")
    make_folder(out)
    return [out / name for name in names]


def _check_targets(images: list[Path], targets: list[Path], overwrite: bool) -> None:
    """No mask may take the place of a scan, of another mask, or unasked of one that is there."""
    scans = {image.resolve() for image in images}
    for number, target in enumerate(targets):
        if target.resolve() in scans:
            raise InputError(f"{target} is one of the images.", "Give another --out.")
        if target in targets[:number]:
            raise InputError(f"Two masks would be saved as {target}.", "Segment images of one name one by one.")
        if target.exists() and not overwrite:
            raise InputError(f"{target} exists already.", "Give another --out, or --overwrite to replace it.")
