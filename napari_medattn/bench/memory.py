"""How much memory one call needs on top of what is there, measured in a process of its own."""

from __future__ import annotations

import ctypes
import gc
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

_STATUS = Path("/proc/self/status")


def extra_megabytes(work: Callable[[], object]) -> float | None:
    """Rise of the peak resident size during ``work()`` over the resident size before it, in MB.

    Returns:
        None where the system does not tell.
    """
    gc.collect()
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    except (OSError, AttributeError):
        return None
    before = _status("VmRSS")
    work()
    return (_status("VmHWM") - before) / 1024


def in_fresh_process(module: str, *arguments: str) -> float | None:
    """What ``python -m module ARGUMENTS`` prints as its last line, as a number; None for an empty line."""
    command = [sys.executable, "-m", module, *arguments]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    return float(printed[-1]) if printed and printed[-1] else None


def _status(field: str) -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1])
