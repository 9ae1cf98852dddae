"""Labels go to the prepared grid and back; intensities by percentile and by CT window; channels chosen."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st

from napari_medattn.data import CT_WINDOWS, Preparation, Volume, ct_window, prepare
from napari_medattn.data.slabs import Slabs
from napari_medattn.errors import GeometryError, InputError
from napari_medattn.geometry import Grid
from tests.test_geometry import ORIENTATIONS, stored_as


def scan(grid: Grid, channels: int = 1) -> Volume:
    values = np.random.default_rng(0).normal(100, 30, (channels, *grid.shape)).astype(np.float32)
    return Volume(values, grid, name="scan")


class TestLabels:
    @given(
        st.sampled_from(ORIENTATIONS),
        st.tuples(*[st.integers(2, 9)] * 3),
        st.tuples(*[st.floats(0.2, 3.0)] * 3),
        st.sampled_from(["RAS", "LPS", None]),
    )
    def test_they_come_back_as_they_were_from_any_finer_grid(self, stored, shape, spacing, orientation):
        grid = stored_as(stored, spacing_xyz=(3.0, 3.1, 3.2), shape=shape)
        prepared = prepare(scan(grid), Preparation(orientation=orientation, spacing=spacing, intensity="none"))
        labels = np.random.default_rng(1).integers(0, 70_000, shape)
        placed = prepared.place_labels(labels)
        assert placed.shape == prepared.array.shape[1:]
        np.testing.assert_array_equal(prepared.restore_labels(placed), labels)

    def test_no_label_is_invented_on_a_coarser_grid(self):
        grid = stored_as("PSR", spacing_xyz=(1.0, 1.0, 1.0), shape=(9, 8, 7))
        prepared = prepare(scan(grid), Preparation(spacing=(2.3, 2.3, 2.3)))
        labels = np.random.default_rng(1).choice([0, 5, 300], grid.shape)
        back = prepared.restore_labels(prepared.place_labels(labels))
        assert back.shape == labels.shape
        assert set(np.unique(back)) <= {0, 5, 300}

    def test_labels_lie_where_the_image_lies(self):
        """A bright box and its label are still in the same place on the prepared grid."""
        grid = stored_as("PSR", spacing_xyz=(2.0, 2.0, 2.0), shape=(10, 12, 14))
        volume = scan(grid)
        labels = np.zeros(grid.shape, np.uint8)
        labels[2:5, 3:7, 8:12] = 1
        volume.array[0] = labels * 1000.0
        prepared = prepare(volume, Preparation(spacing=(1.0, 1.0, 1.0), intensity="none"))
        inside = prepared.place_labels(labels) == 1
        assert prepared.array[0][inside].min() > 300
        assert prepared.array[0][~inside].max() < 900


class TestIntensity:
    def test_percentiles_become_zero_and_one(self):
        array = prepare(scan(stored_as("RAS")), Preparation(intensity="percentile")).array
        assert (array.min(), array.max()) == pytest.approx((0, 1), abs=1e-6)

    def test_one_bright_voxel_does_not_darken_the_rest(self):
        volume = scan(stored_as("RAS", shape=(10, 10, 10)))
        clean = prepare(volume, Preparation(intensity="percentile")).array.mean()
        volume.array[0, 0, 0, 0] = 1e6
        assert prepare(volume, Preparation(intensity="percentile")).array.mean() == pytest.approx(clean, rel=0.05)

    def test_slab_by_slab_is_the_same(self):
        volume, how = scan(stored_as("LPS", shape=(9, 10, 11)), channels=2), Preparation(intensity="percentile")
        slabs = Slabs(volume, how)
        for _ in slabs.measure():
            pass
        np.testing.assert_allclose(slabs.slab(0, 9), prepare(volume, how).array, atol=1e-5)

    @pytest.mark.parametrize(
        ("name", "limits"),
        [("soft tissue", (-150, 250)), ("lung", (-1350, 150)), ("bone", (-500, 1300)), ("brain", (0, 80))],
    )
    def test_ct_windows_in_hounsfield_units(self, name, limits):
        assert ct_window(name) == limits

    def test_a_ct_window_prepares_for_the_network(self):
        values = np.array([-2000, -1350, -600, 150, 3000], np.int16).reshape(1, 1, 1, 5)
        volume = Volume(values, Grid.from_spacing((1, 1, 5), (1, 1, 1)))
        array = prepare(volume, Preparation(intensity="window", window=ct_window("lung"))).array
        np.testing.assert_allclose(array.ravel(), [0, 0, 0.5, 1, 1])

    def test_an_unknown_window_lists_the_known_ones(self):
        with pytest.raises(InputError, match=", ".join(CT_WINDOWS)):
            ct_window("toe")


class TestChannels:
    def test_channels_are_chosen_in_any_order(self):
        volume = scan(stored_as("RAS"), channels=3)
        np.testing.assert_array_equal(volume.with_channels((2, 0)).array, volume.array[[2, 0]])

    @pytest.mark.parametrize("channels", [(3,), (-1,), ()])
    def test_a_channel_that_is_not_there_is_refused(self, channels):
        with pytest.raises(GeometryError, match="channels 0 to 2"):
            scan(stored_as("RAS"), channels=3).with_channels(channels)


class TestCropping:
    @pytest.mark.parametrize("stored", ["RAS", "LPS", "PSR"])
    def test_a_part_lies_where_it_lay(self, stored):
        volume = scan(stored_as(stored, shape=(6, 7, 8)))
        part = volume.cropped((slice(1, 4), slice(2, None), slice(-3, None)))
        assert part.array[0, 0, 0, 0] == volume.array[0, 1, 2, 5]
        np.testing.assert_allclose(part.grid.to_world((0, 0, 0)), volume.grid.to_world((1, 2, 5)))

    def test_nothing_is_copied(self):
        volume = scan(stored_as("RAS"))
        assert np.shares_memory(volume.cropped((slice(1, 3), slice(None), slice(None))).array, volume.array)

    def test_an_empty_part_is_refused(self):
        with pytest.raises(GeometryError, match="empty"):
            scan(stored_as("RAS")).cropped((slice(3, 3), slice(None), slice(None)))
