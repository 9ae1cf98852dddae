"""Across the network on a scan: a row for every head, in mm on the image; rollout on the image."""

import csv

import numpy as np
import pytest
import torch

from napari_medattn.attention import capture_attention
from napari_medattn.attention.rollout import streams
from napari_medattn.data import Preparation, Volume
from napari_medattn.errors import InputError, SaveError
from napari_medattn.events import Progress, run_to_end
from napari_medattn.geometry import Grid
from napari_medattn.inference import Predictor
from napari_medattn.look import Scene
from napari_medattn.look.across import across_steps, save_rows, sort_rows
from napari_medattn.look.batches import inside, steps_of
from napari_medattn.look.rolling import rollout_steps
from napari_medattn.models import create_model, get_spec, list_models
from napari_medattn.store import Card

ROWS = ("pairwise", "factored", "axial")


def a_scan(shape=(3, 40, 56), spacing=(3.0, 0.5, 1.0), units="mm") -> Volume:
    values = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
    return Volume(values, Grid.from_spacing(shape, spacing, units))


def a_predictor(name, dims=2, tile=(1, 64, 64), preparation=Preparation(), **options) -> Predictor:  # noqa: B008
    if not options and "small" in get_spec(name).variants:
        options = {"variant": "small"}
    torch.manual_seed(0)
    model = create_model(name, in_channels=1, num_classes=2, spatial_dims=dims, **options)
    arguments = {"in_channels": 1, "num_classes": 2, "spatial_dims": dims}
    return Predictor(model, Card("a", name, arguments, ("background", "b"), preparation, tile), torch.device("cpu"))


@pytest.fixture(scope="module")
def dae() -> Predictor:
    return a_predictor("dae_former", widths=[8, 16, 24])


@pytest.fixture(scope="module")
def scene(dae) -> Scene:
    return Scene(a_scan(), dae)


class TestEverySite:
    @pytest.mark.parametrize(("name", "dims"), [(name, dims) for name in list_models() for dims in get_spec(name).dims])
    def test_of_the_whole_registry_has_a_row_for_each_head(self, name, dims):
        predictor = a_predictor(name, dims, (1, 64, 64) if dims == 2 else (16, 32, 32))
        rows = run_to_end(across_steps(Scene(a_scan((16, 32, 40)), predictor), [0]))
        sites = predictor.sites.values()
        assert [(row.key, row.head) for row in rows] == [(one.key, head) for one in sites for head in range(one.heads)]
        for row in rows:
            assert row.entropy is None or 0 <= row.entropy <= 1
            assert (row.distance is not None) == (row.kind in ROWS)
            assert row.unit == ("mm" if row.kind in ROWS else "")
            assert row.distance is not None or row.note  # never left out without a word

    def test_untrained_attention_is_nearly_even(self, scene):
        rows = [row for row in run_to_end(across_steps(scene)) if row.kind == "factored"]
        for row in rows:
            assert row.entropy > 0.9
            assert row.distance == pytest.approx(row.even_distance, rel=0.3)


class TestFrames:
    def test_each_tile_goes_through_the_network_once(self, dae, monkeypatch):
        scene = Scene(a_scan((2, 40, 100)), dae)
        seen, run = [], dae.run
        monkeypatch.setattr(dae, "run", lambda tiles, sites: seen.append(len(tiles)) or run(tiles, sites))
        run_to_end(across_steps(scene, [1]))
        assert sum(seen) == len(scene.starts(1)) > 1

    def test_frames_are_pooled(self, scene):
        key = ["encode1.block1.efficient"]
        each = [run_to_end(across_steps(scene, [frame], key))[0].distance for frame in range(3)]
        assert run_to_end(across_steps(scene, None, key))[0].distance == pytest.approx(np.mean(each))

    def test_progress_counts_tiles_and_it_can_be_left(self, scene):
        steps = across_steps(scene)
        first = next(steps)
        assert isinstance(first, Progress)
        assert (first.done, first.total) == (0, len(scene.plan))
        steps.close()

    def test_an_unknown_site_is_refused(self, scene):
        with pytest.raises(InputError, match="no attention site"):
            run_to_end(across_steps(scene, [0], ["nowhere"]))


class TestSteps:
    def test_the_voxel_size_times_the_stride(self, scene):
        assert steps_of(scene, "encode1.block1.efficient") == ((2.0, 4.0), "mm")
        assert steps_of(scene, "encode3.block1.efficient") == ((8.0, 16.0), "mm")

    def test_resampling_is_taken_back(self):
        predictor = a_predictor("dae_former", preparation=Preparation(spacing=(3.0, 1.0, 2.0)), widths=[8, 16, 24])
        scene = Scene(a_scan(), predictor)
        assert scene.prepared.array.shape[1:] == (3, 20, 28)
        assert steps_of(scene, "encode1.block1.efficient") == ((4.0, 8.0), "mm")

    def test_axes_that_are_turned(self, dae):
        shape = (56, 40, 3)
        affine = np.array([[0, 0, 3.0, 0], [0, 0.5, 0, 0], [1.0, 0, 0, 0], [0, 0, 0, 1]])  # x of the array runs upwards
        values = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
        scene = Scene(Volume(values, Grid(shape, affine)), dae)
        assert scene.prepared.array.shape[1:] == (3, 40, 56)
        assert steps_of(scene, "encode1.block1.efficient") == ((2.0, 12.0), "mm")

    def test_without_a_voxel_size_it_counts_voxels(self, dae):
        scene = Scene(a_scan(spacing=(1.0, 0.3, 0.3), units="pixel"), dae)
        assert steps_of(scene, "encode1.block1.efficient") == ((4.0, 4.0), "voxels")
        assert run_to_end(across_steps(scene, [0]))[0].unit == "voxels"

    def test_distances_scale_with_the_voxel_size(self, dae):
        near, far = (
            run_to_end(across_steps(Scene(a_scan(spacing=(1.0, size, size)), dae), [0], ["encode1.block1.efficient"]))
            for size in (1.0, 2.0)
        )
        assert far[0].distance == pytest.approx(2 * near[0].distance)
        assert far[0].entropy == pytest.approx(near[0].entropy)

    def test_padding_is_not_inside(self, scene):
        # 40 x 56 voxels in a tile of 48 x 64: at stride 16 three rows of three positions and a half.
        mask = inside(scene, scene.starts(0), "encode3.block1.efficient")
        assert mask.shape == (1, 3, 4)
        assert mask.all()  # every position covers a part of the scan
        mask = inside(scene, scene.starts(0), "encode1.block1.efficient")
        assert mask[0].sum(dim=0).tolist() == [10] * 14 + [0] * 2


class TestTable:
    def test_it_sorts_by_number_and_leaves_what_is_undefined_last(self):
        rows = run_to_end(across_steps(Scene(a_scan((1, 32, 32)), a_predictor("self_guided")), [0]))
        for descending in (False, True):
            found = [row.distance for row in sort_rows(rows, "distance", descending=descending)]
            known = [value for value in found if value is not None]
            assert known == sorted(known, reverse=descending)
            assert found[len(known) :] == [None] * (len(found) - len(known))
            assert len(known) < len(found)

    def test_it_is_saved_as_csv(self, scene, tmp_path):
        rows = run_to_end(across_steps(scene, [0]))
        save_rows(rows, tmp_path / "heads.csv")
        with (tmp_path / "heads.csv").open(encoding="utf-8", newline="") as file:
            found = list(csv.DictReader(file))
        assert [row["title"] for row in found] == [row.title for row in rows]
        assert float(found[0]["distance"]) == rows[0].distance
        assert found[1]["distance"] == ""

    def test_a_folder_that_is_not_there_is_an_error_with_a_remedy(self, tmp_path):
        with pytest.raises(SaveError):
            save_rows([], tmp_path / "nowhere" / "heads.csv")


class TestRollout:
    def test_a_voxel_is_asked_where_it_lies(self, scene):
        # Half of a block's weight stays where it is, so the voxel itself has most of it.
        found = run_to_end(rollout_steps(scene, "encoder 1", voxel=(1, 21, 33))).part.on_image()
        z, y, x = np.unravel_index(np.nanargmax(found), found.shape)
        assert z == 1
        assert abs(y - 21) <= 2
        assert abs(x - 33) <= 2

    def test_other_slices_are_not_known(self, scene):
        found = run_to_end(rollout_steps(scene, "encoder 1", voxel=(1, 21, 33))).part.on_image()
        assert found.shape == scene.volume.grid.shape
        assert np.isfinite(found).all(axis=(1, 2)).tolist() == [False, True, False]
        assert np.isnan(found[[0, 2]]).all()

    def test_it_is_in_multiples_of_an_even_share(self, scene):
        found = run_to_end(rollout_steps(scene, "encoder 2", voxel=(0, 3, 3)))
        assert found.part.values.mean() == pytest.approx(1, rel=1e-4)
        found = run_to_end(rollout_steps(scene, "encoder 2", frame=2))
        assert found.part.values.mean() == pytest.approx(1, rel=1e-4)

    def test_of_several_tiles_only_the_voxels_own_is_reached(self, dae):
        scene = Scene(a_scan((1, 40, 200)), dae)
        found = run_to_end(rollout_steps(scene, "encoder 1", voxel=(0, 20, 3))).part.on_image()
        spot = scene.locate((0, 20, 3))
        assert spot.tile == 0
        assert found[0, :, :60].min() > 0
        assert found[0, :, 70:].max() == 0

    def test_a_site_stands_for_its_stream(self, scene):
        found = run_to_end(rollout_steps(scene, "decode1.block2.efficient", frame=0))
        assert found.stream.name == "decoder 1"
        assert len(found.stream.blocks) == 3

    def test_where_it_is_not_defined_the_reason_is_said(self, scene):
        with pytest.raises(InputError, match="moves nothing between positions"):
            run_to_end(rollout_steps(scene, "encode1.block1.channel", frame=0))

    def test_a_voxel_outside_is_refused(self, scene):
        with pytest.raises(InputError, match="outside"):
            run_to_end(rollout_steps(scene, "encoder 1", voxel=(0, 500, 0)))

    def test_slices_between_those_of_the_network_are_drawn_too(self):
        # The network sees slices of 2 mm where the scan has 1 mm: each stands for two.
        predictor = a_predictor("dae_former", preparation=Preparation(spacing=(2.0, 1.0, 1.0)), widths=[8, 16, 24])
        scene = Scene(a_scan((8, 32, 32), (1.0, 1.0, 1.0)), predictor)
        found = run_to_end(rollout_steps(scene, "encoder 1", voxel=(5, 16, 16))).part.on_image()
        assert np.flatnonzero(np.isfinite(found).all(axis=(1, 2))).tolist() == [4, 5]


def test_streams_are_found_in_a_network_prepared_for_inference(dae):
    with torch.no_grad(), capture_attention(dae.model) as records:
        dae.model(torch.randn(1, 1, 32, 32))
    assert all(key in records for stream in streams(dae.sites.values()) for key in stream.keys)
