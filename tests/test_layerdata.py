"""Volumes become layers and layers become volumes, with their place in the world."""

import dask.array
import nibabel as nib
import numpy as np
import pytest
from napari.layers import Image, Labels, Layer

from napari_medattn.data import Volume, write_labels
from napari_medattn.errors import InputError
from napari_medattn.geometry import Grid
from napari_medattn.layerdata import describe_place, labels_source, layer_place, layer_to_volume, volume_to_layer

OBLIQUE = nib.affines.from_matvec(
    nib.eulerangles.euler2mat(0.2, 0.1, 0.3) @ np.diag([-0.8, 1.1, 2.5]), [10.0, -20.0, 30.0]
)


def make(array, **options) -> Volume:
    shape = array.shape[1:]
    return Volume(array, options.pop("grid", Grid(shape, OBLIQUE)), name="scan", **options)


def layer_of(volume: Volume) -> Layer:
    data, kwargs, kind = volume_to_layer(volume)
    return {"image": Image, "labels": Labels}[kind](data, **kwargs)


RANDOM = np.random.default_rng(0)
VOLUMES = {
    "3-D": make(RANDOM.integers(0, 900, (1, 5, 6, 7)).astype(np.int16)),
    "2-D": make(RANDOM.integers(0, 900, (1, 1, 6, 7)).astype(np.int16), spatial_dims=2),
    "two channels": make(RANDOM.normal(size=(2, 5, 6, 7)).astype(np.float32)),
    "2-D, two channels": make(RANDOM.normal(size=(2, 1, 6, 7)).astype(np.float32), spatial_dims=2),
    "RGB": make(RANDOM.integers(0, 255, (3, 1, 6, 7)).astype(np.uint8), spatial_dims=2),
    "RGB stack": make(RANDOM.integers(0, 255, (3, 5, 6, 7)).astype(np.uint8)),
}


@pytest.mark.parametrize("name", VOLUMES)
def test_a_layer_gives_back_the_volume_it_was_made_from(name):
    volume = VOLUMES[name]
    back = layer_to_volume(layer_of(volume))
    np.testing.assert_array_equal(back.array, volume.array)
    np.testing.assert_array_equal(back.grid.affine, volume.grid.affine)
    assert back.spatial_dims == volume.spatial_dims


def test_a_layer_shares_the_volumes_memory():
    volume = VOLUMES["3-D"]
    assert np.shares_memory(layer_of(volume).data, volume.array)
    assert np.shares_memory(layer_to_volume(layer_of(volume)).array, volume.array)


def test_voxel_axes_are_shown_undistorted_in_millimetres():
    layer = layer_of(VOLUMES["3-D"])
    np.testing.assert_allclose(layer.scale, (2.5, 1.1, 0.8))
    assert layer.axis_labels == ("z", "y", "x")
    assert {f"{unit:~}" for unit in layer.units} == {"mm"}


def test_a_mask_file_becomes_labels_with_class_names():
    labels = np.array([0, 1, 2, 1] * 6, np.uint8).reshape(1, 2, 3, 4)
    layer = layer_of(make(labels, class_names=("background", "liver", "spleen")))
    assert isinstance(layer, Labels)
    assert list(layer.features["class"]) == ["background", "liver", "spleen"]


def test_any_other_image_layer_gets_its_place_from_its_scale():
    layer = Image(np.zeros((4, 5, 6)), scale=(3, 2, 1), units="mm")
    volume = layer_to_volume(layer)
    assert volume.grid.spacing == (3.0, 2.0, 1.0)
    assert volume.grid.units == "mm"


def test_a_layer_whose_data_was_swapped_no_longer_claims_the_files_geometry():
    layer = layer_of(VOLUMES["3-D"])
    layer.data = np.zeros((8, 8, 8))
    assert layer_to_volume(layer).header is None
    assert layer_to_volume(layer).grid.shape == (8, 8, 8)


def test_five_axes_are_refused():
    with pytest.raises(InputError, match="5 axes"):
        layer_to_volume(Image(np.zeros((2, 2, 2, 3, 4))))


def test_a_multiscale_image_is_refused():
    with pytest.raises(InputError, match="multiscale"):
        layer_to_volume(Image([np.zeros((8, 8)), np.zeros((4, 4))], multiscale=True))


def test_the_panel_names_orientation_and_voxel_size():
    def words(volume):
        return describe_place(layer_place(layer_of(volume)))

    assert words(VOLUMES["3-D"]) == "7 x 6 x 5, LAS 0.8 x 1.1 x 2.5 mm, oblique: shown along its own axes"
    assert words(VOLUMES["2-D"]) == "7 x 6, 0.8 x 1.1 mm"
    plain = Grid.from_spacing((1, 6, 7), (1, 1, 1), "pixel")
    assert words(make(np.zeros((1, 1, 6, 7)), grid=plain, spatial_dims=2)) == "7 x 6, 1 x 1 pixel"
    straight = Grid.from_spacing((5, 6, 7), (2, 1, 1))
    assert words(make(np.zeros((1, 5, 6, 7)), grid=straight)) == "7 x 6 x 5, 1 x 1 x 2 mm"  # nothing says how it lies


def test_a_lazy_image_is_placed_without_reading_it():
    reads = []

    def read(block):
        reads.append(1)
        return block

    lazy = dask.array.zeros((5, 6, 7), chunks=(1, 6, 7)).map_blocks(read, dtype=float, meta=np.zeros(0))
    layer = Image(lazy, contrast_limits=(0, 1), scale=(2000, 1000, 1000), units="um", multiscale=False)
    reads.clear()
    assert layer_place(layer).grid.spacing == (2.0, 1.0, 1.0)
    assert reads == []


def test_a_mask_drawn_on_any_layer_is_saved_with_its_scale(tmp_path):
    labels = np.ones((4, 5, 6), np.uint8)
    attributes = {"name": "mine", "scale": np.array([3.0, 2.0, 1.0]), "metadata": {}}
    write_labels(tmp_path / "m.nii.gz", labels, labels_source(labels, attributes))
    assert nib.load(tmp_path / "m.nii.gz").header.get_zooms() == (1.0, 2.0, 3.0)
