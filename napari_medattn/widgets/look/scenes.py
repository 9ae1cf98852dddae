"""The scene of a case: its scan as the network that is looked into sees it."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

from napari_medattn.layerdata import layer_to_volume
from napari_medattn.widgets.case import Case

if TYPE_CHECKING:
    from napari_medattn.inference import Predictor
    from napari_medattn.look import Scene

_building = Lock()


def scene_of(case: Case, predictor: Predictor) -> Scene:
    """The scene of a case before a network, built where there is none yet; for a job, because it reads the image.

    Raises:
        MedAttnError: If the network cannot take the image.
    """
    from napari_medattn.look import Scene

    with _building:
        if case.scene is None or case.scene.predictor is not predictor:
            case.scene = Scene(layer_to_volume(case.image), predictor)
        return case.scene
