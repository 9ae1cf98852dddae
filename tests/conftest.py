"""Fixtures for all tests: real data where it lies beside the repository, a home of their own, fixed seeds."""

from __future__ import annotations

import os
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
