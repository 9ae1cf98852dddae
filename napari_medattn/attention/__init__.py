"""Looking inside: capture attention during a forward pass, and place it on the image."""

from napari_medattn.attention.capture import Capture, capture_attention
from napari_medattn.attention.records import GateRecord

__all__ = ["Capture", "GateRecord", "capture_attention"]
