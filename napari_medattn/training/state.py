"""All that changes while a network is trained, as one file: going on from it is as if the run had never stopped."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from napari_medattn.errors import TrainingError
from napari_medattn.files import atomic_write

_FACTS = "medattn_training"
_MODEL, _OPTIMISER, _RANDOM = "model/", "optimiser/", "random/"


@dataclass(frozen=True, eq=False)
class TrainingState:
    """A training between two steps.

    Attributes:
        tensors: Weights (``model/NAME``), what the optimiser keeps (``optimiser/PARAMETER/NAME``) and the states of
            torch's random number generators (``random/DEVICE``).
        facts: Numbers, as plain data: steps, seconds, patches drawn, scores, halvings of the rate.
    """

    tensors: dict[str, Tensor]
    facts: dict[str, Any]

    @property
    def step(self) -> int:
        """Optimiser steps so far."""
        return int(self.facts["step"])

    @classmethod
    def of(
        cls, model: nn.Module, optimiser: torch.optim.Optimizer, device: torch.device, facts: dict[str, Any]
    ) -> TrainingState:
        """What there is now; nothing of it changes when training goes on."""
        tensors = {_MODEL + key: value for key, value in model.state_dict().items()}
        for index, kept in optimiser.state_dict()["state"].items():
            tensors |= {f"{_OPTIMISER}{index}/{key}": part for key, part in kept.items() if part is not None}
        tensors[_RANDOM + "cpu"] = torch.get_rng_state()
        if device.type == "cuda":
            tensors[_RANDOM + "cuda"] = torch.cuda.get_rng_state(device)
        return cls({key: value.detach().cpu().clone().contiguous() for key, value in tensors.items()}, facts)

    def put_into(self, model: nn.Module, optimiser: torch.optim.Optimizer, device: torch.device) -> None:
        """Bring a network and an optimiser of the same kind to this state, and torch's random numbers too."""
        model.load_state_dict(self._part(_MODEL))
        parameters = [parameter for group in optimiser.param_groups for parameter in group["params"]]
        kept: dict[int, dict[str, Tensor]] = {}
        for name, value in self._part(_OPTIMISER).items():
            index, key = name.split("/")
            kept.setdefault(int(index), {})[key] = _laid_out_like(parameters[int(index)], value)
        optimiser.load_state_dict({"state": kept, "param_groups": optimiser.state_dict()["param_groups"]})
        random = self._part(_RANDOM)
        torch.set_rng_state(random["cpu"])
        if device.type == "cuda" and "cuda" in random:
            torch.cuda.set_rng_state(random["cuda"], device)

    def save(self, path: Path) -> None:
        """Write the file whole or not at all.

        Raises:
            SaveError: If it cannot be written; the file that was there before is then untouched.
        """
        with atomic_write(path) as temporary:
            save_file(self.tensors, temporary, {_FACTS: json.dumps(self.facts)})

    @classmethod
    def load(cls, path: Path) -> TrainingState:
        """Read the file.

        Raises:
            TrainingError: If it is damaged.
        """
        try:
            with safe_open(path, framework="pt") as file:
                facts = json.loads((file.metadata() or {})[_FACTS])
                return cls({key: file.get_tensor(key) for key in file.keys()}, facts)  # noqa: SIM118
        except (SafetensorError, OSError, KeyError, ValueError) as error:
            raise TrainingError(f"{path} is damaged ({error}).", "Delete it to begin anew.") from error

    def _part(self, prefix: str) -> dict[str, Tensor]:
        return {key.removeprefix(prefix): value for key, value in self.tensors.items() if key.startswith(prefix)}


class Keeper:
    """Saves the state of a run now and then, and gives back what was saved.

    Args:
        path: The file.
        seconds: How often at most, by the clock...
        steps: ... or by steps, where it is given.
    """

    def __init__(self, path: Path, seconds: float = 60.0, steps: int | None = None) -> None:
        self.path, self.seconds, self.steps = path, seconds, steps
        self._saved = time.monotonic()

    def load(self) -> TrainingState | None:
        """What was saved last, or None."""
        return TrainingState.load(self.path) if self.path.exists() else None

    def offer(self, step: int, state: Callable[[], TrainingState]) -> None:
        """Save if it is time."""
        due = step % self.steps == 0 if self.steps else time.monotonic() - self._saved >= self.seconds
        if due:
            state().save(self.path)
            self._saved = time.monotonic()


def _laid_out_like(parameter: Tensor, value: Tensor) -> Tensor:
    """In the parameter's own memory format, so that further steps come out the same to the last bit."""
    if value.shape != parameter.shape:
        return value
    return torch.empty_like(parameter, dtype=value.dtype).copy_(value)
