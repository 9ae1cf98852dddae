"""`Clicks`: voxels that somebody clicks on in the viewer."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

from napari_medattn.layerdata import layer_place
from napari_medattn.widgets.look.view import Voxel, voxel_at
from napari_medattn.widgets.session import Session

_STILL = 4  # pixels that a click may move


class Clicks:
    """Hands on the voxel (Z, Y, X) of the current scan under each click, while it is on.

    Args:
        session: The dock's session.
        take: Called with the voxel.
    """

    def __init__(self, session: Session, take: Callable[[Voxel], None]) -> None:
        self.session, self.take = session, take

    def turn(self, on: bool) -> None:
        """Start or stop listening to the viewer."""
        callbacks = self.session.viewer.mouse_drag_callbacks
        if on and self._pressed not in callbacks:
            callbacks.append(self._pressed)
        elif not on and self._pressed in callbacks:
            callbacks.remove(self._pressed)

    def _pressed(self, _viewer: Any, event: Any) -> Generator[None, None, None]:
        began = event.pos
        yield
        while event.type == "mouse_move":
            yield
        case = self.session.case
        if case is None or abs(event.pos[0] - began[0]) + abs(event.pos[1] - began[1]) >= _STILL:
            return
        voxel = voxel_at(case.image, tuple(event.position))
        sizes = layer_place(case.image).grid.shape
        if all(-0.5 <= at < size - 0.5 for at, size in zip(voxel, sizes, strict=True)):
            self.take(voxel)
