"""Depthwise convolution whose 3-D form also learns fast on a CPU.

oneDNN has quick kernels for the forward pass of a 3-D depthwise convolution and for all passes of a 2-D one, but its
3-D backward pass is about nine times slower than it need be. The gradients are therefore put together from quick parts:
the one of the input is a depthwise convolution with the mirrored kernel, the one of the kernel is a 2-D gradient for
each of the kernel's slices. Both are exact.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.nn.grad import conv2d_weight, conv3d_input


class DepthwiseConv2d(nn.Conv2d):
    """One odd ``kernel`` per channel, no bias; sides are divided by ``stride``."""

    def __init__(self, channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__(channels, channels, kernel, stride, kernel // 2, groups=channels, bias=False)
        nn.init.kaiming_normal_(self.weight)


class DepthwiseConv3d(nn.Conv3d):
    """One odd ``kernel`` per channel, no bias; sides are divided by ``stride``."""

    def __init__(self, channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__(channels, channels, kernel, stride, kernel // 2, groups=channels, bias=False)
        nn.init.kaiming_normal_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, Z, Y, X) -> (B, C, Z / stride, Y / stride, X / stride)."""
        learns = torch.is_grad_enabled() and (x.requires_grad or self.weight.requires_grad)
        if learns and x.device.type == "cpu" and self.bias is None and not torch.is_autocast_enabled("cpu"):
            return _Depthwise3d.apply(x, self.weight, self.stride[0])  # type: ignore[no-any-return,no-untyped-call]
        return super().forward(x)


DEPTHWISE: dict[int, Callable[..., nn.Module]] = {2: DepthwiseConv2d, 3: DepthwiseConv3d}


class _Depthwise3d(torch.autograd.Function):
    """The same forward pass as `torch.nn.functional.conv3d`, with the gradients of the module's text."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return F.conv3d(x, weight, stride=stride, padding=weight.shape[-1] // 2, groups=len(weight))

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        # The slices below are views only if channels come last.
        grad = grad.contiguous(memory_format=torch.channels_last_3d)
        for_x = _input_gradient(grad, x, weight, ctx.stride) if ctx.needs_input_grad[0] else None
        for_weight = _weight_gradient(grad, x, weight, ctx.stride) if ctx.needs_input_grad[1] else None
        return for_x, for_weight, None


def _input_gradient(grad: Tensor, x: Tensor, weight: Tensor, stride: int) -> Tensor:
    padding = weight.shape[-1] // 2
    if stride == 1:
        return F.conv3d(grad, weight.flip(2, 3, 4), padding=padding, groups=len(weight))
    found: Tensor = conv3d_input(x.shape, weight, grad, stride, padding, groups=len(weight))  # type: ignore[no-untyped-call]
    return found


def _weight_gradient(grad: Tensor, x: Tensor, weight: Tensor, stride: int) -> Tensor:
    kernel, depth = weight.shape[-1], x.shape[2]
    slices = []
    for offset in range(kernel):
        # Output slice ``o`` meets input slice ``stride * o + shift`` through this slice of the kernel.
        shift = offset - kernel // 2
        first = max(0, -(shift // stride))
        last = min(grad.shape[2] - 1, (depth - 1 - shift) // stride)
        if last < first:
            slices.append(torch.zeros_like(weight[:, :, offset]))
            continue
        seen = x[:, :, stride * first + shift : stride * last + shift + 1 : stride]
        slices.append(
            conv2d_weight(  # type: ignore[no-untyped-call]
                _as_images(seen),
                weight[:, :, offset].shape,
                _as_images(grad[:, :, first : last + 1]),
                stride,
                kernel // 2,
                groups=len(weight),
            )
        )
    return torch.stack(slices, dim=2)


def _as_images(x: Tensor) -> Tensor:
    """(B, C, Z, Y, X) -> (B * Z, C, Y, X) with channels last."""
    return x.permute(0, 2, 3, 4, 1).flatten(0, 1).permute(0, 3, 1, 2)
