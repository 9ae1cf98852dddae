"""``medattn doctor``: what is installed, what is missing, and the remedy."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from typing import Annotated, NamedTuple

import typer
from rich.console import Console

from napari_medattn.cli.terminal import print_json

_PACKAGES = ("napari", "torch", "monai", "numpy", "nibabel", "tifffile", "pyqtgraph", "safetensors")
_FORMATS = ("SimpleITK", "pydicom", "highdicom", "pynrrd", "imagecodecs", "pillow")  # beside nibabel and tifffile


class Finding(NamedTuple):
    """One thing that was looked at."""

    what: str
    found: str
    ok: bool
    remedy: str = ""


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON for programs.")] = False) -> None:
    """Check the installation; exit status 1 if something needs a remedy."""
    findings = [_python(), *_packages(), _qt(), _display(), *_devices(), _checkpoints(), _store()]
    if as_json:
        print_json([finding._asdict() for finding in findings])
    else:
        console = Console()
        for finding in findings:
            mark = "[green]ok[/green] " if finding.ok else "[red]![/red]  "
            remedy = f"\n     {finding.remedy}" if finding.remedy else ""
            console.print(f"{mark} {finding.what}: {finding.found}{remedy}", highlight=False)
    if not all(finding.ok for finding in findings):
        raise typer.Exit(1)


def _python() -> Finding:
    return Finding("Python", f"{platform.python_version()} on {platform.platform()}", sys.version_info >= (3, 11))


def _packages() -> list[Finding]:
    findings = []
    for name in (*_PACKAGES, *_FORMATS):
        try:
            findings.append(Finding(name, importlib.metadata.version(name), True))
        except importlib.metadata.PackageNotFoundError:
            findings.append(Finding(name, "missing", False, f"pip install {name}"))
    return findings


def _qt() -> Finding:
    for binding in ("PyQt6", "PySide6"):
        try:
            version = importlib.metadata.version(binding)
        except importlib.metadata.PackageNotFoundError:
            continue
        broken = version in ("6.11.0", "6.11.1")
        return Finding(
            "Qt", f"{binding} {version}", not broken, "pip install 'PyQt6!=6.11.0,!=6.11.1'" if broken else ""
        )
    return Finding("Qt", "no binding", False, "pip install napari-medattn[pyqt6] (or [pyside6])")


def _display() -> Finding:
    if sys.platform != "linux" or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"):
        return Finding("display", "present", True)
    return Finding("display", "none; the command line works, the window needs `xvfb-run`", True)


def _devices() -> list[Finding]:
    import torch

    from napari_medattn.device import available_devices

    names = available_devices()
    findings = [Finding("devices", f"{', '.join(names)} ({torch.get_num_threads()} CPU threads)", True)]
    if names == ["cpu"] and torch.version.cuda is None:
        findings.append(
            Finding(
                "GPU",
                "none used: this torch is a CPU build",
                True,
                "For CUDA, install the torch build for your driver.",
            )
        )
    elif names == ["cpu"]:
        findings.append(Finding("GPU", "torch has CUDA but finds no GPU", True, "Check the driver with nvidia-smi."))
    return findings


def _checkpoints() -> Finding:
    from napari_medattn.errors import CheckpointError
    from napari_medattn.store import list_checkpoints

    problems: list[CheckpointError] = []
    names = ", ".join(checkpoint.name for checkpoint in list_checkpoints(problems))
    return Finding("checkpoints", names or "none", not problems, " ".join(str(problem) for problem in problems))


def _store() -> Finding:
    from napari_medattn.store.checkpoints import user_folder

    folder = user_folder()
    nearest = next(parent for parent in (folder, *folder.parents) if parent.exists())
    writable = os.access(nearest, os.W_OK)
    return Finding(
        "your checkpoints",
        str(folder),
        writable,
        "" if writable else "Set MEDATTN_HOME to a folder you may write to.",
    )
