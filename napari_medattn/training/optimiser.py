"""The optimiser and the learning rate that a recipe asks for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from napari_medattn.models import Recipe


def make_optimiser(recipe: Recipe, model: nn.Module) -> torch.optim.Optimizer:
    """An optimiser over all parameters; those that are still frozen have no gradient and stay as they are."""
    parameters = list(model.parameters())
    rate, decay = recipe.learning_rate, recipe.weight_decay
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(parameters, rate, recipe.momentum, weight_decay=decay, nesterov=recipe.nesterov)
    if recipe.optimiser == "adam":
        return torch.optim.Adam(parameters, rate, recipe.betas, weight_decay=decay)
    fused = all(parameter.device.type in ("cpu", "cuda") for parameter in parameters) or None
    return torch.optim.AdamW(parameters, rate, recipe.betas, weight_decay=decay, fused=fused)


class Schedule:
    """The learning rate over a run.

    Args:
        recipe: Says how the rate rises, falls and is halved.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self._halvings = 0
        self._since = 0.0

    def rate(self, progress: float, epoch: int, step: int) -> float:
        """The learning rate at a share of the run, 0..1, in the given epoch and after so many steps."""
        recipe = self.recipe
        rising = min(1.0, (progress + 1e-3) / recipe.warm_up) if recipe.warm_up else 1.0
        rising = min(rising, (step + 1) / recipe.warm_up_steps) if recipe.warm_up_steps else rising
        falling = float(max(1.0 - progress, 1e-4) ** recipe.decay_power)
        halvings = self._halvings + (epoch // recipe.halve_every if recipe.halve_every else 0)
        return float(recipe.learning_rate * rising * falling * 0.5**halvings)

    def validations(self, wanted: int, epochs: int | None) -> int:
        """How often a run must be scored, so that a rate that waits for better scores hears of them in time."""
        if self.recipe.halve_after is None or epochs is None:
            return wanted
        return max(wanted, 5 * epochs // self.recipe.halve_after)

    def scored(self, epoch: float, is_best: bool) -> None:
        """Take note of a held-out score; the rate is halved when there was no better one for long enough."""
        stale = self.recipe.halve_after is not None and epoch - self._since >= self.recipe.halve_after
        if is_best or stale:
            self._since = epoch
        if stale and not is_best:
            self._halvings += 1

    def facts(self) -> dict[str, Any]:
        """As plain data."""
        return {"halvings": self._halvings, "since": self._since}

    def restore(self, facts: Mapping[str, Any]) -> None:
        """Go on from there."""
        self._halvings, self._since = facts["halvings"], facts["since"]
