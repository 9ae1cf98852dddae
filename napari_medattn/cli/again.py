"""``medattn predict --from-record``: the same mask once more, from what its record says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from napari_medattn.cli.terminal import console, print_json, run
from napari_medattn.errors import CheckpointError, InputError

if TYPE_CHECKING:
    from napari_medattn.store import Checkpoint


def make_again(
    record_file: Path, images: list[Path], checkpoint: str, out: Path | None, overwrite: bool, as_json: bool
) -> None:
    """Make the mask of a record again, and say whether it is the very same.

    Raises:
        InputError: If the record, the image or the network is another one.
        Exit: With status 1 if the mask differs, which another device or version may cause.
    """
    import torch

    from napari_medattn.data import read_volume, write_labels
    from napari_medattn.files import make_folder
    from napari_medattn.inference import segment_steps
    from napari_medattn.inference.frames import split_frames
    from napari_medattn.inference.record import run_again
    from napari_medattn.store.mask_record import read_record

    record = read_record(record_file)
    arguments = run_again(record)
    found = _find_checkpoint(record, checkpoint)
    volume = read_volume(_image(record, images))
    if "frame" in record:
        volume = split_frames(volume, volume.channels // int(record["frames"]))[int(record["frame"])]
    target = out or record_file.with_name(str(record["mask"]))
    if target.exists() and not overwrite:
        raise InputError(f"{target} exists already.", "Give another file with --out, or --overwrite to replace it.")
    torch.set_num_threads(int(record["threads"]))
    prediction = run(segment_steps(volume, found, **arguments))
    if prediction.record["image_sha256"] != record["image_sha256"]:
        raise InputError(
            f"The voxels of {volume.name} are not those that the record speaks of.", "Give the original image."
        )
    make_folder(target.parent)
    write_labels(target, prediction.labels, like=volume, class_names=prediction.class_names)
    same = prediction.record["labels_sha256"] == record["labels_sha256"]
    if as_json:
        print_json({"mask": str(target), "identical": same, "differs": _differences(record, prediction.record)})
    else:
        text = "is the very same mask" if same else "differs from the recorded mask"
        console.print(f"{target} {text}.", highlight=False)
        for what in () if same else _differences(record, prediction.record):
            console.print(f"note: {what}", highlight=False)
    if not same:
        raise typer.Exit(1)


def _find_checkpoint(record: Mapping[str, Any], given: str) -> Checkpoint:
    """The checkpoint with the recorded weights: the one given, the one of that name, or any other.

    Raises:
        CheckpointError: If there is none.
    """
    from napari_medattn.store import list_checkpoints, load_checkpoint

    weights, name = record.get("weights_sha256"), record.get("checkpoint")
    known = [load_checkpoint(given)] if given else list_checkpoints()
    for checkpoint in known:
        if checkpoint.card.weights_sha256 == weights:
            return checkpoint
    raise CheckpointError(
        f"{given or 'No checkpoint here'} does not have the weights that the record speaks of ({name}, {weights}).",
        "Give the path of that checkpoint with --checkpoint.",
    )


def _image(record: Mapping[str, Any], images: list[Path]) -> Path:
    if len(images) > 1:
        raise InputError(f"A record speaks of one image, not of {len(images)}.", "Give that one.")
    if images:
        return images[0]
    if "image_file" not in record:
        raise InputError("The record does not say where its image lies.", "Give the image.")
    return Path(str(record["image_file"]))


def _differences(record: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What else than the mask is other than it was: the likely reason."""
    found = [
        f"{what} was {record.get(what)}, now {now.get(what)}."
        for what in ("device", "precision", "tile", "batch")
        if record.get(what) != now.get(what)
    ]
    before = record.get("versions") or {}
    return found + [
        f"{name} was {before.get(name)}, now {version}."
        for name, version in now["versions"].items()
        if before.get(name) != version
    ]
