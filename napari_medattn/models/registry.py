"""The registry: networks by name, built with checked arguments."""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Callable
from typing import Any, TypeVar

from torch import nn

from napari_medattn.errors import ModelError
from napari_medattn.models.site import AttentionSite
from napari_medattn.models.spec import ModelSpec

# Importing one of these modules registers the networks that it defines.
_NETWORK_MODULES = (
    "axial.gated_axial_unet",
    "axial.medt",
    "dae.dae_former",
    "emf.emf_former",
    "guided.self_guided",
    "unet.attention_unet",
    "unet.grid_gating_unet",
)

_SPECS: dict[str, ModelSpec] = {}
Network = TypeVar("Network", bound=type[nn.Module])


def register(name: str, **facts: Any) -> Callable[[Network], Network]:
    """Class decorator: put a network into the registry under ``name``; see `ModelSpec` for the facts."""

    def add(network: Network) -> Network:
        if name in _SPECS:
            raise ValueError(f"two networks are called {name!r}")
        _SPECS[name] = ModelSpec(name=name, build=network, **facts)
        return network

    return add


def list_models() -> list[str]:
    """Names of all networks, sorted."""
    for module in _NETWORK_MODULES:
        importlib.import_module(f"napari_medattn.models.{module}")
    return sorted(_SPECS)


def get_spec(name: str) -> ModelSpec:
    """What is known of the network called ``name``.

    Raises:
        ModelError: If there is no such network; the message suggests the nearest names.
    """
    known = list_models()
    if name not in _SPECS:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.4) or known
        raise ModelError(f"There is no network called {name!r}.", f"Did you mean {' or '.join(near)}?")
    return _SPECS[name]


def create_model(
    name: str,
    *,
    in_channels: int = 1,
    num_classes: int = 2,
    spatial_dims: int | None = None,
    variant: str = "paper",
    **options: Any,
) -> nn.Module:
    """Build a network with freshly initialised weights.

    Args:
        name: A name from `list_models`.
        in_channels: Image channels C, at least 1.
        num_classes: Classes K including background, at least 2.
        spatial_dims: 2 or 3; the network's own default if None.
        variant: ``"paper"``, or one of `ModelSpec.variants`.
        **options: The network's own options, see `ModelSpec.options`; they go before the variant's.

    Returns:
        A module whose ``forward`` takes (B, C, [Z,] Y, X) and returns logits (B, K, [Z,] Y, X).

    Raises:
        ModelError: For an unknown name, variant, option or value.
    """
    spec = get_spec(name)
    dims = spec.dims[0] if spatial_dims is None else spatial_dims
    if dims not in spec.dims:
        allowed = " or ".join(str(d) for d in spec.dims)
        raise ModelError(f"{spec.title} has no {dims}-D form.", f"Use spatial_dims {allowed}.")
    if in_channels < 1 or num_classes < 2:
        raise ModelError(
            f"{spec.title} cannot be built with {in_channels} input channels and {num_classes} classes.",
            "Use at least 1 channel and 2 classes (background counts as one).",
        )
    options = {**spec.variant(variant).options, **options}
    for option in options:
        if option not in spec.options:
            near = difflib.get_close_matches(option, spec.options, n=1)
            hint = f"Did you mean {near[0]}? " if near else ""
            raise ModelError(
                f"{spec.title} has no option {option!r}.", f"{hint}Its options are {', '.join(spec.options)}."
            )
    model = spec.build(in_channels=in_channels, num_classes=num_classes, spatial_dims=dims, **options)
    model.spec = spec  # type: ignore[assignment]
    return model


def attention_sites(model: nn.Module) -> list[AttentionSite]:
    """The sites that a network declares, in the order in which a forward pass reaches them.

    Raises:
        ModelError: If the module does not come from this registry.
    """
    sites = getattr(model, "sites", None)
    if sites is None:
        raise ModelError(f"{type(model).__name__} declares no attention sites.", "Build the network with create_model.")
    return list(sites())
