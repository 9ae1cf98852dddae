"""A volume that is prepared slab by slab is what it is when prepared as a whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st

from napari_medattn.data import Preparation, Volume, prepare
from napari_medattn.data.slabs import Slabs
from napari_medattn.errors import InputError
from napari_medattn.geometry import Grid
from tests.test_geometry import stored_as

SHAPE = (11, 12, 13)


def volume(orientation="RAS", dtype=np.int16, channels=2, shape=SHAPE) -> Volume:
    array = (100 * np.random.default_rng(0).normal(size=(channels, *shape))).astype(dtype)
    return Volume(array, stored_as(orientation, (1.0, 1.1, 1.3), shape), name="scan")


def measured(source: Volume, how: Preparation, **options) -> Slabs:
    slabs = Slabs(source, how, **options)
    for _ in slabs.measure():
        pass
    return slabs


PREPARATIONS = st.builds(
    Preparation,
    orientation=st.sampled_from(["RAS", "LPI", None]),
    spacing=st.sampled_from([None, (1.0, 1.5, 0.7)]),
    intensity=st.sampled_from(["zscore", "window", "none"]),
    neighbours=st.sampled_from([0, 2]),
)


class TestAgreement:
    @given(
        PREPARATIONS,
        st.sampled_from(["RAS", "PSR", "ASL"]),
        st.sampled_from([np.int16, np.float32]),
        st.lists(st.tuples(st.integers(0, 9), st.integers(1, 6)), min_size=1, max_size=4),
    )
    def test_slabs_in_any_order_are_slices_of_the_whole(self, how, orientation, dtype, asked):
        source = volume(orientation, dtype)
        slabs, whole = measured(source, how), prepare(source, how)
        assert slabs.shape == whole.array.shape[1:]
        for first, thick in asked:
            stop = min(first + thick, slabs.shape[0])
            if first < stop:
                expected = whole.array[:, first:stop]
                np.testing.assert_allclose(slabs.slab(first, stop), expected, rtol=1e-5, atol=1e-4)

    def test_voxels_that_are_no_numbers_are_taken_as_the_lowest(self):
        source = volume(dtype=np.float32)
        source.array[0, 3, 4, 5], source.array[1, 0, 0, 0] = np.nan, np.inf
        slabs, whole = measured(source, Preparation()), prepare(source, Preparation())
        np.testing.assert_allclose(slabs.slab(0, 11), whole.array, rtol=1e-5, atol=1e-5)
        assert tuple(slabs.notes) == whole.notes

    def test_a_fixed_window_is_used_as_it_is(self):
        how = Preparation(intensity="window", window=(-50.0, 150.0))
        source = volume()
        np.testing.assert_allclose(measured(source, how).slab(2, 5), prepare(source, how).array[:, 2:5], atol=1e-6)

    def test_a_lazy_array_is_as_good_as_one_in_memory(self):
        from dask import array as da

        source = volume()
        lazy = Volume(da.from_array(source.array, chunks=(1, 1, 12, 13)), source.grid)
        here, there = (measured(one, Preparation()).slab(3, 8) for one in (source, lazy))
        np.testing.assert_array_equal(here, there)


class TestReading:
    def test_no_more_than_a_slab_is_read_at_a_time(self, monkeypatch):
        monkeypatch.setattr("napari_medattn.data.slabs._CHUNK", 2 * 12 * 13)
        read = []

        class Watched(np.ndarray):
            def __getitem__(self, index):
                found = super().__getitem__(index)
                if isinstance(found, np.ndarray) and found.ndim >= 3:
                    read.append(found.size)
                return found

        array = volume(channels=1).array.view(Watched)
        slabs = measured(Volume(array, Grid.from_spacing(SHAPE, (1, 1, 1))), Preparation(orientation=None))
        slabs.slab(0, 2)
        # Turning an axis round is a view of all of it, which reads nothing.
        assert max(size for size in read if size < array.size) <= 2 * 12 * 13

    def test_what_two_slabs_share_is_read_once(self, monkeypatch):
        slabs = measured(volume(), Preparation())
        slabs.slab(0, 6)
        read = []
        plain = slabs._read
        monkeypatch.setattr(slabs, "_read", lambda first, stop: read.append((first, stop)) or plain(first, stop))
        slabs.slab(4, 8)
        assert read == [(6, 8)]

    def test_the_hash_is_of_the_voxels_not_of_how_they_are_stored(self):
        source = volume()
        other = Volume(np.asfortranarray(source.array), source.grid)
        assert measured(source, Preparation()).sha256 == measured(other, Preparation()).sha256

    def test_one_other_voxel_makes_another_hash(self):
        source = volume()
        first = measured(source, Preparation()).sha256
        source.array[0, 5, 5, 5] += 1
        assert measured(source, Preparation()).sha256 != first


class TestBrightness:
    @pytest.mark.parametrize("intensity", ["zscore", "none"])
    def test_it_goes_by_the_images_own_intensities(self, intensity):
        array = np.full((1, 4, 6, 6), -1000, np.int16)
        array[0, 2, 3, 3] = 40
        source = Volume(array, Grid.from_spacing((4, 6, 6), (1, 1, 1)))
        slabs = measured(source, Preparation(intensity=intensity), skip_below=0)
        slabs.slab(0, 2)
        slabs.slab(1, 4)
        assert slabs.bright((slice(1, 3), slice(3, 6), slice(3, 6)))
        assert not slabs.bright((slice(1, 2), slice(0, 6), slice(0, 6)))
        assert not slabs.bright((slice(1, 4), slice(0, 3), slice(0, 6)))


class TestRefusals:
    def test_a_constant_volume(self):
        source = Volume(np.full((1, 4, 4, 4), 7, np.int16), Grid.from_spacing((4, 4, 4), (1, 1, 1)), name="scan")
        with pytest.raises(InputError, match="Every voxel of scan has the value 7: there is nothing"):
            measured(source, Preparation())

    def test_a_volume_without_any_number(self):
        array = np.full((1, 4, 4, 4), np.nan, np.float32)
        with pytest.raises(InputError, match="no finite voxel"):
            measured(Volume(array, Grid.from_spacing((4, 4, 4), (1, 1, 1))), Preparation())
