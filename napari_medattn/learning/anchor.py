"""A pull towards the weights that a fine-tuning started from.

Li, Grandvalet and Davoine, "Explicit Inductive Bias for Transfer Learning with Convolutional Networks", arXiv
1802.01483, equation 3 (L2-SP): ``strength / 2 * ||w - w0||^2``. All weights have a start here, as no layer is new.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


def anchor(model: nn.Module, strength: float, learning: Sequence[nn.Parameter] | None) -> Callable[[], Tensor]:
    """The penalty as a function of a network's present weights.

    Args:
        model: The network; where it is now is where it is pulled to. A weight with an adapter counts with it.
        strength: alpha of the paper.
        learning: The parameters that may change; all if None.
    """
    chosen = {id(p) for p in (model.parameters() if learning is None else learning)}
    places: list[tuple[nn.Module, str]] = []
    for part in model.modules():
        places += [(part, name) for name, p in part.named_parameters(recurse=False) if id(p) in chosen]
        if parametrize.is_parametrized(part, "weight"):
            places.append((part, "weight"))
    # An adapter's own matrices have no start to be pulled to: what they add to the weight is what counts.
    lists = [part for part in model.modules() if isinstance(part, parametrize.ParametrizationList)]
    inner = {id(part) for each in lists for part in each.modules()}
    places = [(part, name) for part, name in places if id(part) not in inner]
    starts = [getattr(part, name).detach().clone() for part, name in places]

    def penalty() -> Tensor:
        parts = []
        for number, (part, name) in enumerate(places):
            weight = getattr(part, name)
            if starts[number].device != weight.device:
                starts[number] = starts[number].to(weight.device)
            parts.append((weight - starts[number]).square().sum())
        return strength / 2 * torch.stack(parts).sum()

    return penalty
