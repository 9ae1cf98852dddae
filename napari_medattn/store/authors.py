"""Authors' weights from a file, never running code that a file carries."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from napari_medattn.errors import CheckpointError
from napari_medattn.models import load_authors_state


def load_authors_weights(model: nn.Module, state_dict_or_path: Mapping[str, Tensor] | str | Path) -> None:
    """Load weights with the authors' key names into one of our networks.

    Args:
        model: A network from `create_model`.
        state_dict_or_path: A state dict, or a ``.safetensors`` or ``.pth`` file that holds one, on its own
            or under ``state_dict`` or ``model``.

    Raises:
        CheckpointError: If the file cannot be read, or would run code.
        ModelError: If the weights are of another network.
    """
    if isinstance(state_dict_or_path, str | Path):
        state_dict_or_path = read_state(Path(state_dict_or_path))
    load_authors_state(model, state_dict_or_path)


def read_state(path: Path) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors`` or pickled state dict file.

    Raises:
        CheckpointError: If there is no such file, it holds no tensors, or it is a pickle that wants to run code.
    """
    if not path.is_file():
        raise CheckpointError(f"There is no file {path}.", "Check the path.")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path.name} is not a plain file of weights; reading it could run code that it carries.",
            "Ask for a plain state dict, or convert it to safetensors where you trust it.",
        ) from error
    except (SafetensorError, OSError, RuntimeError, EOFError, ValueError) as error:
        raise CheckpointError(f"{path.name} cannot be read ({error}).", "Download it again.") from error
    for key in ("state_dict", "model"):
        if isinstance(found, Mapping) and isinstance(found.get(key), Mapping):
            found = found[key]
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        raise CheckpointError(f"{path.name} holds no state dict.", "Choose the file with the network's weights.")
    return dict(found)
