"""What looking costs is measured on what it is said to be measured on."""

import numpy as np
import pytest

from napari_medattn.bench import attention
from napari_medattn.bench.attention import FAMILIES, Family, finest, scan
from napari_medattn.events import run_to_end
from napari_medattn.look import Scene, can_ask
from tests.test_cli import medattn


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_slice_is_one_tile_of_the_papers_size(family):
    scene = Scene(scan(1), family.predictor())
    assert scene.tiles(0).shape == (1, 1, 1, family.side, family.side)
    assert scene.volume.grid.shape == (1, 512, 512)


def test_the_dearest_sites_with_queries_are_asked():
    predictor = Family("dae_former", 224).predictor()
    chosen = [predictor.sites[key] for key in finest(predictor, 3)]
    assert len(chosen) == 3
    assert all(can_ask(site) and site.stride == (4, 4) for site in chosen)


@pytest.fixture
def small(monkeypatch):
    """One family, on a small scan."""
    monkeypatch.setattr(attention, "SIDE", 64)
    monkeypatch.setattr(attention, "SLICES", 3)
    monkeypatch.setattr(attention, "FAMILIES", (Family("dae_former", 32),))


def test_rows_tell_times_beside_their_targets(small, monkeypatch):
    monkeypatch.setattr(attention, "_memory_rows", lambda quick: [])
    rows = {row.name: row for row in run_to_end(attention.measure(quick=True))}
    asked = rows["dae_former 32 x 32: voxel to pixels"]
    assert (asked.target, asked.unit, asked.at_most) == (50, "ms", True)
    assert asked.value > 0
    assert np.isfinite([row.value for row in rows.values()]).all()
    assert len(rows) == 4


def test_memory_counts_the_room_that_the_cache_still_has(small):
    found = attention._most_megabytes(1)
    if found is None:
        pytest.skip("this system does not tell")
    assert found > 500  # the cache of maps alone may grow to 512 MB


def test_options_of_another_benchmark_are_refused():
    done = medattn("bench", "attention", "--compile")
    assert done.returncode == 1
    assert "attention is measured without --compile" in done.stderr
