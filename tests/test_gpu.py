"""On a CUDA device all is as on the CPU, and its memory is given back."""

import numpy as np
import pytest
import torch

from napari_medattn import Example, finetune, load_checkpoint, segment
from napari_medattn.data.phantom import phantom
from napari_medattn.training.loop import TrainingConfig

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device"),
]


@pytest.fixture
def scan():
    return phantom(1, (32, 48, 48))


@pytest.mark.parametrize("checkpoint", ["phantom", "phantom-2d"])
def test_masks_and_maps_agree_with_the_cpu(scan, checkpoint):
    there = segment(scan[0], checkpoint, device="cuda", attention=None)
    here = segment(scan[0], checkpoint, device="cpu", attention=None)
    assert there.record["device"].startswith("cuda:0")
    assert np.mean(there.labels == here.labels) > 0.999
    for key, found in here.attention.items():
        np.testing.assert_allclose(there.attention[key].values, found.values, atol=2e-2)


def test_device_memory_is_given_back(scan):
    segment(scan[0], "phantom", device="cuda")
    before = torch.cuda.memory_allocated()
    segment(scan[0], "phantom", device="cuda")
    assert torch.cuda.memory_allocated() == before


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_fine_tuning_runs_there(scan, precision):
    volume, labels = scan
    config = TrainingConfig(epochs=3, precision=precision, hold=1.0, freeze_statistics=True)
    new = finetune(load_checkpoint("phantom"), [Example(volume, labels)], config=config, device="cuda")
    assert new.card.training["device"].startswith("cuda:0")
    assert new.card.metrics["agreement_after"] > 0.9
