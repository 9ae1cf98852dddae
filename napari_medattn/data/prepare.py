"""Turn a volume into what a network was trained on, and bring results back onto the source grid."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_medattn.data.reading import for_people, free_memory
from napari_medattn.data.volume import Volume
from napari_medattn.errors import InputError
from napari_medattn.geometry import Reorientation, Triple

Float = NDArray[np.float32]
AS_PICTURES = "LPS"  # DICOM's own directions: the patient's right on the left, the front on top
_SAMPLE = 1 << 20  # voxels from which percentiles are estimated


@dataclass(frozen=True)
class Preparation:
    """How images were prepared when the network was trained; part of every checkpoint's card.

    Attributes:
        orientation: World directions of the prepared x, y, z axes, e.g. ``"RAS"``; None: as stored. Images that
            are flat, or do not say where right and left are, stay as stored in any case.
        spacing: Voxel size along (Z, Y, X) in mm; None, or 0 for one of them: as stored.
        intensity: ``"zscore"`` clips to the 0.5 and 99.5 percentiles, then gives mean 0 and standard
            deviation 1 per channel; ``"percentile"`` maps these percentiles to 0..1 and clips, per channel;
            ``"window"`` does so with `window`; ``"none"``.
        window: Lower and upper limit for ``"window"``.
        neighbours: Slices on either side of each that a 2-D network sees as further channels ("2.5-D"); the
            outermost slice goes on beyond the volume's end.
    """

    orientation: str | None = "RAS"
    spacing: Triple | None = None
    intensity: Literal["zscore", "percentile", "window", "none"] = "zscore"
    window: tuple[float, float] | None = None
    neighbours: int = 0

    def __post_init__(self) -> None:
        if self.neighbours < 0:
            raise InputError(f"There are no {self.neighbours} neighbouring slices.", "Use 0 or more.")
        if self.spacing is not None and not all(0 <= side < np.inf for side in self.spacing):
            raise InputError(
                f"No voxel is {self.spacing} mm large.", "Use positive numbers; 0 leaves an axis as stored."
            )

    @property
    def slices(self) -> int:
        """Slices that the network sees at once."""
        return 2 * self.neighbours + 1

    def for_flat(self, seen: Collection[str]) -> Preparation:
        """The same for a network that was trained on flat images: slices of scans are to look like these.

        They stay as far apart as they are stored, and are turned the way that the images lay. Pictures do not say how
        they lay, but those of scans are shown, and so exported, with x to the patient's left and y to the back.

        Args:
            seen: World directions of the axes, as in `orientation`, of those images that tell them.
        """
        usual = self.orientation == Preparation.orientation
        alike = len({directions[:2] for directions in seen}) == 1
        orientation = min(seen) if alike else AS_PICTURES
        spacing = None if self.spacing is None else (0.0, *self.spacing[1:])
        return replace(self, spacing=spacing, orientation=orientation if usual else self.orientation)


@dataclass(frozen=True, eq=False)
class Prepared:
    """A volume ready for a network, with the way back.

    Attributes:
        array: (C, Z, Y, X) float32 on the prepared grid; with neighbours, C runs over slices, then channels.
        source: The volume it was made from.
        turn: The axis change between source and prepared grid.
        turned_shape: The source's shape in prepared axis order, before resampling.
        notes: What had to be decided, to be shown to the user.
    """

    array: Float
    source: Volume
    turn: Reorientation
    turned_shape: tuple[int, int, int]
    notes: tuple[str, ...] = field(default=())

    def restore(self, values: Float) -> Float:
        """(N, Z, Y, X) on the prepared grid -> (N, Z, Y, X) on the source's grid, linearly."""
        return self.turn.undo(resample(values, self.turned_shape))  # type: ignore[return-value]

    def place_labels(self, labels: NDArray[Any]) -> NDArray[Any]:
        """(Z, Y, X) labels on the source's grid -> on the prepared grid, each voxel from its nearest one."""
        z, y, x = self.array.shape[1:]
        return nearest(self.turn.apply(labels[None])[0], (z, y, x))

    def restore_labels(self, labels: NDArray[Any]) -> NDArray[Any]:
        """(Z, Y, X) labels on the prepared grid -> on the source's grid, each voxel from its nearest one.

        What `place_labels` gave comes back as it was, unless it was made coarser.
        """
        found: NDArray[Any] = self.turn.undo(nearest(labels, self.turned_shape)[None])[0]
        return found


def nearest(labels: NDArray[Any], shape: tuple[int, int, int]) -> NDArray[Any]:
    """(Z, Y, X) -> ``shape`` of the same extent, each voxel from the one in which its centre lies."""
    if labels.shape == tuple(shape):
        return labels
    picked = [
        ((np.arange(new) + 0.5) * old / new).astype(np.intp) for new, old in zip(shape, labels.shape, strict=True)
    ]
    found: NDArray[Any] = labels[np.ix_(*picked)]
    return found


def prepare(volume: Volume, how: Preparation) -> Prepared:
    """Orient, resample and normalise a volume.

    Raises:
        InputError: If no voxel is finite or all have one value, so that there is nothing to segment, or if the prepared
            volume would not fit into memory.
    """
    _check_memory(volume, how)
    values = np.asarray(volume.array)
    finite = np.isfinite(values) if values.dtype.kind == "f" else None
    notes = list(volume.notes)
    if finite is not None and not finite.all():
        if not finite.any():
            raise InputError(f"{volume.name} has no finite voxel.", "Open another image.")
        bad = int(values.size - np.count_nonzero(finite))
        values = np.where(finite, values, values[finite].min())
        notes.append(f"{bad} voxels of {volume.name} are NaN or infinite: they are taken as its lowest value.")
    if values.min() == values.max():
        raise InputError(
            f"Every voxel of {volume.name} has the value {values.flat[0]}: there is nothing to segment.",
            "Open another image.",
        )
    turn = turning(volume, how)
    turned = turn.apply(values)
    shape = (turned.shape[1], turned.shape[2], turned.shape[3])
    if how.spacing is not None and volume.grid.units != "mm":
        notes.append("The voxel size is not known, so the image was not brought to the one the network was trained on.")
    elif how.spacing is not None:
        spacing = turn.reorder(volume.grid.spacing)
        turned = resample(turned, target_shape(shape, spacing, how.spacing, volume.spatial_dims))
    array = with_neighbours(normalise(turned, how), how.neighbours)
    return Prepared(array, volume, turn, shape, tuple(notes))


def _check_memory(volume: Volume, how: Preparation) -> None:
    """Refuse what would not fit, before any of it is read: the whole is prepared at once, as 32-bit floats.

    Raises:
        InputError: If it does not.
    """
    array: Any = volume.array
    held = float(np.prod([float(size) for size in array.shape]))
    needed = 4 * held
    if not isinstance(array, np.ndarray):
        needed += held * array.dtype.itemsize
    if how.spacing is not None and volume.grid.units == "mm":
        turn = turning(volume, how)
        z, y, x = (volume.grid.shape[axis] for axis in turn.order)
        finer = target_shape((z, y, x), turn.reorder(volume.grid.spacing), how.spacing, volume.spatial_dims)
        needed += 4 * volume.channels * float(np.prod([float(size) for size in finer]))
    if needed > (free := free_memory()):
        raise InputError(
            f"{volume.name} needs {for_people(needed)} of memory to be prepared whole, {for_people(free)} are free.",
            "Crop it first; segmenting alone goes through it slab by slab.",
        )


def turning(volume: Volume, how: Preparation) -> Reorientation:
    """The axis change that a preparation asks for; what is flat or not oriented stays as it is stored."""
    stays = how.orientation is None or volume.spatial_dims == 2 or not volume.grid.oriented
    return Reorientation.between(volume.grid, volume.grid.orientation if stays else str(how.orientation))


def normalise(values: NDArray[np.generic], how: Preparation) -> Float:
    """(C, Z, Y, X) intensities -> float32, each channel by itself."""
    result = np.array(values, dtype=np.float32, order="C")
    if how.intensity == "window":
        low, high = how.window or (float(result.min()), float(result.max()))
        np.clip(result, low, high, out=result)
        result -= low
        result /= max(high - low, 1e-6)
    elif how.intensity in ("zscore", "percentile"):
        for channel in result:
            low, high = np.percentile(channel.ravel()[:: max(1, channel.size // _SAMPLE)], (0.5, 99.5))
            np.clip(channel, low, high, out=channel)
            if how.intensity == "percentile":
                np.subtract(channel, low, out=channel)
                np.divide(channel, max(float(high - low), 1e-6), out=channel)
                continue
            np.subtract(channel, channel.mean(dtype=np.float64), out=channel)
            np.divide(channel, max(_spread(channel), 1e-6), out=channel)
    return result


def _spread(values: Float) -> float:
    """Standard deviation of (Z, Y, X) values whose mean is near 0, in double precision without a copy in it."""
    square = np.einsum("zyx,zyx->z", values, values, dtype=np.float64).sum() / values.size
    return float(np.sqrt(max(square - values.mean(dtype=np.float64) ** 2, 0.0)))


def with_neighbours(values: Float, count: int) -> Float:
    """(C, Z, Y, X) -> ((2 count + 1) C, Z, Y, X): each slice together with ``count`` slices on either side.

    Of an image of one channel the result is a view that cannot be written to: slices are not held several times.
    """
    if not count:
        return values
    padded = np.pad(values, ((0, 0), (count, count), (0, 0), (0, 0)), mode="edge")
    beside = np.lib.stride_tricks.sliding_window_view(padded, 2 * count + 1, axis=1)  # (C, Z, Y, X, slices)
    return np.moveaxis(beside, -1, 0).reshape(-1, *values.shape[1:])


def resample(values: NDArray[np.generic], shape: tuple[int, int, int], order: int = 1) -> Float:
    """(N, Z, Y, X) -> (N, *shape) by interpolation between voxel centres; unchanged if it fits already.

    Args:
        values: Any real dtype; the result is float32 where anything is interpolated.
        shape: Target (Z, Y, X) covering the same extent.
        order: 1 is linear, 0 nearest.
    """
    if tuple(values.shape[1:]) == tuple(shape):
        return values  # type: ignore[return-value]
    factors = [new / old for new, old in zip(shape, values.shape[1:], strict=True)]
    result = np.empty((len(values), *shape), np.float32)
    for source, target in zip(values, result, strict=True):
        ndimage.zoom(source, factors, output=target, order=order, mode="nearest", grid_mode=True)
    return result


def target_shape(
    shape: tuple[int, int, int], spacing: Triple, wanted: Triple, spatial_dims: int
) -> tuple[int, int, int]:
    """The shape at the wanted spacing; an axis within 2 % of it, or where it is 0, is left, as is a 2-D image's Z."""
    target = [
        size if not want or abs(have / want - 1) < 0.02 else max(1, round(size * have / want))
        for size, have, want in zip(shape, spacing, wanted, strict=True)
    ]
    return (shape[0] if spatial_dims == 2 else target[0], target[1], target[2])
