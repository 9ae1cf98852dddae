"""Fixtures for all tests: real data where it lies beside the repository, a home of their own, fixed seeds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile(
    "medattn",
    deadline=None,
    derandomize=True,
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("medattn")


def shared_folder(name: str) -> Path:
    """``$MEDATTN_SHARED/name``, or ``name`` in the folder ``shared`` beside the repository; skips if absent."""
    told = os.environ.get("MEDATTN_SHARED")
    folder = (Path(told) if told else Path(__file__).parents[2] / "shared") / name
    if not folder.is_dir():
        pytest.skip(f"the shared folder '{name}' is not here (set MEDATTN_SHARED)")
    return folder


@pytest.fixture
def shared_data() -> Path:
    """Real scans with labels and files that are hard to read."""
    return shared_folder("data")


@pytest.fixture
def parity() -> Path:
    """What the authors' own code computes."""
    return shared_folder("parity")


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test sees or touches the checkpoints of whoever runs it."""
    home = tmp_path / "medattn-home"
    monkeypatch.setenv("MEDATTN_HOME", str(home))
    return home


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Random weights are the same in every run; one thread, as small work on a busy machine is quickest so."""
    import torch

    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """A phantom on disk with an oblique affine."""
    import nibabel as nib
    import numpy as np

    from napari_medattn.data.phantom import phantom, write_image

    turn = nib.eulerangles.euler2mat(0.1, 0.05, 0.2) @ np.diag([1.5, 1.5, 2.0])
    path = tmp_path / "scan.nii.gz"
    write_image(path, phantom(1, (32, 48, 48))[0])
    oblique = nib.affines.from_matvec(turn, [-31.25, 12.5, 7.0])
    nib.save(nib.Nifti1Image(np.asarray(nib.load(path).dataobj), oblique), path)
    return path


@pytest.fixture
def own_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What napari remembers for plugins is kept apart from that of whoever runs the tests, and forgotten."""
    from napari import settings

    settings._clear_plugin_settings_cache()
    monkeypatch.setattr(settings, "_CFG_PATH", str(tmp_path / "settings.yaml"))
    yield
    settings._clear_plugin_settings_cache()


@pytest.fixture
def viewer(make_napari_viewer, own_settings):
    """A real viewer, closed at the end."""
    return make_napari_viewer()


@pytest.fixture
def dock(viewer, scan, qtbot):
    """The dock in a viewer with a scan and a trained network."""
    from tests.window_tools import PLUGIN, choose, open_dock

    viewer.open(str(scan), plugin=PLUGIN)
    dock = open_dock(viewer)
    choose(dock, "phantom", qtbot)
    return dock
