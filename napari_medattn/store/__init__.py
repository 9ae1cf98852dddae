"""What lasts on disk: checkpoints with their cards."""

from napari_medattn.store.card import Card
from napari_medattn.store.checkpoints import Checkpoint, list_checkpoints, load_checkpoint, save_checkpoint

__all__ = ["Card", "Checkpoint", "list_checkpoints", "load_checkpoint", "save_checkpoint"]
