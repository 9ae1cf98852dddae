"""`Slabs`: a volume prepared for a network slab by slab, so that no more of it is in memory than is worked on.

It gives what `prepare` gives. The volume may be in memory, memory-mapped or a lazy array: it is read along the prepared
Z axis, twice for what has to be known of the whole (limits, mean, standard deviation), then once for the network.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medattn.data.linear import apply, linear, used
from napari_medattn.data.prepare import Preparation, Prepared, target_shape, turning
from napari_medattn.data.volume import Volume
from napari_medattn.errors import InputError

Float = NDArray[np.float32]
Shape = tuple[int, int, int]
_SAMPLE = 1 << 20  # voxels from which percentiles are estimated
_CHUNK = 1 << 22  # voxels read at a time


@dataclass(frozen=True)
class Scaling:
    """How one channel's intensities become what the network sees: clipped, shifted, divided."""

    low: float
    high: float
    shift: float
    scale: float

    def apply(self, values: Float) -> None:
        """Scale values in place."""
        np.clip(values, self.low, self.high, out=values)
        values -= np.float32(self.shift)
        values /= np.float32(self.scale)


class Slabs:
    """A volume, prepared slab by slab.

    Call `measure` to its end before asking for slabs.

    Args:
        volume: The volume.
        how: How to prepare it.
        skip_below: Whether a voxel is brighter than this, in the volume's own intensities, is asked for by
            `bright`; None if it is not.

    Attributes:
        shape: (Z, Y, X) on the prepared grid.
        turn: The axis change between source and prepared grid.
        turned_shape: The source's shape in prepared axis order, before resampling.
        notes: What had to be decided, to be shown to the user.
        sha256: Hash of the source's voxels with their type and shape; filled in by `measure`.
    """

    def __init__(self, volume: Volume, how: Preparation, skip_below: float | None = None) -> None:
        self.source, self.how, self.skip_below = volume, how, skip_below
        self.notes: list[str] = list(volume.notes)
        self.turn = turning(volume, how)
        self._turned: Any = self.turn.apply(volume.array)
        z, y, x = (int(size) for size in self._turned.shape[1:])
        self.turned_shape: Shape = (z, y, x)
        self.shape: Shape = self.turned_shape
        if how.spacing is not None and volume.grid.units != "mm":
            self.notes.append(
                "The voxel size is not known, so the image was not brought to the one the network was trained on."
            )
        elif how.spacing is not None:
            spacing = self.turn.reorder(volume.grid.spacing)
            self.shape = target_shape(self.turned_shape, spacing, how.spacing, volume.spatial_dims)
        self._rows = [linear(old, new) for old, new in zip(self.turned_shape, self.shape, strict=True)]
        self._thick = max(1, _CHUNK // int(np.prod(self.shape[1:], dtype=np.int64)))
        self.sha256 = ""
        self._fill: float | None = None
        self._scaling: list[Scaling] = []
        self._first = 0
        self._slab = np.empty((volume.channels, 0, *self.shape[1:]), np.float32)
        self._bright = np.empty((0, *self.shape[1:]), bool)

    @property
    def resampled(self) -> bool:
        """Whether the prepared voxels are not the source's."""
        return self.shape != self.turned_shape

    def measure(self) -> Generator[tuple[int, int], None, None]:
        """Go through the whole volume once or twice.

        Yields:
            Slices done and slices to do, between chunks.

        Raises:
            InputError: If no voxel is finite or all have one value: there is nothing to segment.
        """
        passes = 2 + (self.how.intensity == "zscore")
        yield from self._check(passes)
        if self.how.intensity == "none":
            return
        samples: list[list[Float]] = [[] for _ in range(self.source.channels)]
        limits = [(np.inf, -np.inf)] * self.source.channels
        step = max(1, int(np.prod(self.shape, dtype=np.int64)) // _SAMPLE)
        if self.how.intensity == "window" and self.how.window is not None:
            limits = [self.how.window] * self.source.channels
        else:
            for first, slab in self._through():
                offset = -(first * self.shape[1] * self.shape[2]) % step
                for channel, values in enumerate(slab):
                    low, high = limits[channel]
                    limits[channel] = min(low, float(values.min())), max(high, float(values.max()))
                    samples[channel].append(values.ravel()[offset::step].copy())
                yield self.shape[0] + first, passes * self.shape[0]
        if self.how.intensity == "window":
            low, high = min(low for low, _ in limits), max(high for _, high in limits)
            self._scaling = [Scaling(low, high, low, max(high - low, 1e-6))] * self.source.channels
            return
        cut = [_ends(np.concatenate(some)) for some in samples]
        if self.how.intensity == "percentile":
            self._scaling = [Scaling(low, high, low, max(high - low, 1e-6)) for low, high in cut]
            return
        sums = np.zeros((2, self.source.channels))
        middle = [(low + high) / 2 for low, high in cut]
        for first, slab in self._through():
            for channel, values in enumerate(slab):
                Scaling(*cut[channel], middle[channel], 1.0).apply(values)
                sums[0, channel] += values.sum(dtype=np.float64)
                sums[1, channel] += np.einsum("zyx,zyx->z", values, values, dtype=np.float64).sum()
            yield 2 * self.shape[0] + first, passes * self.shape[0]
        mean, square = sums / np.prod(self.shape, dtype=np.int64)
        spread = np.sqrt(np.maximum(square - mean**2, 0))
        self._scaling = [
            Scaling(*cut[n], float(np.float32(middle[n])) + float(mean[n]), max(float(spread[n]), 1e-6))
            for n in range(self.source.channels)
        ]

    def slab(self, first: int, stop: int) -> Float:
        """The prepared slices from ``first`` to before ``stop``: (C, stop - first, Y, X), not to be written to.

        With neighbours, C runs over slices, then channels, as in `Prepared`.
        """
        beside = self.how.neighbours
        low, high = max(0, first - beside), min(self.shape[0], stop + beside)
        self._load(low, high)
        values = self._slab[:, low - self._first : high - self._first]
        if not beside:
            return values
        missing = (low - (first - beside), stop + beside - high)
        padded = np.pad(values, ((0, 0), missing, (0, 0), (0, 0)), mode="edge")
        views = np.lib.stride_tricks.sliding_window_view(padded, 2 * beside + 1, axis=1)
        return np.moveaxis(views, -1, 0).reshape(-1, stop - first, *self.shape[1:])

    def bright(self, box: tuple[slice, slice, slice]) -> bool:
        """Whether a voxel of a box, within the slab asked for last, is brighter than ``skip_below``."""
        z, y, x = box
        return bool(self._bright[z.start - self._first : z.stop - self._first, y, x].any())

    def as_prepared(self) -> Prepared:
        """Where the network saw the volume, without the voxels: they are nan, and take no memory."""
        shape = (self.source.channels * self.how.slices, *self.shape)
        return Prepared(
            np.broadcast_to(np.float32(np.nan), shape), self.source, self.turn, self.turned_shape, tuple(self.notes)
        )

    def _check(self, passes: int) -> Generator[tuple[int, int], None, None]:
        """Look for voxels that are not finite or all alike, and hash them, in the source's own order."""
        array = self.source.array
        digest = hashlib.sha256(f"{array.dtype} {tuple(array.shape)}".encode())
        lowest, highest, bad = np.inf, -np.inf, 0
        thick = max(1, _CHUNK // int(np.prod(array.shape[2:], dtype=np.int64)))
        for channel in range(array.shape[0]):
            for first in range(0, array.shape[1], thick):
                values = np.ascontiguousarray(array[channel, first : first + thick])
                digest.update(values.data if values.dtype.isnative else values.tobytes())
                if values.dtype.kind == "f":
                    finite = np.isfinite(values)
                    count = int(np.count_nonzero(finite))
                    bad += values.size - count
                    values = values if count == values.size else values[finite]
                if values.size:
                    lowest, highest = min(lowest, float(values.min())), max(highest, float(values.max()))
                yield first * self.shape[0] // array.shape[1], passes * self.shape[0]
        self.sha256 = digest.hexdigest()
        name = self.source.name
        if lowest > highest:
            raise InputError(f"{name} has no finite voxel.", "Open another image.")
        if lowest == highest:
            raise InputError(
                f"Every voxel of {name} has the value {array.dtype.type(lowest)}: there is nothing to segment.",
                "Open another image.",
            )
        if bad:
            self._fill = lowest
            self.notes.append(f"{bad} voxels of {name} are NaN or infinite: they are taken as its lowest value.")

    def _through(self) -> Iterator[tuple[int, Float]]:
        """All of the volume, resampled but not scaled, in slabs; each may be written to."""
        for first in range(0, self.shape[0], self._thick):
            yield first, self._read(first, min(self.shape[0], first + self._thick))

    def _read(self, first: int, stop: int) -> Float:
        """The resampled intensities of some prepared slices, as an array of its own."""
        rows = self._rows[0][first:stop]
        low, high = used(rows)
        values = np.array(self._turned[:, low:high], dtype=np.float32, order="C")
        if self._fill is not None:
            np.copyto(values, np.float32(self._fill), where=~np.isfinite(values))
        if self.resampled:
            for axis, matrix in enumerate((rows[:, low:high], *self._rows[1:])):
                values = apply(matrix, values, axis + 1)
            values = np.ascontiguousarray(values, dtype=np.float32)
        return values

    def _load(self, first: int, stop: int) -> None:
        """Have these prepared slices in memory; those that are there already are not read again."""
        have = self._first, self._first + self._slab.shape[1]
        if have[0] <= first and stop <= have[1]:
            return
        kept = slice(first, min(have[1], stop)) if have[0] <= first < have[1] else slice(first, first)
        slab = np.empty((self._slab.shape[0], stop - first, *self.shape[1:]), np.float32)
        bright = np.empty((stop - first if self.skip_below is not None else 0, *self.shape[1:]), bool)
        old, count = slice(kept.start - have[0], kept.stop - have[0]), kept.stop - kept.start
        slab[:, :count], bright[:count] = self._slab[:, old], self._bright[old]
        self._slab, self._first = np.empty((slab.shape[0], 0, *self.shape[1:]), np.float32), first
        for begin in range(kept.stop, stop, self._thick):
            end = min(stop, begin + self._thick)
            values = self._read(begin, end)
            if self.skip_below is not None:
                bright[begin - first : end - first] = (values > self.skip_below).any(axis=0)
            for channel, scaling in zip(values, self._scaling, strict=False):
                scaling.apply(channel)
            slab[:, begin - first : end - first] = values
        self._slab, self._bright = slab, bright


def _ends(values: Float) -> tuple[float, float]:
    """The 0.5 and 99.5 percentiles."""
    low, high = np.percentile(values, (0.5, 99.5))
    return float(low), float(high)
