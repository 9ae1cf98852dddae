"""What is kept: checkpoints with their cards on disk, and the log of a person's edits."""

from napari_medattn.store.card import Card
from napari_medattn.store.checkpoints import Checkpoint, list_checkpoints, load_checkpoint, save_checkpoint

__all__ = ["Card", "Checkpoint", "list_checkpoints", "load_checkpoint", "save_checkpoint"]
