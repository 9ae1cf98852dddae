"""Looking inside: capture attention during a forward pass, and place it on the image."""

from napari_medattn.attention.capture import Capture, capture_attention
from napari_medattn.attention.records import Record

__all__ = ["Capture", "Record", "capture_attention"]
