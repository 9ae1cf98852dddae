"""Low-rank adapters beside the projections of attention.

Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", arXiv 2106.09685, section 4.1: a weight W becomes
``W + (alpha / r) B A`` with A random and B zero, so that training starts from the network as it was; W stays. torch's
parametrisations carry the sum, so every use of the weight in a network sees it, and merging leaves a plain weight.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from napari_medattn.models import attention_sites

RANK = 4
SCALE = 2.0  # alpha / r


class LowRank(nn.Module):
    """Adds a matrix of low rank to a weight whose first axis is the outputs.

    Args:
        weight: The weight that it stands beside, (outputs, ...).
        rank: r, at least 1.
    """

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        inputs = weight[0].numel()
        self.down = nn.Parameter(torch.randn(rank, inputs, device=weight.device) * inputs**-0.5)
        self.up = nn.Parameter(torch.zeros(len(weight), rank, device=weight.device))

    def forward(self, weight: Tensor) -> Tensor:
        """The weight with the adapter's part; the shape is kept."""
        return weight + SCALE * (self.up @ self.down).view(weight.shape)


def projections(model: nn.Module, rank: int = RANK) -> list[nn.Module]:
    """The linear layers and convolutions inside a network's attention that are wide enough for an adapter."""
    found = {}
    for site in attention_sites(model):
        for part in model.get_submodule(site.key).modules():
            weight = getattr(part, "weight", None)
            projects = isinstance(part, nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d)
            if projects and isinstance(weight, Tensor) and min(len(weight), weight[0].numel()) > rank:
                found[id(part)] = part
    return list(found.values())


def attach_adapters(model: nn.Module, rank: int = RANK) -> list[nn.Parameter]:
    """Put adapters beside a network's attention projections, in place.

    Returns:
        The adapters' parameters.
    """
    parameters: list[nn.Parameter] = []
    for part in projections(model, rank):
        adapter = LowRank(part.weight, rank)  # type: ignore[arg-type]
        parametrize.register_parametrization(part, "weight", adapter)
        parameters += adapter.parameters()
    return parameters


def has_adapters(model: nn.Module) -> bool:
    """Whether adapters are attached."""
    return any(isinstance(part, LowRank) for part in model.modules())


def merge_adapters(model: nn.Module) -> nn.Module:
    """Put what the adapters learned into the weights and take the adapters away, in place.

    torch's own removal would take them from copies of the network too, which share the class that it made.
    """
    for part in list(model.modules()):
        if parametrize.is_parametrized(part, "weight"):
            weight = part.weight
            assert isinstance(weight, Tensor)
            part.__class__ = parametrize.type_before_parametrizations(part)
            del part.parametrizations
            part.register_parameter("weight", nn.Parameter(weight.detach().clone()))
    return model


def plain(model: nn.Module) -> nn.Module:
    """The network without adapters: itself, or a copy with them merged."""
    return merge_adapters(copy.deepcopy(model)) if has_adapters(model) else model
