"""What the manifest offers works in a real napari: open, samples, save."""

import nibabel as nib
import numpy as np
import pytest
import tifffile
from napari.layers import Image, Labels
from npe2 import PluginManifest

from napari_medattn.contributions import get_reader
from tests.window_tools import PLUGIN


@pytest.fixture
def viewer(make_napari_viewer):
    return make_napari_viewer()


def test_the_manifest_is_valid_and_its_commands_exist():
    manifest = PluginManifest.from_distribution(PLUGIN)
    manifest.validate_imports()
    assert manifest.name == PLUGIN


def test_the_widget_is_in_the_plugins_menu(viewer):
    _, dock = viewer.window.add_plugin_dock_widget(PLUGIN, "Attention segmentation")
    for part in ("segment", "look", "correct", "learn"):
        assert hasattr(dock, part)


@pytest.mark.parametrize(("key", "ndim"), [("volume", 3), ("slice", 2)])
def test_samples_open(viewer, key, ndim):
    (layer,) = viewer.open_sample(PLUGIN, key)
    assert layer.ndim == ndim
    assert layer.data.max() > layer.data.min()


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_nifti_opens_on_its_grid(viewer, tmp_path, ending):
    path = tmp_path / f"scan{ending}"
    data = np.random.default_rng(0).integers(0, 99, (4, 5, 6)).astype(np.int16)
    nib.save(nib.Nifti1Image(data, np.diag([1.0, 2.0, 3.0, 1.0])), path)
    (layer,) = viewer.open(str(path), plugin=PLUGIN)
    assert isinstance(layer, Image)
    assert layer.name == "scan"
    np.testing.assert_array_equal(layer.data, data.T)
    np.testing.assert_array_equal(layer.scale, (3, 2, 1))


def test_tiff_opens(viewer, tmp_path):
    tifffile.imwrite(tmp_path / "stack.tif", np.arange(60, dtype=np.uint8).reshape(3, 4, 5), photometric="minisblack")
    (layer,) = viewer.open(str(tmp_path / "stack.tif"), plugin=PLUGIN)
    assert layer.data.shape == (3, 4, 5)


def test_several_files_open_as_several_layers(viewer, tmp_path):
    for name in "ab":
        nib.save(nib.Nifti1Image(np.eye(4, dtype=np.int16)[None] + 1, np.eye(4)), tmp_path / f"{name}.nii")
    assert len(viewer.open([str(tmp_path / "a.nii"), str(tmp_path / "b.nii")], plugin=PLUGIN)) == 2


def test_other_gzip_files_are_left_to_others():
    assert get_reader("table.csv.gz") is None
    assert get_reader(["scan.nii.gz", "table.csv"]) is None


@pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".tif"])
def test_a_saved_mask_opens_again_as_the_same_mask(viewer, tmp_path, ending):
    path = tmp_path / f"mask{ending}"
    labels = np.random.default_rng(0).integers(0, 3, (4, 5, 6)).astype(np.uint8)
    meta = {"medattn": {"class_names": ("background", "liver", "spleen")}}
    viewer.add_labels(labels, scale=(3, 2, 1), metadata=meta)
    assert viewer.layers.save(str(path), plugin=PLUGIN) == [str(path)]
    (layer,) = viewer.open(str(path), plugin=PLUGIN)
    assert isinstance(layer, Labels)
    np.testing.assert_array_equal(layer.data, labels)
    np.testing.assert_allclose(layer.scale, (3, 2, 1))
    assert list(layer.features["class"]) == ["background", "liver", "spleen"]
