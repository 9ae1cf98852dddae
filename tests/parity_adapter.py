"""What a parity checker asks of the networks: build, load, named and run for one golden's metadata.

A golden's ``meta`` names the authors' model and its options. Each family has a file of its own with the same
four functions and ``knows(meta)``.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from torch import Tensor, nn

from tests.parity_families import daeformer, medt, msdual, unets

FAMILIES: tuple[ModuleType, ...] = (unets, msdual, daeformer, medt)


def build(meta: dict[str, Any]) -> nn.Module | None:
    """The network of a golden, or None where it is not offered here."""
    for family in FAMILIES:
        if family.knows(meta):
            model = family.build(meta)
            model.family = family
            return model
    return None


def load(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Load weights under the authors' names."""
    model.family.load(model, state)


def named(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers under the authors' names; those that the network never uses are left out."""
    return model.family.named(model)


def run(model: nn.Module, inputs: dict[str, Tensor], meta: dict[str, Any]) -> tuple[Any, dict[str, Tensor]]:
    """One forward pass: outputs and full attention maps under the golden's names."""
    return model.family.run(model, inputs, meta)
