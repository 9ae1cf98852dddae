"""Measure a network's batch-norm statistics anew on other images; its weights stay.

Li et al., "Revisiting Batch Normalization For Practical Domain Adaptation", arXiv 1603.04779.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from napari_medattn.errors import TrainingError
from napari_medattn.events import Progress, TrainingStep
from napari_medattn.models import training_outputs
from napari_medattn.training.loop import TrainingConfig, never
from napari_medattn.training.losses import network_loss
from napari_medattn.training.patches import PatchSampler

BATCHES = 60  # with torch's momentum of 0.1 nothing is left of the old statistics after them


def batch_norms(model: nn.Module) -> list[nn.Module]:
    """The batch norms that keep running statistics."""
    return [part for part in model.modules() if isinstance(part, _BatchNorm) and part.track_running_stats]


@torch.no_grad()
def statistics_steps(
    model: nn.Module,
    sampler: PatchSampler,
    config: TrainingConfig,
    device: torch.device,
    stop: Callable[[], bool] = never,
) -> Generator[TrainingStep, None, None]:
    """Let patches through a network until the time is up or its statistics are those of the patches.

    Args:
        model: The network; moved to ``device``, its buffers change in place.
        sampler: Where patches come from.
        config: Batch size and time; its loss is only told, nothing learns from it.
        device: Where to compute.
        stop: Asked after every batch whether to end here.

    Raises:
        TrainingError: If a statistic is no longer a number.
    """
    torch.manual_seed(config.seed)
    model.to(device).eval()
    norms = batch_norms(model)
    began = time.monotonic()
    count = BATCHES if config.epochs is None else config.epochs
    for step in range(1, count + 1):
        images, labels, weights, _ = (part.to(device) for part in sampler.batch(config.batch))
        for norm in norms:
            norm.train()
        loss = float(network_loss(config.recipe, training_outputs(model, images), labels, weights))
        model.eval()
        if not all(bool(buffer.isfinite().all()) for norm in norms for buffer in norm.buffers()):
            raise TrainingError("The statistics are no longer numbers.", "Look for odd intensities in the examples.")
        seconds = time.monotonic() - began
        yield TrainingStep(step, step, loss, Progress("measuring statistics", step, count, "batches", seconds))
        if stop() or (config.seconds is not None and seconds >= config.seconds):
            break
