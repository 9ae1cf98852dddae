"""Segment a whole volume, or a part of it, tile by tile."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from napari_medattn.attention.capture import choose_sites
from napari_medattn.data import Volume
from napari_medattn.data.slabs import Slabs
from napari_medattn.data.tidy import Tidy, tidy as tidy_up
from napari_medattn.errors import InputError
from napari_medattn.events import Progress, run_to_end
from napari_medattn.inference.climb import Climb
from napari_medattn.inference.outputs import Measure, Outputs
from napari_medattn.inference.prediction import AttentionMap, Prediction
from napari_medattn.inference.predictor import Predictor
from napari_medattn.inference.record import describe_run, describe_settings, hash_labels
from napari_medattn.inference.scope import resolve_box
from napari_medattn.inference.settings import RunSettings
from napari_medattn.store import Checkpoint

__all__ = ["describe_run", "segment", "segment_steps"]


def segment(
    volume: Volume,
    checkpoint: Checkpoint | Predictor | str | Path,
    *,
    device: str = "auto",
    precision: str = "fp32",
    attention: Iterable[str] | None = (),
    probabilities: bool = False,
    uncertainty: bool | Measure = False,
    overlap: float | None = None,
    box: Sequence[slice] | None = None,
    tidy: Iterable[Tidy | str] = (),
    settings: RunSettings | None = None,
) -> Prediction:
    """Segment a volume.

    Args:
        volume: The image; its array may be memory-mapped or lazy, it is read slab by slab.
        checkpoint: A checkpoint, its name or path, or a network that is already loaded.
        device: ``"auto"``, ``"cpu"``, ``"cuda:N"`` or ``"mps"``; ignored for a loaded network.
        precision: ``"fp32"``, ``"bf16"`` or ``"fp16"``, see `Predictor`; ignored for a loaded network.
        attention: Keys of the sites whose maps are wanted; None for all of them.
        probabilities: Whether to give the class probabilities too.
        uncertainty: Whether to say how undecided they are too: True or ``"entropy"``, or ``"margin"``.
        overlap: Share of a tile that neighbouring tiles have in common; None for that of the settings.
        box: Slices (Z, Y, X) of the image that are wanted, None for all of it. The result there is that of the whole
            image, but only the tiles that touch it are run; outside, the mask is background and means nothing.
        tidy: What to do to the mask afterwards, in this order; see `Tidy` for the text form.
        settings: How the volume is gone through.

    Returns:
        The mask on the volume's own grid, and what was asked for.

    Raises:
        InputError: If the network cannot take the volume.
        CheckpointError: If the checkpoint is missing or damaged.
        DeviceError: If the device is not there, is lost, or has too little memory for even the smallest tile.
        SaveError: If unfinished slices must go to a disk that has no room for them.
    """
    steps = segment_steps(
        volume,
        checkpoint,
        device=device,
        precision=precision,
        attention=attention,
        probabilities=probabilities,
        uncertainty=uncertainty,
        overlap=overlap,
        box=box,
        tidy=tidy,
        settings=settings,
    )
    return run_to_end(steps)


def segment_steps(
    volume: Volume,
    checkpoint: Checkpoint | Predictor | str | Path,
    *,
    device: str = "auto",
    precision: str = "fp32",
    attention: Iterable[str] | None = (),
    probabilities: bool = False,
    uncertainty: bool | Measure = False,
    overlap: float | None = None,
    box: Sequence[slice] | None = None,
    tidy: Iterable[Tidy | str] = (),
    settings: RunSettings | None = None,
    tell_slices: bool = False,
) -> Generator[Progress, None, Prediction]:
    """`segment` as a generator that can be left after every batch of tiles.

    With ``tell_slices`` it tells of slices as they are finished.

    Yields:
        Progress, once before the first tile and once after each batch; `StepDown` where memory did not suffice and
        the run begins again with less; `SlicesReady` if that was asked for.
    """
    began = time.monotonic()
    yield Progress("preparing", 0, 0)
    settings = settings or RunSettings()
    if overlap is not None:
        settings = replace(settings, overlap=overlap)
    tidying = [Tidy.parse(step) if isinstance(step, str) else step for step in tidy]
    predictor = checkpoint if isinstance(checkpoint, Predictor) else Predictor.named(checkpoint, device, precision)
    predictor.check(volume)
    asked = None if attention is None else list(attention)
    keys = [] if asked == [] else [site.key for site in choose_sites(predictor.model, asked)]
    where, measure = resolve_box(box, volume.grid.shape), _measure(uncertainty)
    slabs = Slabs(volume, predictor.card.preparation, settings.skip_below)
    for done, total in slabs.measure():
        yield Progress("preparing", done, total, "slices", time.monotonic() - began)
    outputs = Outputs(slabs, len(predictor.card.class_names), where, probabilities, measure)
    climb = Climb(predictor, slabs, outputs, settings, keys, tell_slices)
    plan, maps = yield from climb.steps()
    ran, tiles = time.monotonic() - began, sum(len(batch) for batch in climb.batches)
    yield Progress("finishing", tiles, tiles, "tiles", ran)
    part, spacing = outputs.labels[where], volume.grid.spacing
    tidied = [{"step": str(step), "changed": tidy_up(part, step, spacing)} for step in tidying]
    yield Progress("finishing", tiles, tiles, "tiles", time.monotonic() - began)  # the last chance to cancel
    record = {
        **describe_run(climb.predictor, slabs, plan, settings.overlap),
        **describe_settings(settings, climb.attempt, climb.taken, None if box is None else where),
        "tiles": tiles,
        "tidy": tidied,
        "uncertainty": measure,
        "image_sha256": slabs.sha256,
        "labels_sha256": hash_labels(outputs.labels),
        "share_edited": 0.0,
        "seconds": round(time.monotonic() - began, 3),
    }
    seen = slabs.as_prepared()
    return Prediction(
        volume=volume,
        labels=outputs.labels,
        class_names=predictor.card.class_names,
        probabilities=outputs.probabilities,
        uncertainty=outputs.uncertainty,
        sites=tuple(predictor.sites.values()),
        attention={key: AttentionMap(predictor.sites[key], found, seen, plan.tile) for key, found in maps.items()},
        record=record,
        box=None if box is None else where,
    )


def _measure(uncertainty: bool | Measure) -> Measure | None:
    """Which measure is meant.

    Raises:
        InputError: If there is no such measure.
    """
    if isinstance(uncertainty, bool):
        return "entropy" if uncertainty else None
    if uncertainty not in ("entropy", "margin"):
        raise InputError(f"There is no uncertainty {uncertainty!r}.", "Use entropy or margin.")
    return uncertainty
