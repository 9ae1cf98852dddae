"""Preparing a scan for a network, and bringing results back to where they belong."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st

from napari_medattn.data import Preparation, Volume, prepare
from napari_medattn.data.prepare import resample, with_neighbours
from napari_medattn.errors import InputError
from napari_medattn.geometry import Grid
from tests.test_geometry import ORIENTATIONS, stored_as

AS_STORED = Preparation(orientation=None, intensity="none")


def noise(shape=(4, 5, 6), grid=None, dtype=np.float32, **facts) -> Volume:
    array = np.random.default_rng(3).normal(100, 20, (1, *shape)).astype(dtype)
    return Volume(array, grid or Grid.from_spacing(shape, (1.0, 1.0, 1.0)), name="scan", **facts)


class TestWayBack:
    @given(st.sampled_from(ORIENTATIONS), st.sampled_from(["RAS", "LPS", None]))
    def test_restore_takes_the_orientation_back(self, source, target):
        volume = noise(grid=stored_as(source))
        prepared = prepare(volume, Preparation(orientation=target, intensity="none"))
        np.testing.assert_array_equal(prepared.restore(prepared.array), volume.array)

    @pytest.mark.parametrize("orientation", ["RAS", "PSR", "IPL"])
    @pytest.mark.parametrize("spacing", [(2.0, 2.0, 2.0), (0.7, 0.7, 0.7), (5.0, 1.0, 1.0)])
    def test_results_come_back_in_the_shape_of_the_scan(self, orientation, spacing):
        volume = noise((9, 11, 13), stored_as(orientation, shape=(9, 11, 13)))
        prepared = prepare(volume, Preparation(spacing=spacing))
        assert prepared.restore(prepared.array).shape == volume.array.shape

    @pytest.mark.parametrize("spacing", [(2.0, 2.0, 2.0), (0.5, 0.5, 0.5)])
    def test_a_ball_comes_back_to_its_place_through_resampling(self, spacing):
        z, y, x = np.indices((20, 20, 20))
        ball = ((z - 6) ** 2 + (y - 12) ** 2 + (x - 9) ** 2 < 20).astype(np.float32)
        volume = Volume(ball[None], Grid.from_spacing(ball.shape, (1.0, 1.0, 1.0)))
        prepared = prepare(volume, Preparation(spacing=spacing, intensity="none"))
        found = prepared.restore(prepared.array)[0]
        centre = [float((axis * found).sum() / found.sum()) for axis in (z, y, x)]
        assert centre == pytest.approx([6, 12, 9], abs=0.05)

    def test_the_source_is_left_as_it_was(self):
        volume = noise()
        before = volume.array.copy()
        prepare(volume, Preparation(orientation=None))
        np.testing.assert_array_equal(volume.array, before)

    def test_a_2d_image_is_not_turned(self):
        volume = noise((1, 5, 6), stored_as("PIR", shape=(1, 5, 6)), spatial_dims=2)
        assert prepare(volume, Preparation(intensity="none")).array.shape == (1, 1, 5, 6)

    @pytest.mark.parametrize("target", ["RAS", "LPS", "PIR", None])
    def test_nor_is_a_volume_that_does_not_say_where_right_and_left_are(self, target):
        volume = noise((4, 5, 6), Grid.from_spacing((4, 5, 6), (3.0, 2.0, 1.0)))
        part = volume.cropped((slice(1, 3), slice(None), slice(None)))
        for one in (volume, part):
            prepared = prepare(one, Preparation(orientation=target, intensity="none"))
            np.testing.assert_array_equal(prepared.array, one.array)


class TestNetworksOfFlatImages:
    def test_pictures_say_nothing_so_scans_are_turned_as_pictures_of_them_are_shown(self):
        how = Preparation(intensity="none").for_flat(())
        scan = noise((4, 5, 6), stored_as("RAS", shape=(4, 5, 6)))
        np.testing.assert_array_equal(prepare(scan, how).array, scan.array[:, :, ::-1, ::-1])

    def test_images_that_say_how_they_lie_are_followed(self):
        assert Preparation().for_flat({"PIR"}).orientation == "PIR"
        assert Preparation().for_flat({"PIR", "PIL"}).orientation in ("PIR", "PIL")
        assert Preparation().for_flat({"PIR", "LAS"}).orientation == "LPS"

    @pytest.mark.parametrize("orientation", [None, "PIR"])
    def test_what_was_chosen_stays(self, orientation):
        assert Preparation(orientation=orientation).for_flat({"LAS"}).orientation == orientation


class TestResampling:
    @pytest.mark.parametrize("size", [5, 15, 20, 33])
    def test_a_ramp_stays_a_ramp_at_the_same_places(self, size):
        """Voxel j of the new grid lies at (j + 1/2) * 10 / size - 1/2 of the old one."""
        ramp = np.broadcast_to(np.arange(10, dtype=np.float32), (1, 3, 4, 10))
        places = (np.arange(size) + 0.5) * 10 / size - 0.5
        found = resample(ramp, (3, 4, size))[0, 1, 2]
        np.testing.assert_allclose(found, np.clip(places, 0, 9), atol=1e-5)

    def test_nearest_invents_no_label(self):
        labels = np.array([[[[0, 0, 5, 5, 9, 9]]]], np.uint8)
        assert set(np.unique(resample(labels, (1, 1, 17), order=0))) == {0, 5, 9}

    def test_the_same_shape_is_the_same_array(self):
        array = np.ones((1, 3, 4, 5), np.float32)
        assert resample(array, (3, 4, 5)) is array

    def test_each_axis_gets_its_own_spacing(self):
        volume = noise((6, 8, 10), Grid.from_spacing((6, 8, 10), (3.0, 1.0, 0.5)))
        prepared = prepare(volume, Preparation(spacing=(1.5, 2.0, 1.0), orientation=None))
        assert prepared.array.shape == (1, 12, 4, 5)

    def test_the_spacing_is_meant_along_the_prepared_axes(self):
        """Stored as SRA with 3 mm along its x axis, which is world S and so prepared Z."""
        grid = stored_as("SRA", spacing_xyz=(3.0, 1.0, 1.0), shape=(6, 8, 10))
        prepared = prepare(noise((6, 8, 10), grid), Preparation(spacing=(1.0, 1.0, 1.0)))
        assert prepared.array.shape == (1, 30, 6, 8)

    def test_an_axis_of_zero_stays_as_it_is_stored(self):
        volume = noise((6, 8, 10), Grid.from_spacing((6, 8, 10), (7.0, 1.0, 1.0)))
        how = Preparation(spacing=(1.0, 2.0, 2.0)).for_flat(())
        assert prepare(volume, how).array.shape == (1, 6, 4, 5)

    @pytest.mark.parametrize("spacing", [(1.0, -1.0, 1.0), (1.0, float("nan"), 1.0)])
    def test_a_voxel_without_a_size_is_refused(self, spacing):
        with pytest.raises(InputError, match="No voxel is"):
            Preparation(spacing=spacing)

    def test_a_spacing_within_two_percent_is_left_alone(self):
        volume = noise((50, 5, 5), Grid.from_spacing((50, 5, 5), (1.01, 1.0, 1.0)))
        assert prepare(volume, Preparation(spacing=(1.0, 1.0, 1.0))).array.shape == (1, 50, 5, 5)

    def test_an_image_without_lengths_is_not_resampled(self):
        volume = noise(grid=Grid.from_spacing((4, 5, 6), (1.0, 1.0, 1.0), units="pixel"))
        assert prepare(volume, Preparation(spacing=(0.5, 0.5, 0.5))).array.shape == (1, 4, 5, 6)

    def test_no_axis_vanishes(self):
        volume = noise((2, 5, 6))
        assert prepare(volume, Preparation(spacing=(50.0, 1.0, 1.0))).array.shape[1] == 1


class TestIntensity:
    @pytest.mark.parametrize("dtype", [np.float32, np.int16, np.uint8])
    def test_zscore_gives_mean_zero_and_deviation_one(self, dtype):
        array = prepare(noise(dtype=dtype), Preparation()).array
        assert (array.mean(), array.std()) == pytest.approx((0, 1), abs=1e-4)

    def test_zscore_of_known_values(self):
        volume = Volume(np.array([0, 0, 2, 2], np.float32).reshape(1, 1, 1, 4), Grid.from_spacing((1, 1, 4), (1, 1, 1)))
        np.testing.assert_allclose(prepare(volume, Preparation()).array.ravel(), [-1, -1, 1, 1], atol=1e-5)

    def test_each_channel_is_normalised_by_itself(self):
        one = noise().array
        volume = Volume(np.concatenate([one, 50 * one + 7]), Grid.from_spacing((4, 5, 6), (1, 1, 1)))
        array = prepare(volume, Preparation()).array
        np.testing.assert_allclose(array[1], array[0], atol=1e-3)

    def test_one_bright_voxel_does_not_darken_the_rest(self):
        volume = noise((10, 10, 10))
        clean = prepare(volume, Preparation()).array.std(where=volume.array < 1e5)
        volume.array[0, 0, 0, 0] = 1e6
        assert prepare(volume, Preparation()).array.std(where=volume.array < 1e5) == pytest.approx(clean, rel=0.05)

    def test_a_window_maps_its_limits_to_zero_and_one_and_clips(self):
        values = np.array([-2000, -100, 50, 200, 3000], np.int16).reshape(1, 1, 1, 5)
        volume = Volume(values, Grid.from_spacing((1, 1, 5), (1, 1, 1)))
        array = prepare(volume, Preparation(intensity="window", window=(-100.0, 200.0))).array
        np.testing.assert_allclose(array.ravel(), [0, 0, 0.5, 1, 1])

    def test_no_normalisation_keeps_the_values(self):
        volume = noise()
        np.testing.assert_array_equal(prepare(volume, AS_STORED).array, volume.array)


class TestOddVoxels:
    @pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
    def test_voxels_that_are_no_numbers_become_the_lowest_value(self, odd):
        volume = noise()
        lowest = volume.array.min()
        volume.array[0, 1, 1, 1] = odd
        assert prepare(volume, AS_STORED).array[0, 1, 1, 1] == lowest

    def test_their_number_is_told(self):
        volume = noise()
        volume.array[0, 0, 0, :3] = np.nan
        assert "3 voxels of scan" in prepare(volume, AS_STORED).notes[0]

    def test_the_notes_of_the_reader_are_kept(self):
        assert prepare(noise(notes=("pixdim was taken.",)), AS_STORED).notes == ("pixdim was taken.",)

    def test_a_constant_image_is_refused_by_name(self):
        volume = Volume(np.full((1, 4, 5, 6), 7, np.int16), Grid.from_spacing((4, 5, 6), (1, 1, 1)), name="blank")
        with pytest.raises(InputError, match="blank has the value 7"):
            prepare(volume, Preparation())

    def test_an_image_without_a_number_is_refused_by_name(self):
        array = np.full((1, 4, 5, 6), np.nan, np.float32)
        with pytest.raises(InputError, match="holes has no finite voxel"):
            prepare(Volume(array, Grid.from_spacing((4, 5, 6), (1, 1, 1)), name="holes"), Preparation())


class TestNeighbours:
    """2.5-D: a 2-D network sees the slices above and below as channels."""

    def test_each_slice_lies_between_those_beside_it(self):
        stack = np.arange(5, dtype=np.float32).reshape(1, 5, 1, 1) * np.ones((1, 5, 2, 2), np.float32)
        found = with_neighbours(stack, 1)[:, :, 0, 0]
        np.testing.assert_array_equal(found, [[0, 0, 1, 2, 3], [0, 1, 2, 3, 4], [1, 2, 3, 4, 4]])

    def test_channels_of_a_slice_stay_together(self):
        two = np.stack([np.zeros((3, 2, 2)), np.ones((3, 2, 2))]).astype(np.float32)
        assert with_neighbours(two, 1)[:, 1, 0, 0].tolist() == [0, 1, 0, 1, 0, 1]

    def test_a_negative_number_is_refused(self):
        with pytest.raises(InputError, match="no -1 neighbouring slices"):
            Preparation(neighbours=-1)

    def test_without_neighbours_nothing_is_copied(self):
        stack = np.zeros((1, 3, 2, 2), np.float32)
        assert with_neighbours(stack, 0) is stack

    def test_slices_of_one_channel_are_held_once(self):
        stack = np.zeros((1, 5, 2, 2), np.float32)
        found = with_neighbours(stack, 1)
        assert np.shares_memory(found[0, 2], found[1, 1])
        assert not found.flags.writeable

    def test_results_come_back_in_the_shape_of_the_scan(self):
        array = np.random.default_rng(0).random((1, 4, 6, 6)).astype(np.float32)
        volume = Volume(array, Grid.from_spacing((4, 6, 6), (1, 1, 1)), name="scan")
        prepared = prepare(volume, Preparation(neighbours=2))
        assert prepared.array.shape == (5, 4, 6, 6)
        assert prepared.restore(prepared.array[:1]).shape == (1, 4, 6, 6)
