"""``medattn``: the same work as in the window, from a terminal."""

from napari_medattn.cli.main import main

__all__ = ["main"]
