"""What a network attends to: capture, records and questions about them."""

from napari_medattn.attention.capture import Capture, capture_attention
from napari_medattn.attention.records import Record

__all__ = ["Capture", "Record", "capture_attention"]
