"""Time series: every frame is a volume of its own."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from pathlib import Path
from typing import Any

from napari_medattn.data import Volume
from napari_medattn.errors import InputError
from napari_medattn.events import Progress
from napari_medattn.inference.prediction import Prediction
from napari_medattn.inference.predictor import Predictor
from napari_medattn.inference.volume_run import segment_steps
from napari_medattn.store import Checkpoint


def split_frames(volume: Volume, channels: int = 1) -> list[Volume]:
    """The frames of a time series, as views.

    Args:
        volume: Its frames one behind the other along C, each with all of its channels.
        channels: Channels of one frame.

    Raises:
        InputError: If the channels do not make up whole frames.
    """
    if volume.channels % channels:
        raise InputError(
            f"{volume.name} has {volume.channels} channels, which are no whole number of frames of {channels}.",
            "Choose a checkpoint for frames of that many channels.",
        )
    count = volume.channels // channels
    digits = len(str(count - 1))
    return [
        replace(
            volume,
            array=volume.array[number * channels : (number + 1) * channels],
            name=f"{volume.name}_t{number:0{digits}d}",
        )
        for number in range(count)
    ]


def segment_frames_steps(
    volume: Volume, checkpoint: Checkpoint | Predictor | str | Path, **options: Any
) -> Generator[Progress, None, list[Prediction]]:
    """Segment a time series frame by frame.

    Args:
        volume: See `split_frames`.
        checkpoint: As for `segment`.
        options: Other arguments of `segment_steps`.

    Yields:
        The events of each frame; their stage says which it is.

    Returns:
        One prediction per frame.
    """
    predictor = checkpoint
    if not isinstance(predictor, Predictor):
        predictor = Predictor.named(predictor, options.pop("device", "auto"), options.pop("precision", "fp32"))
    frames = split_frames(volume, predictor.channels)
    found: list[Prediction] = []
    for number, frame in enumerate(frames, start=1):
        steps = segment_steps(frame, predictor, **options)
        found.append((yield from retold(steps, f"frame {number} of {len(frames)}")))
    return found


def retold(steps: Generator[Progress, None, Any], which: str) -> Generator[Progress, None, Any]:
    """A generator's events, with what they are about in front of their stage."""
    try:
        while True:
            event = next(steps)
            yield replace(event, stage=f"{which}, {event.stage}")
    except StopIteration as stop:
        return stop.value
    finally:
        steps.close()
