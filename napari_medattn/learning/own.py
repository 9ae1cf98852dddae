"""How a network was trained first, before anybody corrected anything: as its card tells it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from napari_medattn.models import Recipe, get_spec
from napari_medattn.store import Card
from napari_medattn.training.patches import Augmentation


def own_recipe(card: Card) -> Recipe:
    """The recipe that a network was trained with first: its card's, else its variant's, else its paper's."""
    told = card.training.get("own_recipe") or _first_config(card).get("recipe")
    if isinstance(told, Mapping):
        # What it says of sparse labels is left out, as here every label is a person's.
        known = {f.name for f in fields(Recipe)} - {"crf"}
        values: dict[str, Any] = {name: v for name, v in told.items() if name in known}
        values["betas"] = tuple(values.get("betas", Recipe.betas))
        return Recipe(**values)
    spec = get_spec(card.network)
    for variant in spec.variants.values():
        if all(card.arguments.get(name) == value for name, value in variant.options.items()):
            return variant.recipe
    return spec.recipe


def own_augmentation(card: Card) -> Augmentation:
    """How the patches of that training were varied; as usual where the card does not tell."""
    told = _first_config(card).get("augmentation")
    if not isinstance(told, Mapping):
        return Augmentation()
    known = {f.name for f in fields(Augmentation)}
    values: dict[str, Any] = {name: value for name, value in told.items() if name in known}
    values["flip_axes"] = tuple(values.get("flip_axes", ()))
    values["swap"] = tuple(tuple(pair) for pair in values.get("swap", ()))
    return Augmentation(**values)


def _first_config(card: Card) -> Mapping[str, Any]:
    config = card.training.get("parent_training", card.training).get("config")
    return config if isinstance(config, Mapping) else {}
