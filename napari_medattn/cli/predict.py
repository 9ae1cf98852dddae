"""``medattn predict``: segment files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from napari_medattn.cli.terminal import console, print_json, run
from napari_medattn.errors import InputError


def predict(
    images: Annotated[list[Path], typer.Argument(help="NIfTI or TIFF files.")],
    checkpoint: Annotated[str, typer.Option("--checkpoint", "-c", help="Name or path, see `medattn checkpoints`.")],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="A file for one image, else a folder; beside the image if not given."),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda:N or mps.")] = "auto",
    overlap: Annotated[
        float, typer.Option(min=0.0, max=0.9, help="Share that neighbouring tiles have in common.")
    ] = 0.25,
    as_json: Annotated[bool, typer.Option("--json", help="Print the records as JSON.")] = False,
) -> None:
    """Segment IMAGES and save each mask with its image's exact geometry and a record beside it."""
    from napari_medattn.data import read_volume, write_labels
    from napari_medattn.data.formats import find_format, stem
    from napari_medattn.files import atomic_write, make_folder
    from napari_medattn.inference import Predictor, segment_steps
    from napari_medattn.store import load_checkpoint

    predictor = Predictor.load(load_checkpoint(checkpoint), device)
    if out is not None and not (len(images) == 1 and find_format(out)):
        make_folder(out)
    targets = [_target(path, out, f"{stem(path)}_mask{path.name[len(stem(path)) :]}") for path in images]
    _check_targets(images, targets)
    records = []
    for path, target in zip(images, targets, strict=True):
        volume = read_volume(path)
        prediction = run(segment_steps(volume, predictor, overlap=overlap))
        write_labels(target, prediction.labels, like=volume, class_names=prediction.class_names)
        record = {**prediction.record, "mask": target.name}
        with atomic_write(target.with_name(f"{stem(target)}.json")) as temporary:
            temporary.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        records.append(record)
        for note in prediction.record["notes"]:
            console.print(f"note: {note}", highlight=False)
        if not as_json:
            console.print(f"Saved {target} ({record['device']}, {record['seconds']:.1f} s)", highlight=False)
    if as_json:
        print_json(records)


def _check_targets(images: list[Path], targets: list[Path]) -> None:
    """No mask may take the place of a scan or of another mask."""
    scans = {path.resolve() for path in images}
    for number, target in enumerate(targets):
        if target.resolve() in scans:
            raise InputError(f"{target} is one of the images.", "Give another --out.")
        if target in targets[:number]:
            raise InputError(f"Two masks would be saved as {target}.", "Segment images of one name one by one.")


def _target(image: Path, out: Path | None, name: str) -> Path:
    if out is None:
        return image.with_name(name)
    return out / name if out.is_dir() else out
