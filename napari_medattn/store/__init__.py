"""What is kept: checkpoints with their cards and tree, examples to learn from, and the log of a person's edits."""

from napari_medattn.store.card import Card
from napari_medattn.store.checkpoints import Checkpoint, list_checkpoints, load_checkpoint, save_checkpoint
from napari_medattn.store.examples import ExampleStore
from napari_medattn.store.training_record import TrainingRecord
from napari_medattn.store.versions import Versions

__all__ = [
    "Card",
    "Checkpoint",
    "ExampleStore",
    "TrainingRecord",
    "Versions",
    "list_checkpoints",
    "load_checkpoint",
    "save_checkpoint",
]
