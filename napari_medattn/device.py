"""Devices by name: what is there, what was asked for, and a plain sentence where the two differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_medattn.errors import DeviceError

if TYPE_CHECKING:
    import torch


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
        return f"cpu, {torch.get_num_threads()} threads"
    return str(device)
