"""What a network attends to: capture, records and questions about them, and what it does without."""

from napari_medattn.attention.capture import Capture, capture_attention
from napari_medattn.attention.records import Record
from napari_medattn.attention.switching import off_means, switched_off

__all__ = ["Capture", "Record", "capture_attention", "off_means", "switched_off"]
