"""The engine is measured on what it is said to be measured on."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_medattn.bench import engine
from napari_medattn.bench.engine_work import CLASSES, bare, ct_like, network, timed, with_monai
from napari_medattn.events import run_to_end
from napari_medattn.inference import RunSettings, segment

TILE = (16, 32, 32)


def test_monai_makes_the_same_mask_with_the_same_settings():
    """Else the comparison would be of two different things.

    MONAI bounds the product of the weights from below, which levels them in the corners of tiles; there the two differ.
    """
    predictor, volume, settings = network(32, (32, 32, 32)), ct_like((32, 48, 64)), RunSettings(batch=1, overlap=0.5)
    calls = []
    predictor.model.register_forward_hook(lambda *_: calls.append(1))
    ours = segment(volume, predictor, settings=settings).labels
    count = len(calls)
    theirs = with_monai(predictor, volume, settings)
    assert len(calls) == 2 * count > 2
    assert (ours == theirs).mean() > 0.95
    middle = (slice(12, 20), slice(20, 28), slice(24, 40))
    np.testing.assert_array_equal(ours[middle], theirs[middle])


def test_the_networks_share_is_a_part_of_the_whole():
    tally = run_to_end(timed(network(32, TILE), ct_like((32, 32, 32)), RunSettings()))
    assert 0 < tally.network < tally.total


def test_the_volume_on_disk_is_the_one_in_memory(tmp_path):
    here, there = ct_like((4, 8, 8)), ct_like((4, 8, 8), tmp_path / "volume.npy")
    assert isinstance(there.array, np.memmap)
    np.testing.assert_array_equal(here.array, there.array)


def test_one_convolution_is_a_network_too():
    predictor = bare((8, 8, 8))
    assert predictor.run(torch.rand(1, 1, 8, 8, 8).numpy())[0].shape == (1, CLASSES, 8, 8, 8)


def test_rows_tell_figures_beside_their_targets(monkeypatch):
    monkeypatch.setattr(engine, "_SIZES", {True: (16, 32, 48)})
    monkeypatch.setattr(engine, "_TILE", TILE)
    monkeypatch.setattr(engine, "_memory_run", {"ours": 200.0, "monai": 400.0}.get)
    rows = {row.name: row for row in run_to_end(engine.measure(quick=True))}
    assert rows["engine / bare forward passes"].value > 1
    memory = rows["peak memory: engine / MONAI"]
    assert (memory.value, memory.target, memory.ok) == (pytest.approx(0.5), 1.0, True)
    assert len(rows) == 5
