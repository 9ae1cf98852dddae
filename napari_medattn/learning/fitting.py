"""Whether examples are of the kind that a network was made for: what differs is asked about, not guessed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from napari_medattn.data import Example
from napari_medattn.errors import InputError
from napari_medattn.store import Card

_FEWEST_IN_WINDOW = 0.05  # share of an image's voxels
_SAMPLE = 1 << 20


def check_fit(card: Card, examples: Sequence[Example]) -> None:
    """Refuse examples that look as if they were made for another network.

    Raises:
        InputError: Saying what differs, and how to learn all the same.
    """
    for example in examples:
        differs = _difference(card, example)
        if differs:
            raise InputError(
                f"{example.volume.name} looks unlike what {card.name} was trained on: {differs}.",
                "Choose a network for such images, or say that it is meant: accept_mismatch=True in Python, --anyway "
                "on the command line.",
            )


def known_modalities(card: Card) -> tuple[str, ...]:
    """What the images of a network's training were taken with, as far as its card tells."""
    told = card.training.get("modality", ())
    return (told,) if isinstance(told, str) and told else tuple(told)


def _difference(card: Card, example: Example) -> str:
    if example.class_names and tuple(example.class_names) != card.class_names:
        return f"its classes are {_listed(example.class_names)}, the network's {_listed(card.class_names)}"
    known = known_modalities(card)
    if example.modality and known and example.modality not in known:
        return f"it is {example.modality}, the training was on {_listed(known)}"
    how = card.preparation
    if how.intensity == "window" and how.window is not None:
        low, high = how.window
        some = example.volume.array.ravel()[:: max(1, example.volume.array.size // _SAMPLE)]
        share = float(np.mean((some > low) & (some < high)))
        if share < _FEWEST_IN_WINDOW:
            return f"{share:.1%} of its voxels lie between {low:g} and {high:g}, all that the network can tell apart"
    return ""


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names)
