"""The scene of a case: its scan as the network that is looked into sees it, and what that network made of it."""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING

from napari_medattn.layerdata import layer_to_volume
from napari_medattn.widgets.case import Case

if TYPE_CHECKING:
    from napari_medattn.inference import Prediction, Predictor
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


def prediction_of(case: Case, scene: Scene) -> Prediction | None:
    """The case's prediction, if the scene's network made it of the very image that the scene is of."""
    made = case.prediction
    if made is None or case.predictor is not scene.predictor:
        return None
    # Arrays are compared by where they lie: a layer that shows another image has other ones.
    same = made.volume.array.__array_interface__ == scene.volume.array.__array_interface__
    return made if same else None
