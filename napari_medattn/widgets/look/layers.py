"""`MapLayers`: the layers that show maps, or what a voxel was answered in their place."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from napari.components import LayerList
from napari.layers import Image, Layer
from numpy.typing import NDArray

from napari_medattn.layerdata import layer_place, map_to_layer
from napari_medattn.widgets.case import Case
from napari_medattn.widgets.look.lazy import Box, LazyMap
from napari_medattn.widgets.look.view import frames_in_view
from napari_medattn.widgets.session import Session

if TYPE_CHECKING:
    from napari_medattn.look import Answer, Atlas
    from napari_medattn.models import AttentionSite

_NEARLY_ALL = 0.995  # of an answer's values lie below the upper limit of its colours
_CALM = (0.5, 1.5)  # colours stay as they are while the next answer's limit differs by no more than this


def remove_present(layers: LayerList, some: Iterable[Layer]) -> None:
    """Remove those of some layers that a viewer still has."""
    for layer in some:
        if layer in layers:
            layers.remove(layer)


class MapLayers:
    """Draws from an atlas whatever slice napari asks for; makes nothing itself.

    Args:
        session: The dock's session.
        atlas_of: The atlas of a case, if there is one that still holds.
    """

    def __init__(self, session: Session, atlas_of: Callable[[Case], Atlas | None]) -> None:
        self.session, self._atlas_of = session, atlas_of
        self.head: int | None = None
        self.answers: dict[str, Answer] = {}
        self._limits: dict[Image, tuple[float, float]] = {}  # of the maps that answers are shown in the place of

    def put(self, case: Case, site: AttentionSite, record: Mapping[str, Any]) -> None:
        """Put a site's layer on the image; values that are not known yet are clear."""
        from napari_medattn.inference.prediction import display_limits

        place = layer_place(case.image)
        z, y, x = place.grid.shape
        data = LazyMap((z, y, x), place.spatial_dims, lambda box: self._draw(case, site.key, box))
        known = self._seen(case, site.key)
        limits = display_limits(site, known if known is not None else np.zeros(1, np.float32))
        case.put_map(site.key, map_to_layer(site, data, case.image, record, limits))

    def choose_limits(self, case: Case, atlas: Atlas, frame: int, keys: Iterable[str]) -> None:
        """Choose what is drawn as most by the first frame that was made of each site; it stays so from then on."""
        from napari_medattn.inference.prediction import display_limits

        for key in keys:
            sample = atlas.sample(frame, key)
            if key in case.maps and sample is not None:
                case.maps[key].contrast_limits = display_limits(atlas.scene.site(key), sample)

    def redraw(self, keys: Iterable[str]) -> None:
        """Draw the layers of these sites of the current case again."""
        case = self.session.case
        for key in keys:
            if case is not None and key in case.maps:
                case.maps[key].refresh(thumbnail=False, highlight=False, extent=False)

    def take_answers(self, answers: Iterable[Answer]) -> None:
        """Show what a voxel was answered in the place of these sites' maps, and the maps of all others."""
        from napari_medattn.look.atlas import one_head

        case = self.session.case
        maps = case.maps if case is not None else {}
        before, self.answers = self.answers, {answer.site.key: answer for answer in answers}
        answering = [maps[key] for key in self.answers.keys() & maps.keys()]
        for layer in [layer for layer in self._limits if layer not in answering]:  # of other scans too
            layer.contrast_limits = self._limits.pop(layer)
            layer.refresh(thumbnail=False, highlight=False, extent=False)
        for key in self.answers.keys() & maps.keys():
            new = maps[key] not in self._limits
            self._limits.setdefault(maps[key], tuple(maps[key].contrast_limits))
            values = one_head(self.answers[key].values, self._head(self.answers[key].site))
            highest = max(2.0, float(np.quantile(values, _NEARLY_ALL)))
            if new or not _CALM[0] < highest / maps[key].contrast_limits[1] < _CALM[1]:
                maps[key].contrast_limits = (0.0, highest)
        self.redraw([key for key in maps if key in before or key in self.answers])

    def _draw(self, case: Case, key: str, box: Box) -> NDArray[np.float32] | None:
        atlas = self._atlas_of(case)
        if atlas is None or key not in atlas.scene.predictor.sites:
            return None
        answer = self.answers.get(key) if case == self.session.case else None
        head = self._head(atlas.scene.site(key))
        return atlas.draw_answer(answer, head, box) if answer is not None else atlas.draw(key, head, box)

    def _head(self, site: AttentionSite) -> int | None:
        return self.head if self.head is not None and self.head < site.heads else None

    def _seen(self, case: Case, key: str) -> NDArray[np.float32] | None:
        """Some values of a map that are known, to choose limits by."""
        atlas = self._atlas_of(case)
        if atlas is None:
            return None
        frames = frames_in_view(self.session.viewer, case.image, atlas.scene)
        return atlas.sample(frames[0], key) if frames else None
