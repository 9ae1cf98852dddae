"""Tiles: nothing is left out, nothing is moved."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, strategies as st

from napari_medattn.data.tiles import Stitcher, cut, gaussian, plan_tiles

SHAPES = st.tuples(st.integers(1, 24), st.integers(1, 40), st.integers(1, 40))
TILES = st.tuples(st.sampled_from([4, 8, 12]), st.sampled_from([8, 16]), st.sampled_from([5, 16, 20]))
STRIDES = st.sampled_from([(1, 1, 1), (1, 4, 4), (2, 4, 4), (4, 4, 4)])
OVERLAPS = st.sampled_from([0.0, 0.25, 0.5, 0.9])


def run(array, plan, network, channels, stride=(1, 1, 1)):
    stitcher = Stitcher(plan, channels, stride)
    for start in plan.starts:
        stitcher.add(start, network(cut(array, plan, start)))
    return stitcher.result()


class TestPlan:
    @given(SHAPES, TILES, STRIDES, OVERLAPS)
    def test_every_voxel_is_covered(self, shape, tile, stride, overlap):
        plan = plan_tiles(shape, tile, stride, overlap)
        covered = np.zeros(plan.padded, bool)
        for start in plan.starts:
            covered[tuple(slice(a, a + n) for a, n in zip(start, plan.tile, strict=True))] = True
        assert covered.all()

    @given(SHAPES, TILES, STRIDES, OVERLAPS)
    def test_tiles_begin_on_multiples_of_the_stride(self, shape, tile, stride, overlap):
        plan = plan_tiles(shape, tile, stride, overlap)
        assert not any(a % s for start in plan.starts for a, s in zip(start, stride, strict=True))

    @given(SHAPES, TILES, STRIDES, OVERLAPS)
    def test_tiles_are_sized_in_multiples_of_the_stride(self, shape, tile, stride, overlap):
        plan = plan_tiles(shape, tile, stride, overlap)
        assert not any(n % s for n, s in zip(plan.tile, stride, strict=True))

    @given(SHAPES, TILES, STRIDES, OVERLAPS)
    def test_no_tile_is_run_twice(self, shape, tile, stride, overlap):
        starts = plan_tiles(shape, tile, stride, overlap).starts
        assert len(set(starts)) == len(starts)

    def test_neighbours_share_the_overlap_that_was_asked_for(self):
        plan = plan_tiles((1, 1, 100), (1, 1, 16), (1, 1, 4), overlap=0.25)
        starts = [x for _, _, x in plan.starts]
        assert max(np.diff(starts)) == 12

    def test_a_small_volume_is_one_tile(self):
        assert len(plan_tiles((5, 20, 20), (16, 64, 64), (1, 16, 16))) == 1


class TestCut:
    def test_a_tile_holds_the_voxels_at_its_place(self):
        array = np.arange(8 * 8 * 8, dtype=np.float32).reshape(1, 8, 8, 8)
        plan = plan_tiles((8, 8, 8), (4, 4, 4), (4, 4, 4), overlap=0)
        np.testing.assert_array_equal(cut(array, plan, (4, 0, 4)), array[:, 4:8, 0:4, 4:8])

    def test_outside_the_volume_the_edge_goes_on(self):
        array = np.arange(5, dtype=np.float32).reshape(1, 1, 1, 5)
        plan = plan_tiles((1, 1, 5), (1, 1, 8), (1, 1, 8))
        np.testing.assert_array_equal(cut(array, plan, (0, 0, 0)).ravel(), [0, 1, 2, 3, 4, 4, 4, 4])


class TestStitcher:
    @given(SHAPES, TILES, STRIDES, OVERLAPS)
    def test_an_identity_network_gives_its_input_back(self, shape, tile, stride, overlap):
        array = np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)
        plan = plan_tiles(shape, tile, stride, overlap)
        z, y, x = shape
        result = run(array, plan, lambda values: values, channels=2)
        np.testing.assert_allclose(result[:, :z, :y, :x], array, atol=1e-5)

    @given(SHAPES, TILES, OVERLAPS)
    def test_a_coarse_output_lands_at_its_place(self, shape, tile, overlap):
        """A network that returns every fourth voxel gives every fourth voxel of the whole."""
        stride = (1, 4, 4)
        plan = plan_tiles(shape, tile, stride, overlap)
        z, y, x = np.indices(plan.padded, dtype=np.float32)
        padded = np.stack([z, y, x])
        stitcher = Stitcher(plan, 3, stride)
        for start in plan.starts:
            box = tuple(slice(a, a + n) for a, n in zip(start, plan.tile, strict=True))
            stitcher.add(start, padded[(slice(None), *box)][:, :, ::4, ::4])
        np.testing.assert_allclose(stitcher.result(), padded[:, :, ::4, ::4], atol=1e-4)

    def test_where_tiles_disagree_the_nearer_centre_counts_more(self):
        plan = plan_tiles((1, 1, 12), (1, 1, 8), (1, 1, 4), overlap=0.5)
        assert plan.starts == ((0, 0, 0), (0, 0, 4))
        stitcher = Stitcher(plan, 1)
        for start, value in zip(plan.starts, (0.0, 1.0), strict=True):
            stitcher.add(start, np.full((1, *plan.tile), value, np.float32))
        shared = stitcher.result()[0, 0, 0, 4:8]
        assert (np.diff(shared) > 0).all()

    def test_asking_twice_gives_the_same_result(self):
        array = np.ones((1, 4, 8, 20), np.float32)
        plan = plan_tiles((4, 8, 20), (4, 8, 8), (1, 1, 1), overlap=0.5)
        stitcher = Stitcher(plan, 1)
        for start in plan.starts:
            stitcher.add(start, cut(array, plan, start))
        first = stitcher.result().copy()
        np.testing.assert_array_equal(stitcher.result(), first)

    @pytest.mark.parametrize("size", [(1, 1, 1), (1, 16, 16), (64, 64, 64)])
    def test_no_voxel_of_a_tile_is_without_weight(self, size):
        assert gaussian(size).min() >= 1e-3
