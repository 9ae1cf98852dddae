"""Our losses are what the networks' authors train with: values and gradients of their own code."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from napari_medattn.models import get_spec
from napari_medattn.training.losses import (
    recipe_loss,
    weighted_cross_entropy,
    weighted_dice_loss_per_image,
    weighted_squared_dice_loss,
)


def dae_former_loss(logits: Tensor, labels: Tensor, weight: Tensor) -> Tensor:
    return recipe_loss(get_spec("dae_former").recipe, logits, labels, weight)


LOSSES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "medt_ce": weighted_cross_entropy,
    "agn_ce_3d": weighted_cross_entropy,
    "dae_dice": weighted_squared_dice_loss,
    "dae_total": dae_former_loss,
    "agn_soft_dice": weighted_dice_loss_per_image,
    "agn_custom_soft_dice_0_2": partial(weighted_dice_loss_per_image, classes=(0, 2)),
}


@pytest.mark.parametrize("name", LOSSES)
def test_value_and_gradient_agree(parity: Path, name):
    path = parity / "golden" / "losses.safetensors"
    if not path.exists():
        pytest.skip("the goldens of the losses are not here")
    tensors = load_file(path)
    expected = json.loads(path.with_name("losses.values.json").read_text())[name]
    logits, labels = tensors[f"{name}/logits"].double().requires_grad_(), tensors[f"{name}/target"]
    labels = labels.reshape(len(logits), *logits.shape[2:])

    loss = LOSSES[name](logits, labels, torch.ones(labels.shape, dtype=torch.float64))
    loss.backward()

    assert loss.item() == pytest.approx(expected["value"], rel=1e-6)
    assert logits.grad.norm().item() == pytest.approx(expected["grad_norm"], rel=1e-6)
    torch.testing.assert_close(logits.grad.float(), tensors[f"{name}/grad"], rtol=1e-5, atol=1e-9)
