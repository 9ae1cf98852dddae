"""Labels of one grid on another: where they lie on each other, and resampled where that is asked for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from napari_medattn.data.dicom.source import DicomSource
from napari_medattn.data.volume import Volume
from napari_medattn.errors import GeometryError
from napari_medattn.geometry import Grid

_NEAR = 0.1  # voxels by which grids may differ and still count as the same
_MATRIX = 1e-3


def on_grid_of(labels: NDArray[np.int32], volume: Volume, like: Volume, *, resample: bool) -> NDArray[np.int32]:
    """Labels (Z, Y, X) on the grid of an image.

    Args:
        labels: The labels of ``volume``.
        volume: Where they lie.
        like: The image.
        resample: Whether each voxel may take the label of the nearest one where the grids differ.

    Raises:
        GeometryError: If they lie elsewhere and may not be resampled.
    """
    own, other = volume.grid, like.grid
    plain = "pixel" in (own.units, other.units) or like.spatial_dims == 2 or volume.spatial_dims == 2
    if own.shape == other.shape and (plain or own.matches(other, _NEAR * min(other.spacing))):
        return labels
    source = like.header if isinstance(like.header, DicomSource) else None
    if volume.modality == "SEG" and source is not None and source.uneven:
        return _by_slices(labels, volume, like, source)
    if volume.modality == "SEG" and (shift := whole_shift(own, other)) is not None:
        return _shifted(labels, shift, volume, like)
    if resample and not plain:
        return nearest(labels, own, other)
    if own.shape != other.shape:
        raise GeometryError(
            f"The labels {volume.name} have shape {own.shape}, the image {like.name} {other.shape}.",
            "Choose the label file of this image, or read it with resample=True.",
        )
    raise GeometryError(
        f"The labels {volume.name} have the shape of the image {like.name}, but another affine: they lie up to "
        f"{_distance(own, other):.3g} mm beside it.",
        "Choose the label file of this image, or read it with resample=True.",
    )


def nearest(labels: NDArray[np.int32], own: Grid, other: Grid) -> NDArray[np.int32]:
    """Each voxel of the other grid gets the label of the nearest voxel, 0 beyond the labels' own grid."""
    move = _between(own, other)
    result: NDArray[np.int32] = ndimage.affine_transform(
        labels, move[:3, :3], move[:3, 3], other.shape, order=0, mode="grid-constant", cval=0
    )
    return result


def whole_shift(own: Grid, other: Grid) -> tuple[int, int, int] | None:
    """The voxel of ``other`` on which the first one of ``own`` lies, if both have the same voxels."""
    move = np.linalg.inv(_between(own, other))
    if np.abs(move[:3, :3] - np.eye(3)).max() * max(own.shape) > _NEAR:
        return None
    shift = np.rint(move[:3, 3])
    if np.abs(move[:3, 3] - shift).max() > _NEAR:
        return None
    z, y, x = (int(step) for step in shift)
    return z, y, x


def _between(own: Grid, other: Grid) -> NDArray[np.float64]:
    """(4, 4): voxels (Z, Y, X, 1) of ``other`` -> voxels of ``own``."""
    swap = np.eye(4)[[2, 1, 0, 3]]
    move: NDArray[np.float64] = swap @ np.linalg.inv(own.affine) @ other.affine @ swap
    return move


def _shifted(labels: NDArray[np.int32], shift: tuple[int, int, int], volume: Volume, like: Volume) -> NDArray[np.int32]:
    result = np.zeros(like.grid.shape, np.int32)
    ends = [start + size for start, size in zip(shift, labels.shape, strict=True)]
    take = tuple(
        slice(max(0, -start), max(0, min(size, whole - start)))
        for start, size, whole in zip(shift, labels.shape, like.grid.shape, strict=True)
    )
    put = tuple(
        slice(max(0, start), max(0, min(end, whole)))
        for start, end, whole in zip(shift, ends, like.grid.shape, strict=True)
    )
    result[put] = labels[take]
    if np.count_nonzero(result) != np.count_nonzero(labels):
        raise GeometryError(
            f"The segments of {volume.name} reach beyond the image {like.name}.",
            "Choose the image that they were made on.",
        )
    return result


def _by_slices(labels: NDArray[np.int32], volume: Volume, like: Volume, source: DicomSource) -> NDArray[np.int32]:
    """Slices that lie unevenly, by the positions that their files give."""
    result = np.zeros(like.grid.shape, np.int32)
    there = [(n, corner) for n, corner in enumerate(source.corners) if corner is not None]
    near = _NEAR * min(like.grid.spacing)
    for plane, corner in zip(labels, volume.header.corners, strict=True):
        if corner is None:
            continue
        place, distance = min(
            ((n, float(np.linalg.norm(np.subtract(at, corner)))) for n, at in there), key=lambda one: one[1]
        )
        if distance > near or plane.shape != result.shape[1:]:
            raise GeometryError(
                f"The segments of {volume.name} lie on other slices than the image {like.name}.",
                "Choose the image that they were made on.",
            )
        result[place] = plane
    return result


def _distance(own: Grid, other: Grid) -> float:
    corners = np.array([[i, j, k, 1.0] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
    corners[:, :3] *= np.array(own.shape[::-1]) - 1
    return float(np.linalg.norm(corners @ (own.affine - other.affine).T, axis=1).max())
