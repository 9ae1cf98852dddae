"""`prepare_for_inference`: the same network with everything merged that is constant once training is over.

A module that knows a faster form of itself has a method ``folded()`` that returns it; batch norms behind
convolutions in an `nn.Sequential` are merged for all networks alike. Taps and site keys stay where they are.
"""

from __future__ import annotations

import copy
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from napari_medattn.errors import ModelError

Convolution = nn.Conv1d | nn.Conv2d | nn.Conv3d
BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d


def prepare_for_inference(model: nn.Module) -> nn.Module:
    """A faster copy that computes the same logits and attention in evaluation mode.

    Args:
        model: A network from `create_model`; it stays as it is and trainable.

    Returns:
        A copy in evaluation mode without gradients. It cannot be trained or saved.
    """
    if is_folded(model):
        return copy.deepcopy(model)
    # Merging needs double precision, which not every device has.
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    fast = _folded(copy.deepcopy(model).cpu().eval()).requires_grad_(False)
    fast.is_folded = True  # type: ignore[assignment]
    return fast.to(device)


def is_folded(model: nn.Module) -> bool:
    """Whether a network comes from `prepare_for_inference`."""
    return bool(getattr(model, "is_folded", False))


def check_trainable(model: nn.Module) -> None:
    """Refuse a network whose batch norms are merged.

    Raises:
        ModelError: If it comes from `prepare_for_inference`.
    """
    if is_folded(model):
        raise ModelError(
            "A network that was prepared for inference can be neither trained nor saved.",
            "Use the network that it was made from.",
        )


def fold_norm(convolution: Convolution, norm: BatchNorm) -> None:
    """Merge a batch norm in evaluation mode into the convolution in front of it, in place."""
    assert norm.running_mean is not None and norm.running_var is not None
    convolution.weight, convolution.bias = fuse_conv_bn_weights(
        convolution.weight, convolution.bias, norm.running_mean, norm.running_var, norm.eps, norm.weight, norm.bias
    )


def scale_and_shift(norm: BatchNorm) -> tuple[Tensor, Tensor]:
    """A batch norm in evaluation mode as ``scale * x + shift``, each (channels,)."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight.detach() / (norm.running_var + norm.eps).sqrt()
    return scale, norm.bias.detach() - norm.running_mean * scale


def _folded(module: nn.Module) -> nn.Module:
    """Children first, then the module itself."""
    for name, child in list(module.named_children()):
        module._modules[name] = _folded(child)
    if isinstance(module, nn.Sequential):
        _fold_pairs(module)
    own = getattr(module, "folded", None)
    return module if own is None else own()


def _fold_pairs(sequence: nn.Sequential) -> None:
    names = list(sequence._modules)
    for first, second in pairwise(names):
        convolution, norm = sequence._modules[first], sequence._modules[second]
        if isinstance(convolution, Convolution) and isinstance(norm, BatchNorm):
            fold_norm(convolution, norm)
            sequence._modules[second] = nn.Identity()
