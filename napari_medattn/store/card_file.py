"""The card inside a safetensors file, replaced without touching a byte of the weights.

The format (https://huggingface.co/docs/safetensors, "Format"): 8 bytes with the header's length, little-endian; the
header, JSON, where free texts stand under ``__metadata__``; the tensors' bytes.
"""

from __future__ import annotations

import json
import shutil
import struct
from pathlib import Path

from napari_medattn.errors import CheckpointError

CARD_KEY = "medattn_card"
_LENGTH = struct.Struct("<Q")
_ALIGNED = 8  # bytes: tensors begin at a multiple of this


def copy_with_card(source: Path, target: Path, card: str) -> None:
    """Write a copy of a checkpoint file with another card.

    Args:
        source: A whole checkpoint file.
        target: The copy; what is there is written over.
        card: The card as JSON.

    Raises:
        CheckpointError: If the source is cut off.
        OSError: If a file cannot be read or written.
    """
    with source.open("rb") as old, target.open("wb") as new:
        try:
            (length,) = _LENGTH.unpack(old.read(_LENGTH.size))
            header = json.loads(old.read(length))
        except (struct.error, ValueError) as error:
            raise CheckpointError(f"{source.name} is damaged ({error}).", "Train or download it again.") from error
        header["__metadata__"] = {**header.get("__metadata__", {}), CARD_KEY: card}
        text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
        text += b" " * (-len(text) % _ALIGNED)
        new.write(_LENGTH.pack(len(text)) + text)
        shutil.copyfileobj(old, new)
