"""`Card`: all that is known of a checkpoint besides its weights, as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from typing import Any

from napari_medattn.data import Preparation
from napari_medattn.errors import CheckpointError, InputError

FORMAT = 1


def now() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True)
class Card:
    """The identity papers of a checkpoint.

    Attributes:
        name: The checkpoint's name, unique in its folder.
        title: One line for people.
        network: Name in the model registry.
        arguments: Keyword arguments of `create_model`, complete enough to rebuild the network.
        class_names: Names of the classes 0, 1, ...; 0 is the background.
        preparation: How images are prepared before the network sees them.
        tile: Tile (Z, Y, X) that it was trained on and segments with.
        trained_on: What it was trained on, with the licence; empty if it never was.
        training: Seed, command, cases and settings of the training; `training_record.TrainingRecord` has the part of
            it that programs read: method, seconds, examples, what was held out, scores before and after.
        metrics: Scores with the data they were measured on.
        parent: Hash of the weights it was fine-tuned from, or None.
        parent_name: Name of that checkpoint.
        limits: What it must not be used for, or does not do well.
        note: What a person wrote of it.
        created: UTC date and time, ISO 8601.
        weights_sha256: Hash of the weights, see `checkpoints.hash_weights`.
        format: Version of this layout.
    """

    name: str
    network: str
    arguments: dict[str, Any]
    class_names: tuple[str, ...]
    preparation: Preparation
    tile: tuple[int, int, int]
    title: str = ""
    trained_on: str = ""
    training: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    parent: str | None = None
    parent_name: str = ""
    limits: str = ""
    note: str = ""
    created: str = field(default_factory=now)
    weights_sha256: str = ""
    format: int = FORMAT

    @property
    def spatial_dims(self) -> int:
        """2 or 3."""
        return int(self.arguments["spatial_dims"])

    @property
    def in_channels(self) -> int:
        """Image channels that the network takes."""
        return int(self.arguments["in_channels"])

    @property
    def trained(self) -> bool:
        """Whether the weights were ever trained."""
        return bool(self.trained_on)

    def to_json(self) -> str:
        """The card as indented JSON."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str, source: str) -> Card:
        """Read a card.

        Args:
            text: What `to_json` wrote.
            source: The file's name, for the error message.

        Raises:
            CheckpointError: If it is no card, or of a newer layout.
        """
        try:
            found = json.loads(text)
            layout = int(found["format"])
        except (ValueError, KeyError, TypeError) as error:
            raise _unreadable(source, error) from error
        if layout > FORMAT:
            raise CheckpointError(
                f"{source} was written by a newer version (layout {layout}, known here {FORMAT}).",
                "Update napari-medattn.",
            )
        try:
            known = {key: found[key] for key in (f.name for f in fields(cls)) if key in found}
            preparation = dict(known["preparation"])
            for pair in ("spacing", "window"):
                preparation[pair] = tuple(preparation[pair]) if preparation.get(pair) else None
            known["preparation"] = Preparation(**preparation)
            known["class_names"] = tuple(known["class_names"])
            z, y, x = (int(side) for side in known["tile"])
            known["tile"] = (z, y, x)
            arguments = known["arguments"]
            if arguments["spatial_dims"] not in (2, 3) or min(arguments["in_channels"], z, y, x) < 1:
                raise ValueError(f"impossible sizes in {arguments} or tile {known['tile']}")
            if arguments["spatial_dims"] == 2 and z != 1:
                raise ValueError(f"a 2-D network cannot work on tiles of {known['tile']}")
            return cls(**known)
        except (ValueError, KeyError, TypeError, InputError) as error:
            raise _unreadable(source, error) from error


def _unreadable(source: str, error: Exception) -> CheckpointError:
    return CheckpointError(f"The card in {source} cannot be read ({error}).", "Train or download the checkpoint again.")
