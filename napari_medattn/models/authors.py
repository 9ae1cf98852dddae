"""Loading state dicts that carry the authors' key names."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from napari_medattn.errors import ModelError
from napari_medattn.models.spec import ModelSpec


@torch.no_grad()
def load_authors_state(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Copy the authors' weights into one of our networks.

    Args:
        model: A network from `create_model`, built with the options that the weights were trained with.
        state: Tensors under the authors' names; a ``module.`` prefix is taken off. ``num_batches_tracked``
            counters may be missing.

    Raises:
        ModelError: If names or shapes do not fit; the message names up to three of them.
    """
    spec = getattr(model, "spec", None)
    if not isinstance(spec, ModelSpec):
        raise ModelError(f"{type(model).__name__} is not a network of the registry.", "Build it with create_model.")
    if spec.from_authors is None:
        raise ModelError(
            f"The authors of {spec.title} published no code, so there are no weights of theirs.",
            "Load a checkpoint that was trained with this network.",
        )
    plain = {key.removeprefix("module."): tensor for key, tensor in state.items()}
    ours = spec.from_authors(model, plain)
    wanted = model.state_dict()
    missing = [k for k in wanted if k not in ours and not k.endswith("num_batches_tracked")]
    surplus = [k for k in ours if k not in wanted]
    shapes = [
        f"{k} {tuple(ours[k].shape)} for {tuple(wanted[k].shape)}"
        for k in wanted
        if k in ours and ours[k].shape != wanted[k].shape
    ]
    problems = [
        f"{label} {', '.join(keys[:3])}{' ...' if len(keys) > 3 else ''}"
        for label, keys in (("missing:", missing), ("unknown:", surplus), ("shape:", shapes))
        if keys
    ]
    if problems:
        raise ModelError(
            f"These weights are not of this {spec.title} ({'; '.join(problems)}).",
            "Build the network with the options and the number of channels and classes of the weights.",
        )
    for key, tensor in ours.items():
        wanted[key].copy_(tensor)
