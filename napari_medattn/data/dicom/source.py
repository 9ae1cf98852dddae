"""`DicomSource`: from which files and frames a volume was made, kept for writing a segmentation of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

Corner = tuple[float, float, float]


@dataclass(frozen=True)
class FrameRef:
    """One frame of one file.

    Attributes:
        path: The file.
        number: The frame in it, from 0.
    """

    path: Path
    number: int = 0


@dataclass(frozen=True)
class DicomSource:
    """Where the slices of a volume come from.

    Attributes:
        frames: The frame of each slice along Z; None for one that is not in the series and was filled in.
        corners: World position (RAS+, mm) of the first voxel of each slice, as its file has it.
        uneven: Whether the slices really lie at other distances than the volume's grid says.
    """

    frames: tuple[FrameRef | None, ...]
    corners: tuple[Corner | None, ...]
    uneven: bool = False


def to_ras(position: tuple[float, ...] | None) -> Corner | None:
    """A position of DICOM's world (LPS+) in ours."""
    return (-position[0], -position[1], position[2]) if position is not None else None
