"""Borders of patches and tiles lie on the image where the network has them."""

import itertools

import numpy as np
import pytest
import torch

from napari_medattn.data import Preparation, Volume
from napari_medattn.geometry import Grid
from napari_medattn.inference import Predictor
from napari_medattn.look import Scene
from napari_medattn.look.borders import borders
from napari_medattn.models import create_model
from napari_medattn.store import Card

ARGUMENTS = {"in_channels": 1, "num_classes": 2, "spatial_dims": 2, "image_size": 64, "patches": 2}
ORIENTATIONS = ("RAS", "LPI", "ASR", "IPL")
AXES = {"R": 0, "L": 0, "A": 1, "P": 1, "S": 2, "I": 2}


@pytest.fixture(scope="module")
def network():
    return create_model("medt", **ARGUMENTS)


def scene_of(network, shape, orientation="RAS", spacing=(1.0, 1.0, 1.0), wanted=None):
    """A scan whose stored axes x, y, z run towards ``orientation``, before a network with tiles of 64 x 64."""
    matrix = np.zeros((3, 3))
    for stored, (name, step) in enumerate(zip(orientation, spacing[::-1], strict=True)):
        matrix[AXES[name], stored] = step if name in "RAS" else -step
    affine = np.eye(4)
    affine[:3, :3] = matrix
    card = Card("axial", "medt", ARGUMENTS, ("background", "a"), Preparation(spacing=wanted), (1, 64, 64))
    values = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
    return Scene(Volume(values, Grid(shape, affine), name="noise"), Predictor(network, card, torch.device("cpu")))


def patch_of(scene, voxel):
    """Row and column of the patch of 32 x 32 prepared voxels that shows a voxel of the image."""
    spot = scene.locate(voxel)
    start = scene.starts(spot.frame)[spot.tile]
    return tuple((first + at) // 32 for first, at in zip(start[1:], spot.position[1:], strict=True))


def slice_box(shape, axis, index):
    spans = [slice(0, size) for size in shape]
    spans[axis] = slice(index, index + 1)
    return tuple(spans)


def lines_between(found, axis, size):
    """How many lines cross an axis of the image between each voxel and the next."""
    crossing = [ends[0][axis] for ends in found.lines if ends[0][axis] == ends[1][axis]]
    return [sum(i <= at < i + 1 for at in crossing) for i in range(size - 1)]


class TestPlace:
    @pytest.mark.parametrize("orientation", ORIENTATIONS)
    @pytest.mark.parametrize("thin", [0, 1, 2])
    @pytest.mark.parametrize(
        ("spacing", "wanted"),
        [((1.0, 1.0, 1.0), None), ((2.0, 1.0, 0.75), (1.5, 1.0, 1.0))],
        ids=["as is", "resampled"],
    )
    def test_a_line_runs_exactly_where_the_patch_changes(self, network, orientation, thin, spacing, wanted):
        shape = (40, 44, 48)
        scene = scene_of(network, shape, orientation, spacing, wanted)
        found = borders(scene, [2], slice_box(shape, thin, 5))
        for axis in {0, 1, 2} - {thin}:
            voxels = [[5, 5, 5] for _ in range(shape[axis])]
            for index, voxel in enumerate(voxels):
                voxel[axis] = index
            patches = [patch_of(scene, voxel) for voxel in voxels]
            changes = [before != after for before, after in itertools.pairwise(patches)]
            assert lines_between(found, axis, shape[axis]) == changes

    def test_lines_go_through_the_whole_slice(self, network):
        found = borders(scene_of(network, (3, 64, 64)), [2], slice_box((3, 64, 64), 0, 1))
        np.testing.assert_array_equal(
            sorted(found.lines.tolist()),
            [[[1, -0.5, 31.5], [1, 63.5, 31.5]], [[1, 31.5, -0.5], [1, 31.5, 63.5]]],
        )
        assert not found.tiles.any()

    def test_padding_has_no_borders_to_show(self, network):
        found = borders(scene_of(network, (3, 20, 20)), [2], slice_box((3, 20, 20), 0, 1))
        assert found.lines.shape == (0, 2, 3)

    def test_rendered_in_3d_there_are_none(self, network):
        scene = scene_of(network, (3, 64, 64))
        assert len(borders(scene, [2], scene.placement("layer1.0.row_attention").everything).lines) == 0


class TestSeveralTiles:
    def test_borders_of_tiles_are_told_apart(self, network):
        scene = scene_of(network, (2, 64, 128))
        assert [start[2] for start in scene.starts(0)] == [0, 64]
        found = borders(scene, [2], slice_box((2, 64, 128), 0, 0))
        across = {
            ends[0][2]: bool(tile) for ends, tile in zip(found.lines, found.tiles, strict=True) if ends[0][2] >= 0
        }
        assert across == {31.5: False, 63.5: True, 95.5: False}

    def test_sites_with_other_patches_share_their_lines(self, network):
        scene = scene_of(network, (2, 64, 64))
        box = slice_box((2, 64, 64), 0, 0)
        assert len(borders(scene, [2, 4], box).lines) == len(borders(scene, [4], box).lines) == 6
