"""`Outputs`: finished slices of class probabilities become the mask, and what else was asked for, on the image."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from napari_medattn.data.linear import apply, linear, used
from napari_medattn.data.slabs import Slabs
from napari_medattn.data.tiles import Shape
from napari_medattn.inference.scope import Box, before_resampling, turned, turned_back
from napari_medattn.inference.storage import zeros

Float = NDArray[np.float32]
Measure = Literal["entropy", "margin"]


class Outputs:
    """The results on the image's grid, filled slice by slice.

    The most probable class is taken on the image's grid; where no voxel is interpolated that is the same as taking it
    before, and far cheaper.

    Args:
        slabs: The prepared volume.
        classes: Number of classes K.
        box: Which part of the image is wanted; nothing is written elsewhere.
        probabilities: Whether they are kept.
        uncertainty: Which measure of uncertainty is kept, if any.

    Attributes:
        labels: (Z, Y, X) uint8, the most probable class.
        probabilities: (K, Z, Y, X) float32, or None.
        uncertainty: (Z, Y, X) float32, see `uncertain`, or None.
        needed: The box of the prepared volume that the results rest on.
    """

    def __init__(
        self, slabs: Slabs, classes: int, box: Box, probabilities: bool = False, uncertainty: Measure | None = None
    ) -> None:
        shape = slabs.source.grid.shape
        self.measure = uncertainty
        self.labels: NDArray[np.uint8] = zeros(shape, np.uint8)
        self.probabilities: Float | None = zeros((classes, *shape), np.float32) if probabilities else None
        self.uncertainty: Float | None = zeros(shape, np.float32) if uncertainty else None
        self._turn, self._shape = slabs.turn, shape
        self._box = turned(box, slabs.turn, shape)
        self.needed = before_resampling(self._box, slabs.shape, slabs.turned_shape)
        self._resampled = slabs.resampled
        self._rows = [
            linear(old, new)[side] for old, new, side in zip(slabs.shape, slabs.turned_shape, self._box, strict=True)
        ]
        self.restart()

    def restart(self) -> None:
        """Begin again from the first slice."""
        self._done = self._box[0].start
        self._held: Float | None = None
        self._held_from = 0

    def put(self, first: int, planes: Tensor, origin: Shape) -> Box | None:
        """Take finished slices, which come in order.

        Args:
            first: The first of them, on the prepared grid.
            planes: (K, n, Y, X) probabilities.
            origin: (Z, Y, X) of the prepared voxel at which Y and X of the planes begin.

        Returns:
            The box of the image that is finished with them, or None.
        """
        z, y, x = self.needed
        low, high = max(first, z.start), min(first + planes.shape[1], z.stop)
        if low >= high:
            return None
        some = planes[
            :,
            low - first : high - first,
            y.start - origin[1] : y.stop - origin[1],
            x.start - origin[2] : x.stop - origin[2],
        ]
        if not self._resampled:
            return self._write(low, some)
        return self._interpolate(low, some.float().cpu().numpy())

    def _interpolate(self, first: int, values: Float) -> Box | None:
        """Bring slices that rest on (K, n, Y, X) prepared ones onto the image's, keeping what the next rest on."""
        for axis in (1, 2):
            low, high = used(self._rows[axis])
            values = apply(self._rows[axis][:, low:high], values, axis + 1)
        if self._held is None:
            self._held, self._held_from = values, first
        else:
            self._held = np.concatenate([self._held, values], axis=1)
        have = self._held_from + self._held.shape[1]
        rows, begun = self._rows[0], self._done - self._box[0].start
        count = begun
        while count < rows.shape[0] and used(rows[count : count + 1])[1] <= have:
            count += 1
        if count == begun:
            return None
        span = slice(self._held_from, have)
        found = apply(rows[begun:count, span], self._held, 1)
        if count < rows.shape[0]:
            keep = min(used(rows[count : count + 1])[0], have)  # thick slices pass over some prepared ones
            self._held, self._held_from = self._held[:, keep - self._held_from :].copy(), keep
        return self._write(self._done, torch.from_numpy(np.ascontiguousarray(found, dtype=np.float32)))

    def _write(self, first: int, values: Tensor) -> Box:
        """(K, n, Y, X) probabilities that lie on the image's voxels, in prepared axis order."""
        here = slice(first, first + values.shape[1]), *self._box[1:]
        self._turned(self.labels[None])[(0, *here)] = winner(values).cpu().numpy()
        if self.probabilities is not None:
            self._turned(self.probabilities)[(slice(None), *here)] = values.float().cpu().numpy()
        if self.uncertainty is not None and self.measure is not None:
            self._turned(self.uncertainty[None])[(0, *here)] = uncertain(values.float(), self.measure).cpu().numpy()
        self._done = here[0].stop
        return turned_back(here, self._turn, self._shape)

    def _turned(self, array: NDArray[Any]) -> NDArray[Any]:
        """A view in prepared axis order."""
        return self._turn.apply(array)


def winner(probabilities: Tensor) -> Tensor:
    """(K, ...) -> (...) uint8, the most probable class; of equal ones the first."""
    best, found = probabilities[0], torch.zeros_like(probabilities[0], dtype=torch.uint8)
    for number in range(1, len(probabilities)):
        better = probabilities[number] > best
        found.masked_fill_(better, number)
        if number + 1 < len(probabilities):
            best = torch.maximum(best, probabilities[number])
    return found


def uncertain(probabilities: Tensor, measure: Measure) -> Tensor:
    """How undecided probabilities are, 0 (certain) to 1.

    Args:
        probabilities: (K, ...) summing to one over K.
        measure: ``"entropy"``: the entropy divided by log K. ``"margin"``: one minus the difference of the two
            highest.
    """
    if measure == "margin":
        high = probabilities.topk(2, dim=0).values
        return 1 - (high[0] - high[1])
    total = torch.zeros_like(probabilities[0])
    for one in probabilities:
        safe = one.clamp(1e-7, 1.0)
        total -= safe * safe.log()
    return total / float(np.log(len(probabilities)))
