"""A process that is killed while it paints loses nothing that it had reported done."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork and SIGKILL")


def rounds(folder: Path, count: int, seed: int) -> list[dict]:
    command = [sys.executable, "-m", "tests.crash_painter", str(folder), str(count), str(seed)]
    ran = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return [json.loads(line) for line in ran.stdout.splitlines()]


def check(found: list[dict], count: int) -> None:
    assert len(found) == count
    assert all(one["killed"] for one in found), found
    assert [one for one in found if one["kept"] is None] == []
    assert sum(one["done"] for one in found) > 10 * count  # it was painting when it was killed


def test_three_kills(tmp_path):
    check(rounds(tmp_path, 3, seed=1), 3)


@pytest.mark.nightly
@pytest.mark.timeout(1800)
def test_fifty_kills(tmp_path):
    check(rounds(tmp_path, 50, seed=1000), 50)
