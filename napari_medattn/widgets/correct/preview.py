"""`Preview`: a translucent layer that shows what a proposal would change, to be applied or discarded by key."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from napari.layers import Labels
from napari.utils.colormaps import DirectLabelColormap
from qtpy.QtCore import QTimer

from napari_medattn.correct.proposal import Box
from napari_medattn.layerdata import KEY, lying_on
from napari_medattn.store.edit import Edit
from napari_medattn.widgets.case import Case
from napari_medattn.widgets.correct.classes import Classes
from napari_medattn.widgets.look.layers import remove_present

_REMOVED = "#ffffff"


class Preview:
    """One preview on a case's mask.

    Args:
        case: The case.
        edit: What would change.
        apply: Called on Enter.
        discard: Called on Escape, and when somebody deletes the layer.
    """

    def __init__(self, case: Case, edit: Edit, apply: Callable[[], None], discard: Callable[[], None]) -> None:
        assert case.mask is not None
        self.case, self.mask = case, case.mask
        self._actions = {"Enter": apply, "Escape": discard}
        self._gone = False
        data, kwargs = _drawn(case, self.mask, edit)
        self.layer: Labels = case.viewer.add_labels(data, **kwargs)
        self.layer.editable = False
        # Another layer, such as the one that a selection was drawn in, has keys of its own.
        case.viewer.layers.selection.active = self.mask
        case.viewer.layers.events.removed.connect(self._removed)
        for holder in self._holders:
            for key, action in self._actions.items():
                holder.bind_key(key, _ignoring(action), overwrite=True)

    def close(self, *, later: bool = False) -> None:
        """Take the layer and the keys away again.

        Args:
            later: Take the layer away once napari is done with what it is at, as it must be while layers are removed.
        """
        if self._gone:
            return
        self._gone = True
        layers = self.case.viewer.layers
        layers.events.removed.disconnect(self._removed)
        for holder in self._holders:
            for key in self._actions:
                holder.bind_key(key, None)
        if later:
            QTimer.singleShot(0, partial(remove_present, layers, [self.layer]))
        else:
            remove_present(layers, [self.layer])

    def _removed(self, event: Any) -> None:
        if event.value == self.layer:
            self._actions["Escape"]()

    @property
    def _holders(self) -> tuple[Any, ...]:
        """Who hears of keys: the layer that is chosen comes before the viewer."""
        return self.case.viewer, self.mask, self.layer


def _drawn(case: Case, mask: Labels, edit: Edit) -> tuple[np.ndarray, dict[str, Any]]:
    """New labels where something changes; what would become background is drawn too, in white."""
    box, changed = edit.box, edit.changed
    highest = int(edit.after.max(initial=0))
    data = np.zeros(changed.shape, np.int64 if highest >= np.iinfo(np.int32).max else np.int32)
    data[changed] = np.where(edit.after > 0, edit.after, highest + 1)
    classes = Classes(mask)
    colours: dict[int | None, str] = {0: "transparent", None: "#999999"}
    colours |= {int(n): classes.colour(int(n)) for n in np.unique(edit.after) if n > 0}
    colours[highest + 1] = _REMOVED
    return data, {
        **lying_on(case.image, mask.ndim),
        "translate": offset(mask, box),
        "name": f"{case.image.name} preview of {edit.tool}",
        "opacity": 0.8,
        "colormap": DirectLabelColormap(color_dict=colours),
        "metadata": {KEY: {"kind": "preview", "class_names": (), "record": {"tool": edit.tool}}},
    }


def offset(mask: Labels, box: Box) -> np.ndarray:
    """Where a layer must lie that shows a box of the mask alone."""
    start = np.array([side.start for side in box], float)
    moved = np.asarray(mask.data_to_world(start)) - np.asarray(mask.data_to_world(np.zeros(mask.ndim)))
    linear = np.asarray(mask.affine.affine_matrix)[:-1, :-1]
    return np.asarray(mask.translate) + np.linalg.solve(linear, moved)


def _ignoring(action: Callable[[], None]) -> Callable[[Any], None]:
    def pressed(_holder: Any) -> None:
        action()

    return pressed
