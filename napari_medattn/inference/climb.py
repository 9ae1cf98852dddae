"""`Climb`: passes over a volume, each with less than the one before, until one fits into memory."""

from __future__ import annotations

import gc
from collections.abc import Generator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medattn.data.slabs import Slabs
from napari_medattn.data.tiles import TilePlan
from napari_medattn.device import is_device_lost, is_out_of_memory
from napari_medattn.errors import DeviceError
from napari_medattn.events import Progress
from napari_medattn.inference.choosing import cut_up, first_attempt, limits, place_accumulator, too_much
from napari_medattn.inference.engine import AccumulatorError, Pass
from napari_medattn.inference.ladder import step_down
from napari_medattn.inference.outputs import Outputs
from napari_medattn.inference.predictor import Predictor
from napari_medattn.inference.run_events import StepDown
from napari_medattn.inference.settings import RunSettings

Maps = dict[str, NDArray[np.float32]]


class Climb:
    """A run over a volume that goes down the ladder where it has to.

    Args:
        predictor: The network.
        slabs: The volume, measured.
        outputs: Where the results go.
        settings: How the volume is gone through.
        keys: Attention sites whose maps are wanted.
        tell_slices: Tell of slices as they are finished.

    Attributes:
        attempt: What the latest pass works with.
        batches: Its tiles.
        taken: The rungs taken so far, as plain data.
    """

    def __init__(
        self,
        predictor: Predictor,
        slabs: Slabs,
        outputs: Outputs,
        settings: RunSettings,
        keys: Sequence[str],
        tell_slices: bool,
    ) -> None:
        self.predictor, self.slabs, self.outputs, self.settings = predictor, slabs, outputs, settings
        self.keys, self.tell_slices = keys, tell_slices
        self.flips = settings.combinations(predictor.card.spatial_dims)
        self.attempt = first_attempt(predictor, settings)
        self.limits = limits(predictor, self.attempt)
        self.taken: list[dict[str, str]] = []
        self.batches: Any = ()

    def steps(self) -> Generator[Progress, None, tuple[TilePlan, Maps]]:
        """Run passes until one is through.

        Raises:
            DeviceError: If nothing fits, or the device is lost.
        """
        while True:
            plan = self._cut()
            reason, accumulator = too_much(self.predictor, self.attempt, plan), False
            if not reason:
                try:
                    maps = yield from self._pass(plan).steps()
                    return plan, maps
                except (RuntimeError, MemoryError) as error:
                    accumulator = isinstance(error, AccumulatorError)
                    reason = self._reason(error)
                finally:
                    self.predictor.free()
            yield self._down(reason, accumulator)

    def _cut(self) -> TilePlan:
        overlap, needed = self.settings.overlap, self.outputs.needed
        plan, self.batches = cut_up(self.slabs.shape, needed, self.predictor, self.attempt, overlap)
        self.attempt = place_accumulator(self.predictor, self.attempt, plan, self.batches, self.settings)
        return plan

    def _pass(self, plan: TilePlan) -> Pass:
        self.outputs.restart()
        return Pass(
            self.predictor,
            self.slabs,
            plan,
            self.batches,
            self.attempt,
            self.outputs,
            self.flips,
            self.keys,
            self.settings.half,
            self.tell_slices,
        )

    def _reason(self, error: Exception) -> str:
        """Why a pass failed, if it was memory.

        Raises:
            DeviceError: If the device is lost.
        """
        if is_out_of_memory(error):
            return f"out of memory on {self.attempt.device}"
        if is_device_lost(error):
            raise DeviceError(
                f"The device {self.attempt.device} stopped working ({str(error).splitlines()[0]}).",
                "Start the program anew, or choose cpu.",
            ) from error
        raise error

    def _down(self, reason: str, accumulator: bool) -> StepDown:
        """Take the next rung; nothing of the failed pass is held any more when this is called."""
        found = step_down(self.attempt, self.limits, accumulator)
        if found is None:
            raise DeviceError(
                f"There is not enough memory, even for one tile of {self.attempt.tile} voxels ({reason}).",
                "Close other programs, choose a smaller network, or crop the image.",
            )
        if self.predictor.device.type != "cpu":
            gc.collect()
            self.predictor.free()
        self.attempt, step = found
        if (self.attempt.device, self.attempt.precision) != (str(self.predictor.device), self.predictor.precision):
            self.predictor = self.predictor.changed(self.attempt.device, self.attempt.precision)
        event = StepDown(f"{reason}, beginning again with {step}", 0, 0, step=step, reason=reason)
        self.taken.append(event.to_record())
        return event
