"""What preparing a volume takes: nothing is read that would not fit, and segmenting holds slabs only."""

from __future__ import annotations

import tracemalloc
from importlib import import_module

import dask.array as da
import numpy as np
import pytest

from napari_medattn.data import Preparation, Volume, prepare
from napari_medattn.data.slabs import Slabs
from napari_medattn.errors import InputError
from napari_medattn.geometry import Grid

SHAPE = (64, 32, 32)
PREPARE = import_module("napari_medattn.data.prepare")


def lazy() -> Volume:
    """A volume whose voxels are read slice by slice."""
    values = da.from_array(np.random.default_rng(0).normal(size=SHAPE).astype(np.float32), chunks=(1, *SHAPE[1:]))
    return Volume(values[None], Grid.from_spacing(SHAPE, (2, 1, 1)), name="large")


def with_free(monkeypatch, count: float) -> None:
    monkeypatch.setattr(PREPARE, "free_memory", lambda: count)


class TestPrepare:
    @pytest.mark.parametrize(
        ("how", "times"),
        [(Preparation(), 8), (Preparation(spacing=(1.0, 1.0, 1.0)), 16)],
        ids=["as stored", "twice as fine"],
    )
    def test_what_would_not_fit_is_refused_before_it_is_read(self, monkeypatch, how, times):
        volume = lazy()
        with_free(monkeypatch, times * np.prod(SHAPE) - 100)
        with pytest.raises(InputError, match=r"large needs .* of memory.*Crop it"):
            prepare(volume, how)
        with_free(monkeypatch, times * np.prod(SHAPE))
        prepare(volume, how)

    def test_it_takes_no_more_than_the_result_and_a_sample(self):
        """16-bit voxels become 32-bit ones; nothing of the size of the volume is held in double precision."""
        values = np.random.default_rng(0).integers(0, 500, (1, 64, 256, 256)).astype(np.int16)
        volume = Volume(values, Grid.from_spacing(values.shape[1:], (1, 1, 1)))
        tracemalloc.start()
        prepare(volume, Preparation())
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 8 * values.size


class TestSlabs:
    def test_a_lazy_volume_is_prepared_where_the_whole_would_not_fit(self, monkeypatch):
        volume, how = lazy(), Preparation(spacing=(1.0, 1.0, 1.0))
        whole = prepare(volume, how).array
        with_free(monkeypatch, 1000)
        slabs = Slabs(volume, how)
        list(slabs.measure())
        np.testing.assert_allclose(slabs.slab(40, 48), whole[:, 40:48], atol=2e-5)
