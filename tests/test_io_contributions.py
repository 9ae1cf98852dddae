"""Formats in a real napari: folders of DICOM, a choice of series, saving, CT windows, levels of a pyramid."""

from __future__ import annotations

import subprocess
import sys

import dask.array as da
import numpy as np
import pytest
import SimpleITK as sitk
from napari.layers import Image, Labels
from npe2 import PluginManager
from qtpy.QtWidgets import QInputDialog

from napari_medattn import contributions
from napari_medattn.contributions import get_reader, read_layers
from napari_medattn.data import CT_WINDOWS, read_labels, read_volume
from napari_medattn.errors import InputError
from napari_medattn.layerdata import layer_place, layer_to_volume
from tests.dicom_tools import save_series, voxels
from tests.window_tools import PLUGIN

SLOW = ("SimpleITK", "pydicom", "highdicom", "nrrd", "imagecodecs", "dask", "nibabel", "tifffile", "PIL")


@pytest.fixture
def viewer(make_napari_viewer):
    return make_napari_viewer()


@pytest.fixture
def two_series(tmp_path):
    save_series(tmp_path / "study" / "a", voxels())
    save_series(tmp_path / "study" / "b", voxels((3, 7, 8)), SeriesInstanceUID="1.2.9", SeriesNumber=8, Modality="MR")
    return tmp_path / "study"


class TestOpening:
    def test_a_folder_of_dicom_opens_as_one_layer(self, viewer, tmp_path):
        folder = save_series(tmp_path / "scan", voxels())
        (layer,) = viewer.open(str(folder), plugin=PLUGIN)
        np.testing.assert_array_equal(layer.data, voxels())
        np.testing.assert_allclose(layer.scale, (2.5, 1.5, 0.5))
        assert {f"{unit:~}" for unit in layer.units} == {"mm"}
        assert layer.axis_labels == ("z", "y", "x")

    def test_its_true_affine_stays_with_the_layer(self, viewer, tmp_path):
        folder = save_series(tmp_path / "scan", voxels())
        (layer,) = viewer.open(str(folder), plugin=PLUGIN)
        np.testing.assert_array_equal(layer_to_volume(layer).grid.affine, read_volume(folder).grid.affine)

    def test_files_of_one_series_open_as_one_layer(self, tmp_path):
        folder = save_series(tmp_path / "scan", voxels())
        (layer,) = read_layers([str(path) for path in folder.iterdir()])
        np.testing.assert_array_equal(layer[0], voxels())

    @pytest.mark.parametrize(("answer", "shapes"), [(0, [(6, 5, 4)]), (1, [(3, 7, 8)]), (2, [(6, 5, 4), (3, 7, 8)])])
    def test_of_several_series_the_user_chooses(self, viewer, two_series, monkeypatch, answer, shapes):
        monkeypatch.setattr(QInputDialog, "getItem", lambda *asked: (asked[3][answer], True))
        layers = viewer.open(str(two_series), plugin=PLUGIN)
        assert [layer.data.shape for layer in layers] == shapes

    def test_cancelling_the_choice_opens_nothing(self, viewer, two_series, monkeypatch):
        monkeypatch.setattr(QInputDialog, "getItem", lambda *asked: (asked[3][0], False))
        viewer.open(str(two_series), plugin=PLUGIN)
        assert len(viewer.layers) == 0

    @pytest.mark.parametrize("ending", [".nrrd", ".mha", ".mhd"])
    def test_other_formats_open(self, viewer, tmp_path, ending):
        sitk.WriteImage(sitk.GetImageFromArray(voxels()), str(tmp_path / f"scan{ending}"))
        (layer,) = viewer.open(str(tmp_path / f"scan{ending}"), plugin=PLUGIN)
        assert isinstance(layer, Image)
        np.testing.assert_array_equal(layer.data, voxels())

    def test_folders_without_dicom_are_left_to_others(self, tmp_path):
        (tmp_path / "a.zarr").mkdir()
        (tmp_path / "a.zarr" / ".zarray").write_text("{}")
        assert get_reader(str(tmp_path / "a.zarr")) is None

    def test_a_ct_opens_in_the_soft_tissue_window(self, viewer, tmp_path):
        (layer,) = viewer.open(str(save_series(tmp_path / "scan", voxels())), plugin=PLUGIN)
        assert tuple(layer.contrast_limits) == CT_WINDOWS["soft tissue"]


class TestSaving:
    @pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha", ".tif", ".dcm"])
    def test_a_mask_on_a_dicom_series_is_saved_on_its_grid(self, viewer, tmp_path, ending):
        folder = save_series(tmp_path / "scan", voxels())
        (image,) = viewer.open(str(folder), plugin=PLUGIN)
        labels = np.random.default_rng(0).integers(0, 3, image.data.shape).astype(np.uint8)
        meta = dict(image.metadata["medattn"], class_names=("background", "liver", "spleen"))
        viewer.layers.selection = {viewer.add_labels(labels, scale=image.scale, metadata={"medattn": meta})}
        path = str(tmp_path / f"mask{ending}")
        assert viewer.layers.save(path, selected=True, plugin=PLUGIN) == [path]
        scan = read_volume(folder)
        np.testing.assert_array_equal(read_labels(path, like=scan), labels)
        assert read_volume(path).class_names == ("background", "liver", "spleen")

    def test_a_dicom_segmentation_opens_as_labels(self, viewer, tmp_path):
        from napari_medattn.data import write_labels

        scan = read_volume(save_series(tmp_path / "scan", voxels()))
        write_labels(tmp_path / "m.dcm", np.ones(scan.grid.shape, np.uint8), scan, ("background", "liver"))
        (layer,) = viewer.open(str(tmp_path / "m.dcm"), plugin=PLUGIN)
        assert isinstance(layer, Labels)
        assert list(layer.features["class"]) == ["background", "liver"]


class TestMenus:
    @pytest.mark.parametrize("name", ["soft_tissue", "lung", "bone", "mediastinum", "liver", "brain"])
    def test_a_ct_window_is_one_command_away(self, viewer, name):
        from napari._app_model import get_app_model

        layer = viewer.add_image(np.linspace(-1000, 1000, 60).reshape(3, 4, 5))
        viewer.layers.selection.active = layer
        assert f"{PLUGIN}.show_{name}" in PluginManager.instance().commands
        get_app_model().commands.execute_command(f"{PLUGIN}.show_{name}").result()
        assert tuple(layer.contrast_limits) == CT_WINDOWS[name.replace("_", " ")]

    def test_without_an_image_it_says_what_to_select(self, viewer):
        with pytest.raises(InputError, match="Select one"):
            contributions.show_lung(viewer)

    def test_the_finest_level_of_a_pyramid_becomes_a_layer_that_can_be_segmented(self, viewer):
        fine = da.random.random((1, 1, 6, 32, 32), chunks=(1, 1, 1, 32, 32))
        layer = viewer.add_image([fine, fine[..., ::2, ::2]], multiscale=True, scale=(1, 1, 3, 0.5, 0.5))
        viewer.layers.selection.active = layer
        with pytest.raises(InputError, match="Full size for segmentation"):
            layer_place(layer)
        contributions.full_size(viewer)
        full = viewer.layers[-1]
        assert isinstance(full.data, da.Array)
        assert layer_place(full).grid.shape == (6, 32, 32)
        assert layer_place(full).grid.spacing == (3.0, 0.5, 0.5)

    def test_needless_axes_go_and_channels_stay(self, viewer):
        viewer.layers.selection.active = viewer.add_image(np.zeros((1, 2, 4, 8, 8)))
        contributions.full_size(viewer)
        place = layer_place(viewer.layers[-1])
        assert (place.grid.shape, place.channel_axis) == ((4, 8, 8), 0)


class TestStarting:
    @pytest.mark.parametrize(
        "code",
        [
            "import napari_medattn.data, napari_medattn.layerdata, napari_medattn.contributions",
            "import sys; sys.argv = ['medattn', '--help']\n"
            "from napari_medattn.cli import main\n"
            "try: main()\n"
            "except SystemExit: pass",
        ],
        ids=["the plugin", "medattn --help"],
    )
    def test_no_format_library_is_loaded_before_a_file_is(self, code):
        check = f"{code}\nimport sys; print([name for name in {SLOW} if name in sys.modules], file=sys.stderr)"
        done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
        assert done.stderr.strip().splitlines()[-1] == "[]"
