"""Options of the commands that run a network over files, and what they ask for together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from napari_medattn.cli.options import parse_triple

if TYPE_CHECKING:
    from napari_medattn.inference.case_file import Asked

CheckpointName = Annotated[str, typer.Option("--checkpoint", "-c", help="Name or path, see `medattn checkpoints`.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda:N or mps.")]
Precision = Annotated[
    str, typer.Option(help="fp32, bf16 (faster on some processors, nearly the same), or fp16 (not on a CPU).")
]
Overlap = Annotated[float, typer.Option(min=0.0, max=0.9, help="Share that neighbouring tiles have in common.")]
Flips = Annotated[
    str, typer.Option(help="Average over mirrored copies along some of the axes, as letters, e.g. x or zyx.")
]
TidySteps = Annotated[
    list[str] | None,
    typer.Option(
        "--tidy",
        help="What to do to the mask, in this order: largest, small:MM3, holes, holes:MM3, smooth:MM; for some classes "
        "only as in largest@1,2.",
    ),
]
SkipBelow = Annotated[
    float | None, typer.Option(help="Tiles without a brighter voxel are background, and not shown to the network.")
]
Tile = Annotated[str, typer.Option(help="Size of the tiles as Z,Y,X; that of the checkpoint if not given.")]
Batch = Annotated[int | None, typer.Option(min=1, help="Tiles at a time; by the device if not given.")]
Uncertainty = Annotated[str, typer.Option(help="Save it too: entropy or margin, 0 (certain) to 1.")]
Frames = Annotated[bool, typer.Option("--frames", help="The images are time series: one mask per frame.")]


def gather(
    overlap: float,
    flips: str,
    tidy: list[str] | None,
    skip_below: float | None,
    tile: str,
    batch: int | None,
    uncertainty: str,
    frames: bool,
    box: str = "",
) -> Asked:
    """The options as one.

    Raises:
        InputError: If one makes no sense.
    """
    from napari_medattn.data.tidy import Tidy
    from napari_medattn.errors import InputError
    from napari_medattn.inference.case_file import Asked
    from napari_medattn.inference.settings import RunSettings

    if uncertainty not in ("", "entropy", "margin"):
        raise InputError(f"There is no uncertainty {uncertainty!r}.", "Use entropy or margin.")
    sides = parse_triple(tile, int) if tile else None
    return Asked(
        RunSettings(overlap, flips, skip_below, sides, batch),
        tuple(str(Tidy.parse(step)) for step in tidy or ()),
        uncertainty or None,  # type: ignore[arg-type]
        frames,
        parse_box(box) if box else None,
    )


def parse_box(text: str) -> tuple[tuple[int, int], ...]:
    """``Z0:Z1,Y0:Y1,X0:X1`` as three pairs."""
    try:
        sides = [tuple(int(end) for end in side.split(":")) for side in text.split(",")]
        if [len(side) for side in sides] != [2, 2, 2]:
            raise ValueError("not three pairs")
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not Z0:Z1,Y0:Y1,X0:X1.") from error
    return tuple((a, b) for a, b in sides)
