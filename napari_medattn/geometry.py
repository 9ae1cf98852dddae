"""`Grid`: where voxels lie in the world, and the only place where (x, y, z) meets (z, y, x).

Arrays are (Z, Y, X). Affines are as NIfTI has them: they take voxel indices in (x, y, z) order to world
coordinates in mm on RAS+ axes (right, anterior, superior). Shapes and spacings here are in array order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from napari_medattn.errors import GeometryError

Affine = NDArray[np.float64]
Triple = tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class Grid:
    """A regular grid of voxels in the world.

    Attributes:
        shape: Voxels along (Z, Y, X).
        affine: (4, 4) float64; voxel (x, y, z, 1) -> RAS+ world coordinates.
        units: ``"mm"``, or ``"pixel"`` where the file gives no lengths.
        oriented: Whether the file says where the patient's right, front and head are, or its format has a convention
            for that; if not, the affine's directions mean nothing.
    """

    shape: tuple[int, int, int]
    affine: Affine
    units: str = "mm"
    oriented: bool = True

    def __post_init__(self) -> None:
        affine = np.array(self.affine, dtype=np.float64)
        if not _is_invertible(affine):
            raise GeometryError(
                "The affine is not a finite, invertible 4x4 matrix.",
                "Repair the header with the program that wrote the file.",
            )
        affine.flags.writeable = False
        object.__setattr__(self, "affine", affine)
        object.__setattr__(self, "shape", tuple(int(size) for size in self.shape))

    @classmethod
    def from_spacing(cls, shape: tuple[int, int, int], spacing: Triple, units: str = "mm") -> Grid:
        """A grid of which only the voxel size (Z, Y, X) is known: its first voxel at the origin, not oriented."""
        return cls(shape, np.diag([*spacing[::-1], 1.0]), units, oriented=False)

    @property
    def is_plain(self) -> bool:
        """Whether the affine says no more than a voxel size, as that of `from_spacing`."""
        return np.array_equal(self.affine, np.diag([*self.spacing[::-1], 1.0]))

    @property
    def spacing(self) -> Triple:
        """Distance between neighbouring voxels along (Z, Y, X), in `units`."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(z), float(y), float(x)

    @property
    def orientation(self) -> str:
        """The world directions nearest to the x, y and z voxel axes, e.g. ``"RAS"`` or ``"LPS"``."""
        from nibabel.orientations import aff2axcodes  # nibabel takes half a second to load

        return "".join(aff2axcodes(self.affine))

    @property
    def is_oblique(self) -> bool:
        """Whether the voxel axes do not run along the world axes."""
        return int(np.count_nonzero(np.abs(self.affine[:3, :3]) > 1e-3 * min(self.spacing))) > 3

    @property
    def display_translate(self) -> Triple:
        """World position of the first voxel along each array axis, counted in the axis' own direction.

        Together with `spacing` it shows the voxel axes undistorted, also where the affine rotates.
        """
        from nibabel.orientations import io_orientation

        nearest = io_orientation(self.affine)
        x, y, z = (float(sign * self.affine[int(world), 3]) for world, sign in nearest)
        return z, y, x

    def to_world(self, voxel: Sequence[float]) -> Triple:
        """World coordinates (x, y, z) of a voxel (Z, Y, X)."""
        x, y, z = self.affine[:3, :3] @ np.asarray(voxel, float)[::-1] + self.affine[:3, 3]
        return float(x), float(y), float(z)

    def to_voxel(self, world: Sequence[float]) -> Triple:
        """The voxel (Z, Y, X), with fractions, at world coordinates (x, y, z)."""
        x, y, z = np.linalg.solve(self.affine[:3, :3], np.asarray(world, float) - self.affine[:3, 3])
        return float(z), float(y), float(x)

    def regridded(self, shape: tuple[int, int, int], to_voxel: Affine) -> Grid:
        """Another grid in the same world.

        Args:
            shape: Its (Z, Y, X).
            to_voxel: (4, 4), takes its voxels (Z, Y, X, 1) to voxels of this grid in the same order.
        """
        swap = np.eye(4)[[2, 1, 0, 3]]
        return Grid(shape, self.affine @ swap @ to_voxel @ swap, self.units, self.oriented)

    def matches(self, other: Grid, tolerance: float = 1e-3) -> bool:
        """Whether both have the same shape and their corners differ by less than ``tolerance`` mm."""
        if self.shape != other.shape:
            return False
        corners = np.array([[i, j, k, 1.0] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
        corners[:, :3] *= np.array(self.shape[::-1]) - 1
        return bool(np.abs(corners @ (self.affine - other.affine).T).max() < tolerance)


def _is_invertible(affine: Affine) -> bool:
    """Whether it is a finite 4x4 matrix whose axes span space, however small the voxels are."""
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
        return False
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    return bool(lengths.all() and abs(np.linalg.det(affine[:3, :3] / lengths)) > 1e-6)


@dataclass(frozen=True)
class Reorientation:
    """Turns (C, Z, Y, X) arrays of a grid into another axis order and direction, and back, as views.

    Attributes:
        order: For each target axis (Z, Y, X), the source axis it comes from.
        flips: For each target axis, whether it runs against the source axis.
    """

    order: tuple[int, int, int]
    flips: tuple[bool, bool, bool]

    @classmethod
    def between(cls, source: Grid, orientation: str) -> Reorientation:
        """From a grid's own axes to ``orientation``, read in (x, y, z) order like `Grid.orientation`."""
        from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform

        transform = ornt_transform(io_orientation(source.affine), axcodes2ornt(tuple(orientation)))
        # transform[i] = (target axis of source axis i, direction), in (x, y, z) order.
        order, flips = [0, 0, 0], [False, False, False]
        for axis, (target, direction) in enumerate(transform):
            order[2 - int(target)] = 2 - axis
            flips[2 - int(target)] = direction < 0
        return cls((order[0], order[1], order[2]), (flips[0], flips[1], flips[2]))

    def apply(self, array: NDArray[np.generic]) -> NDArray[np.generic]:
        """(C, source Z, Y, X) -> (C, target Z, Y, X), a view."""
        turned = array.transpose(0, *(axis + 1 for axis in self.order))
        return turned[self._flip_index()]

    def undo(self, array: NDArray[np.generic]) -> NDArray[np.generic]:
        """(C, target Z, Y, X) -> (C, source Z, Y, X), a view."""
        back = np.argsort(self.order)
        return array[self._flip_index()].transpose(0, *(int(axis) + 1 for axis in back))

    def reorder(self, values: Triple) -> Triple:
        """Per-axis values such as a spacing, from the source's axes to the target's."""
        a, b, c = (values[axis] for axis in self.order)
        return a, b, c

    def _flip_index(self) -> tuple[slice, ...]:
        return (slice(None), *(slice(None, None, -1 if flip else 1) for flip in self.flips))
