"""``medattn demo``: the main job on the shipped sample, in a real or a virtual window."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Annotated

import typer

from napari_medattn.cli.terminal import console
from napari_medattn.errors import MedAttnError

_VIRTUAL = ["xvfb-run", "-a", "-s", "-screen 0 1400x900x24"]


def demo(
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Leave screenshot, mask and contact sheet here and close the window."),
    ] = None,
) -> None:
    """Open the sample volume, segment it and show where the network looks.

    Without a display the same happens in a virtual one, and the results are left in demo-output.
    """
    if _no_display():
        _in_virtual_display(out or Path("demo-output"))
    from napari_medattn.widgets.demo import leave_results, show

    if out is None:
        show()
        return
    for path, what in leave_results(out).items():
        console.print(f"  {path}: {what}", highlight=False, soft_wrap=True)


def _no_display() -> bool:
    return sys.platform == "linux" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _in_virtual_display(out: Path) -> None:
    """Start over under Xvfb; does not return."""
    if shutil.which(_VIRTUAL[0]) is None:
        raise MedAttnError(
            "There is no display, and xvfb-run for a virtual one is not installed.",
            "Run `sudo apt-get install xvfb xauth`, or `make demo`, which installs what is missing.",
        )
    console.print("No display: using a virtual one.")
    os.execvp(_VIRTUAL[0], [*_VIRTUAL, sys.executable, "-m", "napari_medattn", "demo", "--out", str(out)])
