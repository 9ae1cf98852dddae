"""Running a checkpoint on a volume."""

from napari_medattn.inference.prediction import AttentionMap, Prediction
from napari_medattn.inference.predictor import Predictor
from napari_medattn.inference.run_events import SlicesReady, StepDown
from napari_medattn.inference.settings import RunSettings
from napari_medattn.inference.volume_run import segment, segment_steps

__all__ = [
    "AttentionMap",
    "Prediction",
    "Predictor",
    "RunSettings",
    "SlicesReady",
    "StepDown",
    "segment",
    "segment_steps",
]
