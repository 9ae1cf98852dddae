"""Checks that all networks share, so that a wrong input is named instead of failing deep inside."""

from __future__ import annotations

from torch import Tensor

from napari_medattn.errors import InputError

_AXES = {2: ("Y", "X"), 3: ("Z", "Y", "X")}


def check_input(x: Tensor, in_channels: int, stride: tuple[int, ...]) -> None:
    """Check (B, C, spatial) against the channels and the size multiples that a network needs.

    Raises:
        InputError: Naming the axis and the multiple that is needed.
    """
    dims = len(stride)
    if x.ndim != dims + 2:
        raise InputError(
            f"The {dims}-D network got a tensor of shape {tuple(x.shape)}.",
            f"It takes (batch, channel, {', '.join(_AXES[dims])}).",
        )
    if x.shape[1] != in_channels:
        raise InputError(
            f"The network was built for {in_channels} input channels, the image has {x.shape[1]}.",
            "Choose the channels it was trained on, or a network with as many channels.",
        )
    for axis, size, multiple in zip(_AXES[dims], x.shape[2:], stride, strict=True):
        if size % multiple or size == 0:
            raise InputError(
                f"The image is {size} voxels along {axis}, which the network cannot halve often enough.",
                f"Pad or crop that axis to a multiple of {multiple} (segment does so by itself).",
            )
