"""Checkpoints: one safetensors file each, with the card inside its header and, for reading, beside it.

The card in the header is the one that counts; the JSON file beside it is a copy for people and other programs.
Both the weights and the card are replaced in one step, so a reader never finds half a checkpoint.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open

from napari_medattn.errors import CheckpointError, ModelError
from napari_medattn.files import atomic_write, make_folder
from napari_medattn.store.card import Card
from napari_medattn.store.card_file import CARD_KEY
from napari_medattn.store.home import home_folder
from napari_medattn.store.leftovers import is_leftover, sweep_leftovers
from napari_medattn.store.locks import one_at_a_time

if TYPE_CHECKING:
    from torch import Tensor, nn

SUFFIX = ".safetensors"
_LONGEST_NAME = 120  # bytes
SHIPPED = Path(__file__).parent.parent / "weights"


def user_folder() -> Path:
    """Where a person's own checkpoints are kept: ``$MEDATTN_HOME/checkpoints`` or the user's data folder."""
    return home_folder() / "checkpoints"


@dataclass(frozen=True)
class Checkpoint:
    """A card and where its weights lie; the weights are read when the network is built."""

    card: Card
    path: Path

    @property
    def name(self) -> str:
        """The checkpoint's name."""
        return self.card.name

    def state(self) -> dict[str, Tensor]:
        """The weights.

        Raises:
            CheckpointError: If the file is damaged or does not hold what its card says.
        """
        from safetensors.torch import load_file

        try:
            state = load_file(self.path)
        except (SafetensorError, OSError) as error:
            raise _damaged(self.path, error) from error
        if hash_weights(state) != self.card.weights_sha256:
            raise CheckpointError(
                f"The weights in {self.path.name} are not those its card speaks of.",
                "Train or download the checkpoint again.",
            )
        return state

    def build(self) -> nn.Module:
        """The network with these weights, in evaluation mode on the CPU.

        Raises:
            CheckpointError: If the file is damaged or its weights belong to another network.
        """
        from napari_medattn.models import create_model

        try:
            model = create_model(self.card.network, **self.card.arguments)
            model.load_state_dict(self.state())
        except ModelError as error:
            raise CheckpointError(f"{self.path.name}: {error.problem}", error.remedy) from error
        except RuntimeError as error:
            reason = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
            raise CheckpointError(
                f"{self.path.name} holds weights of another network than its card says ({reason}).",
                "Train or download the checkpoint again.",
            ) from error
        return model.eval()


def hash_weights(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, shapes, types and bytes of all tensors, in the order of their names."""
    digest = hashlib.sha256()
    for key in sorted(state):
        tensor = state[key].detach().cpu().contiguous()
        digest.update(f"{key} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()


def save_checkpoint(
    card: Card, model: nn.Module, folder: Path | str | None = None, *, unique: bool = False
) -> Checkpoint:
    """Write a network's weights and card as ``folder/NAME.safetensors`` and ``folder/NAME.json``.

    Args:
        card: Its card; ``weights_sha256`` is filled in.
        model: The network.
        folder: Where to; the user's own folder if None. Created if it does not exist.
        unique: Take the next free name, see `free_name`, rather than replace a checkpoint of that name; two windows
            that save at the same time then never get the same one.

    Raises:
        SaveError: If it cannot be written; an older checkpoint of that name is then still whole.
        CheckpointError: If the name is no plain file name, or the tile does not suit the network.
        ModelError: If the network was prepared for inference.
    """
    from safetensors.torch import save

    from napari_medattn.models.folding import check_trainable

    check_trainable(model)
    if card.spatial_dims == 2 and card.tile[0] != 1:
        raise CheckpointError(f"A 2-D network cannot work on tiles of {card.tile}.", "Use a tile of 1,Y,X.")
    check_name(card.name)
    folder = make_folder(Path(folder) if folder is not None else user_folder())
    sweep_leftovers(folder)
    state = {key: tensor.detach().cpu().contiguous() for key, tensor in model.state_dict().items()}
    card = replace(card, weights_sha256=hash_weights(state))
    with one_at_a_time(folder):
        if unique:
            card = replace(card, name=free_name(card.name, folder))
        path = folder / f"{card.name}{SUFFIX}"
        # Both are written in full before either takes its place; the file that counts comes last.
        with atomic_write(path) as whole, atomic_write(path.with_suffix(".json")) as readable:
            readable.write_text(card.to_json() + "\n", encoding="utf-8")
            whole.write_bytes(save(state, metadata={CARD_KEY: card.to_json()}))
    return Checkpoint(card, path)


def check_name(name: str) -> None:
    """Refuse what cannot be the name of a checkpoint, and so of a file.

    Raises:
        CheckpointError: If it is none.
    """
    plain = name == name.strip() and name.isprintable() and not set(name) & set('/\\:*?"<>|')
    if not name or not plain or name.startswith(".") or len(name.encode()) > _LONGEST_NAME:
        raise CheckpointError(f"{name!r} is no name for a checkpoint.", "Use letters, digits, - and _.")


def load_checkpoint(name_or_path: str | Path) -> Checkpoint:
    """Find a checkpoint by name (a person's own before the shipped ones) or by path.

    Raises:
        CheckpointError: If there is none, or its file is damaged.
    """
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or text.endswith(SUFFIX) or os.sep in text:
        return _open(Path(name_or_path))
    for folder in (user_folder(), SHIPPED):
        path = folder / f"{text}{SUFFIX}"
        if path.exists():
            return _open(path)
    names = ", ".join(found.name for found in list_checkpoints()) or "none"
    raise CheckpointError(f"There is no checkpoint called {text!r}.", f"There are: {names}.")


def list_checkpoints(
    problems: list[CheckpointError] | None = None, folder: Path | str | None = None
) -> list[Checkpoint]:
    """All checkpoints: the shipped ones, then a person's own by name.

    Args:
        problems: Damaged files do not spoil the list; what is wrong with them is appended here.
        folder: Where the person's own are; the user's folder if None.
    """
    found: dict[str, Checkpoint] = {}
    for place in (SHIPPED, Path(folder) if folder is not None else user_folder()):
        for path in files_in(place):
            try:
                found[path.stem] = _open(path)
            except CheckpointError as error:
                if problems is not None:
                    problems.append(error)
    return list(found.values())


def check_free(name: str, folder: Path | str | None = None) -> None:
    """Refuse to replace a checkpoint.

    Raises:
        CheckpointError: If the folder, the user's own if None, has one of that name.
    """
    path = (Path(folder) if folder is not None else user_folder()) / f"{name}{SUFFIX}"
    if path.exists():
        raise CheckpointError(f"{path} exists already.", "Choose another name, or move that checkpoint away.")


def free_name(wanted: str, folder: Path | str | None = None) -> str:
    """``wanted``, or the first of ``wanted-2``, ``wanted-3``, ... that no checkpoint file has, damaged or not.

    Args:
        wanted: A name.
        folder: Whose names, beside the shipped ones, are taken; the user's folder's if None.
    """
    own = Path(folder) if folder is not None else user_folder()
    taken = {path.stem for place in (SHIPPED, own) for path in files_in(place)}
    candidates = (wanted if number == 1 else f"{wanted}-{number}" for number in range(1, len(taken) + 2))
    return next(name for name in candidates if name not in taken)


def files_in(folder: Path) -> list[Path]:
    """The checkpoint files in a folder by name, without those that are being written."""
    return sorted(path for path in folder.glob(f"*{SUFFIX}") if not is_leftover(path))


def _open(path: Path) -> Checkpoint:
    if not path.is_file():
        raise CheckpointError(f"There is no checkpoint file {path}.", "Check the path.")
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise _damaged(path, error) from error
    if CARD_KEY not in metadata:
        raise CheckpointError(
            f"{path.name} carries no card, so it is not known which network it belongs to.",
            "Choose a checkpoint that napari-medattn saved.",
        )
    # A file that was renamed goes by its new name.
    return Checkpoint(replace(Card.from_json(metadata[CARD_KEY], path.name), name=path.stem), path)


def _damaged(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(f"The checkpoint {path.name} is damaged ({error}).", "Train or download it again.")
