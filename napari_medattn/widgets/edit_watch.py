"""Feeds an `EditLog` from a napari Labels layer: whatever changes the mask, by hand or by tool, is seen.

Two payloads of ``events.paint`` are understood (boxed atoms of the brush, the filler and the polygon; index
triples of ``data_setitem``). Undo and redo announce themselves only as ``set_data``; there the log is held
against the mask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from napari_medattn.layerdata import KEY
from napari_medattn.store.edits import Edit, EditLog

_LOG = "edits"


class EditWatch:
    """Watches one layer until it is stopped.

    Args:
        layer: A napari Labels layer over a NumPy array.
        on_change: Called after every change of the log.
    """

    def __init__(self, layer: Any, on_change: Callable[[], None]) -> None:
        self.layer = layer
        # The log lives with the layer, so that closing the dock forgets nothing.
        self.log: EditLog = layer.metadata.setdefault(KEY, {}).setdefault(_LOG, EditLog(layer.data.shape))
        self._on_change = on_change
        self._tool: str | None = None
        layer.events.paint.connect(self._painted)
        layer.events.set_data.connect(self._redrawn)
        layer.events.data.connect(self._replaced)

    def stop(self) -> None:
        """Stop watching."""
        self.layer.events.paint.disconnect(self._painted)
        self.layer.events.set_data.disconnect(self._redrawn)
        self.layer.events.data.disconnect(self._replaced)

    @contextmanager
    def machine(self, tool: str) -> Iterator[None]:
        """Changes inside this block are a tool's, no person vouches for them."""
        self._tool = tool
        try:
            yield
        finally:
            self._tool = None

    def _painted(self, event: Any) -> None:
        tool = self._tool or str(self.layer.mode)
        edit = Edit.from_atoms(event.value, self.log.shape, tool=tool, human=self._tool is None)
        if edit is not None:
            self.log.append(edit)
            self._on_change()

    def _redrawn(self, event: Any = None) -> None:
        # A new array of another shape is announced here before it is announced as new data.
        if self.layer.data.shape == self.log.shape and self.log.follow(np.asarray(self.layer.data)):
            self._on_change()

    def _replaced(self, event: Any = None) -> None:
        """Somebody assigned a new array: what no longer stands in it is no longer an edit."""
        if self.layer.data.shape == self.log.shape:
            self.log.reconcile(np.asarray(self.layer.data))
        else:
            self.log = EditLog(self.layer.data.shape)
            self.layer.metadata[KEY][_LOG] = self.log
        self._on_change()
