"""The demo leaves what README promises."""

import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest


@pytest.fixture(scope="module")
def left(tmp_path_factory):
    """What a run of the demo left, in a process of its own as `make demo` starts it."""
    out = tmp_path_factory.mktemp("demo")
    command = [sys.executable, "-m", "napari_medattn", "demo", "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return out, done


def test_it_says_where_the_results_are(left):
    out, done = left
    for name in ("window.png", "mask.nii.gz", "attention.png"):
        assert str(out / name) in done.stderr.replace("\n", "")
        assert (out / name).stat().st_size > 1000


def test_the_mask_has_both_organs_and_the_samples_geometry(left):
    mask = nib.load(left[0] / "mask.nii.gz")
    np.testing.assert_array_equal(mask.affine, np.diag([1.5, 1.5, 2.0, 1.0]))
    voxels = np.bincount(np.asarray(mask.dataobj).ravel())
    assert len(voxels) == 3
    assert voxels[1] > 5000
    assert voxels[2] > 1000
