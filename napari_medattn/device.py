"""Devices by name, and memory: what is there, what was asked for, and a plain sentence where the two differ."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from napari_medattn.errors import DeviceError, InputError

if TYPE_CHECKING:
    import torch

_NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "could not create a memory object")


def available_devices() -> list[str]:
    """Device names that work here, best first; ``"cpu"`` is always the last."""
    import torch

    names = [f"cuda:{n}" for n in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    if torch.backends.mps.is_available():
        names.append("mps")
    return [*names, "cpu"]


def resolve_device(name: str = "auto") -> torch.device:
    """The torch device for ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    Raises:
        DeviceError: If it does not exist or is not available here.
    """
    import torch

    present = available_devices()
    if name == "auto":
        return torch.device(present[0])
    wanted = "cuda:0" if name == "cuda" else name
    if wanted not in present:
        raise DeviceError(
            f"The device {name!r} is not available here.",
            f"Choose one of {', '.join(present)}, or auto; `medattn doctor` says what is missing.",
        )
    return torch.device(wanted)


def describe_device(device: torch.device) -> str:
    """The device in words for people and records, e.g. ``"cpu, 2 threads"`` or ``"cuda:0, NVIDIA H200"``."""
    import torch

    if device.type == "cuda":
        return f"{device}, {torch.cuda.get_device_name(device)}"
    if device.type == "cpu":
        count = torch.get_num_threads()
        return f"cpu, {count} thread{'' if count == 1 else 's'}"
    return str(device)


@contextmanager
def leaving_a_core() -> Iterator[None]:
    """Compute with one CPU thread less on this thread, so that a window keeps answering; with one it stays at one."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(max(1, before - 1))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def available_memory() -> int | None:
    """Bytes of main memory that can be had without swapping, or None where the system does not tell."""
    found = [size for size in (_meminfo("MemAvailable"), _group_memory()) if size is not None]
    if found:
        return min(found)
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # Windows has no sysconf, macOS not this entry
        return None


def free_memory(device: torch.device) -> int | None:
    """Bytes that can be had on a device, or None where it does not tell."""
    import torch

    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + cached)
    return available_memory() if device.type == "cpu" else None


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory did not suffice, on whatever device."""
    import torch

    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in text for words in _NO_MEMORY)


def is_device_lost(error: BaseException) -> bool:
    """Whether an error says that the device does not work any more."""
    text = str(error)
    return isinstance(error, RuntimeError) and ("CUDA error" in text or "device-side assert" in text)


def check_memory(needed: int, what: str, remedy: str) -> None:
    """Refuse what would not fit into memory, before it is allocated.

    Args:
        needed: Bytes.
        what: What needs them, as the beginning of a sentence in the plural.
        remedy: What to do instead.

    Raises:
        InputError: Saying how much is needed and how much is there.
    """
    free = available_memory()
    if free is not None and needed > free:
        raise InputError(f"{what} would take {as_size(needed)} of memory, {as_size(free)} are free.", remedy)


def as_size(count: float) -> str:
    """A number of bytes for people."""
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.3g} {unit}"
        count /= 1000
    return f"{count:.3g} GB"


def _meminfo(field: str) -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))
    except (OSError, StopIteration, ValueError):
        return None


def _group_memory() -> int | None:
    """What is left of the memory that a container may use."""
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = ((group / f"memory.{name}").read_text() for name in ("max", "current"))
        caches = (line.split() for line in (group / "memory.stat").read_text().splitlines())
        cached = next(int(size) for name, size in caches if name == "inactive_file")
        return int(limit) - int(used) + cached
    except (OSError, StopIteration, ValueError):  # no container, or one without a limit ("max")
        return None
