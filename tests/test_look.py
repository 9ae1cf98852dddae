"""Looking at a scan: maps lie where the network attends, and a question is answered with the row of the full matrix."""

from __future__ import annotations

import itertools

import nibabel as nib
import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from torch import nn
from torch.nn import functional as F

from napari_medattn.attention import capture_attention
from napari_medattn.attention.composition import through_block
from napari_medattn.data import Preparation, Volume, prepare
from napari_medattn.data.prepare import resample
from napari_medattn.errors import InputError
from napari_medattn.geometry import Grid
from napari_medattn.inference import Predictor, segment
from napari_medattn.inference.placement import Placement
from napari_medattn.look import Atlas, Scene, ask, can_ask
from napari_medattn.models import AttentionSite, attention_sites, create_model
from napari_medattn.models.tap import Tap
from napari_medattn.store import Card
from tests.test_geometry import stored_as

CPU = torch.device("cpu")
ORIENTATIONS = ("RAS", "LPS", "PIR", "ASL")


class Site(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tap = Tap()


class Spotlight(nn.Module):
    """Its gate is open where the image is bright, voxel by voxel; every query attends to the brightest voxel alone."""

    def __init__(self, dims: int) -> None:
        super().__init__()
        self.stride, self.gate, self.pairs = (4,) * dims, Site(), Site()

    def sites(self) -> list[AttentionSite]:
        one, axes = (1,) * len(self.stride), tuple(range(2, 2 + len(self.stride)))
        return [
            AttentionSite("gate", ("gate",), "gate", one),
            AttentionSite("pairs", ("pairs",), "pairwise", one, normalisation="softmax", sums_to_one=axes),
        ]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        bright = (x[:, :1] > 0.5).float()
        self.gate.tap.emit(gate=bright)
        self.pairs.tap.emit(queries=torch.full_like(bright, 50.0)[:, None], keys=bright[:, None])
        return torch.cat([1 - bright, bright], dim=1) * 9


def oblique(shape: tuple[int, int, int], orientation: str, angle: float = 0.0) -> Grid:
    """A grid (Z, Y, X) of uneven voxels with these world directions, turned a little about the world's axes."""
    stored = stored_as(orientation, (0.7, 1.5, 2.0), shape)
    turn = nib.affines.from_matvec(nib.eulerangles.euler2mat(angle, angle / 2, angle / 3), [3.0, -1.0, 2.0])
    return Grid(shape, turn @ stored.affine)


def with_spot(grid: Grid, at: tuple[int, int, int], spatial_dims: int = 3) -> Volume:
    """A dark volume with one bright voxel."""
    array = np.zeros((1, *grid.shape), np.float32)
    array[(0, *at)] = 1
    return Volume(array, grid, name="spot", spatial_dims=spatial_dims)


def spotlight(dims: int, tile: tuple[int, int, int], spacing=None) -> Predictor:
    how = Preparation(orientation="RAS", spacing=spacing, intensity="none")
    card = Card(
        "spotlight",
        "spotlight",
        {"in_channels": 1, "num_classes": 2, "spatial_dims": dims},
        ("background", "a"),
        how,
        tile,
    )
    return Predictor(Spotlight(dims), card, CPU)


def small(network: str, **options) -> Predictor:
    arguments = {"in_channels": 1, "num_classes": 2, "spatial_dims": 2, **options}
    size = options.get("image_size", 64)
    card = Card(network, network, arguments, ("background", "a"), Preparation(orientation=None), (1, size, size))
    torch.manual_seed(0)
    return Predictor(create_model(network, variant="small", **arguments), card, CPU)


@pytest.fixture
def noise() -> Volume:
    values = np.random.default_rng(0).normal(size=(1, 5, 90, 70)).astype(np.float32)
    return Volume(values, Grid.from_spacing((5, 90, 70), (3.0, 1.0, 1.0)), name="noise")


@pytest.fixture(params=["dae_former", "self_guided", "medt"])
def scene(request, noise) -> Scene:
    options = {"image_size": 64, "patches": 2} if request.param == "medt" else {}
    return Scene(noise, small(request.param, **options))


class TestPlacement:
    @given(
        orientation=st.sampled_from(ORIENTATIONS),
        shape=st.tuples(*[st.integers(3, 14)] * 3),
        stride=st.sampled_from([(1, 2, 2), (1, 4, 4), (2, 2, 2), (4, 4, 4)]),
        spacing=st.sampled_from([None, (1.0, 1.0, 1.0), (2.5, 0.5, 1.1)]),
    )
    def test_it_is_the_way_of_restore(self, orientation, shape, stride, spacing):
        rng = np.random.default_rng(0)
        volume = Volume(rng.normal(size=(1, *shape)).astype(np.float32), oblique(shape, orientation), name="a")
        prepared = prepare(volume, Preparation(orientation="RAS", spacing=spacing))
        inside = prepared.array.shape[1:]
        padded = tuple(-(-n // step) * step for n, step in zip(inside, stride, strict=True))
        values = rng.normal(size=(2, *(n // s for n, s in zip(padded, stride, strict=True)))).astype(np.float32)
        fine = resample(values, padded)
        expected = prepared.restore(fine[:, : inside[0], : inside[1], : inside[2]])
        placement = Placement(prepared, padded, stride)
        whole = placement.everything
        found = placement.draw(values[(slice(None), *placement.needed(whole))], whole)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
        box = (slice(1, 2), slice(0, shape[1]), slice(1, shape[2]))
        part = placement.draw(values[(slice(None), *placement.needed(box))], box)
        np.testing.assert_allclose(part, expected[(slice(None), *box)], rtol=1e-4, atol=1e-5)

    def test_what_rests_on_unknown_positions_is_nan(self):
        volume = Volume(
            np.ones((1, 6, 4, 4), np.float32) * np.arange(4, dtype=np.float32), Grid.from_spacing((6, 4, 4), (1, 1, 1))
        )
        placement = Placement(prepare(volume, Preparation()), (6, 4, 4), (1, 1, 1))
        known = np.array([True, True, False, True, True, True])
        values = np.ones((1, 6, 4, 4), np.float32)
        values[:, 2] = np.nan
        drawn = placement.draw(values, placement.everything, (known, None, None))
        lost = np.isnan(drawn[0]).all(axis=(1, 2))
        assert lost.sum() == 1
        np.testing.assert_array_equal(drawn[0][~lost], 1)


class TestPlace:
    """Attention that is known to sit on one voxel is shown on exactly that voxel of the world."""

    @pytest.mark.parametrize("orientation", ORIENTATIONS)
    @pytest.mark.parametrize("angle", [0.0, 0.15])
    @pytest.mark.parametrize(
        ("dims", "tile"), [(2, (1, 64, 64)), (2, (1, 8, 8)), (3, (32, 32, 32)), (3, (8, 8, 8))], ids=str
    )
    def test_of_a_volume(self, orientation, angle, dims, tile):
        grid, at = oblique((9, 13, 11), orientation, angle=angle), (6, 3, 9)
        scene = Scene(with_spot(grid, at), spotlight(dims, tile))
        atlas, spot = Atlas(scene), scene.locate(at)
        atlas.keep(atlas.make(spot.frame, ["gate", "pairs"], ["pairs"]))
        for key in ("gate", "pairs"):
            drawn = atlas.draw(key, None, scene.placement(key).everything)
            assert np.unravel_index(np.nanargmax(drawn), drawn.shape) == at
            assert np.nansum(drawn > 0.5 * np.nanmax(drawn)) == 1
        answer = ask(scene, atlas.glance(spot), "pairs", spot)
        drawn = atlas.draw_answer(answer, None, scene.placement("pairs").everything)
        assert np.unravel_index(np.nanargmax(drawn), drawn.shape) == at

    def test_of_a_single_slice(self):
        grid = Grid.from_spacing((1, 13, 11), (1.0, 0.5, 0.5))
        scene = Scene(with_spot(grid, (0, 3, 9), 2), spotlight(2, (1, 64, 64)))
        atlas = Atlas(scene)
        atlas.keep(atlas.make(0, ["gate"]))
        drawn = atlas.draw("gate", None, scene.placement("gate").everything)
        assert np.unravel_index(drawn.argmax(), drawn.shape) == (0, 3, 9)

    def test_of_a_resampled_volume(self):
        grid, at = oblique((9, 13, 11), "LPS"), (6, 3, 9)
        scene = Scene(with_spot(grid, at), spotlight(2, (1, 64, 64), spacing=(1.0, 0.5, 0.35)))
        whole = segment(scene.volume, scene.predictor, attention=["gate"]).attention["gate"]
        peak = np.unravel_index(whole.on_image()[0].argmax(), grid.shape)
        assert peak == at

    @given(st.tuples(st.integers(0, 8), st.integers(0, 12), st.integers(0, 10)))
    def test_every_voxel_is_found_in_its_tile(self, at):
        scene = Scene(with_spot(oblique((9, 13, 11), "PIR"), at), spotlight(3, (8, 8, 8)))
        spot = scene.locate(at)
        tile = scene.tiles(spot.frame)[spot.tile, 0]
        assert tile[spot.position] == 1

    def test_a_voxel_outside_is_refused(self, scene):
        with pytest.raises(InputError, match="outside"):
            scene.locate((0, 90, 3))


class TestFrames:
    def test_all_frames_together_are_the_map_of_the_whole_volume(self, scene):
        key = next(key for key, site in scene.predictor.sites.items() if site.spatial)
        whole = segment(scene.volume, scene.predictor, attention=[key]).attention[key]
        for frame in range(scene.frames):
            found = scene.map_of(scene.glance(frame, [key]), key)
            expected = whole.values[(slice(None), *scene.span(frame, key))]
            np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)

    def test_an_unknown_site_is_refused(self, scene):
        with pytest.raises(InputError, match="no attention site"):
            scene.site("nowhere")


class TestAtlas:
    def test_it_forgets_the_oldest_maps_beyond_its_limit(self, scene):
        key = next(key for key, site in scene.predictor.sites.items() if site.spatial)
        first = Atlas(scene)
        first.keep(first.make(0, [key]))
        atlas = Atlas(scene, limit=2 * first.bytes)
        for frame in range(4):
            atlas.keep(atlas.make(frame, [key]))
        assert atlas.bytes <= atlas.limit
        assert [atlas.knows(frame, key) for frame in range(4)] == [False, False, True, True]

    def test_what_is_in_view_is_forgotten_last(self, scene):
        key = next(key for key, site in scene.predictor.sites.items() if site.spatial)
        atlas = Atlas(scene)
        atlas.keep(atlas.make(0, [key]))
        atlas.limit = 2 * atlas.bytes
        atlas.keep(atlas.make(1, [key]))
        atlas.show(0, [key])
        atlas.keep(atlas.make(2, [key]))
        assert [atlas.knows(frame, key) for frame in range(3)] == [True, False, True]

    def test_making_the_same_frame_twice_counts_once(self, scene):
        key = next(key for key, site in scene.predictor.sites.items() if site.spatial)
        atlas = Atlas(scene)
        page = atlas.make(0, [key])
        atlas.keep(page)
        once = atlas.bytes
        atlas.keep(page)
        assert atlas.bytes == once
        assert atlas.missing(0, [key]) == []


class TestQuestions:
    def full_matrix(self, model, key: str, x: torch.Tensor) -> tuple[torch.Tensor, tuple[int, ...]]:
        """All rows of the first head, by asking nothing but the records' documented tensors."""
        with torch.inference_mode(), capture_attention(model, [key]) as capture:
            model(x)
        record = capture[key]
        count = int(np.prod(record.grid))
        if record.site.kind == "pairwise":
            return (record.queries.flatten(3)[0, 0].T @ record.keys.flatten(3)[0, 0]).softmax(-1), record.grid
        if record.site.kind == "factored":
            return record.queries.flatten(3)[0, 0].T @ record.keys.flatten(3)[0, 0], record.grid
        full = torch.zeros(*record.grid, *record.grid)
        _, rows, columns, lines, _, length, _ = record.weights.shape
        for row, column, line in itertools.product(range(rows), range(columns), range(lines)):
            part = record.weights[0, row, column, line, 0]
            if record.site.axis == 2:
                x_at, begin = column * lines + line, row * length
                full[begin : begin + length, x_at, begin : begin + length, x_at] = part
            else:
                y_at, begin = row * lines + line, column * length
                full[y_at, begin : begin + length, y_at, begin : begin + length] = part
        return full.view(count, count), record.grid

    def test_a_query_is_a_row_and_its_reverse_a_column_of_the_full_matrix(self, scene):
        model, x = scene.predictor.model, torch.from_numpy(scene.tiles(2)[:1, :, 0])
        for site in attention_sites(model):
            if not can_ask(site):
                continue
            full, grid = self.full_matrix(model, site.key, x)
            with torch.inference_mode(), capture_attention(model, [site.key]) as capture:
                model(x)
            position = tuple(n // 3 for n in grid)
            index = int(np.ravel_multi_index(position, grid))
            record = capture[site.key]
            torch.testing.assert_close(record.query(position)[0, 0].flatten(), full[index], rtol=1e-3, atol=1e-6)
            torch.testing.assert_close(record.received(position)[0, 0].flatten(), full[:, index], rtol=1e-3, atol=1e-6)
            total = 1.0 if site.kind != "axial" else float(full[index].sum())
            assert float(record.query(position)[0, 0].sum()) == pytest.approx(total, rel=1e-3)

    def test_rows_and_columns_compose_to_their_product(self, noise):
        scene = Scene(noise, small("medt", image_size=64, patches=2))
        columns, rows = "local.layer2.1.column_attention", "local.layer2.1.row_attention"
        x = torch.from_numpy(scene.tiles(1)[:1, :, 0])
        along, grid = self.full_matrix(scene.predictor.model, rows, x)
        down, _ = self.full_matrix(scene.predictor.model, columns, x)
        records = scene.glance(1, [columns, rows]).records
        position = (grid[0] - 2, 3)
        found = through_block(records[rows], records[columns], position)[0, 0].flatten()
        expected = (along @ down)[int(np.ravel_multi_index(position, grid))]
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-6)
        assert float(found.sum()) == pytest.approx(1, rel=1e-3)

    def test_halves_of_different_blocks_do_not_compose(self, noise):
        scene = Scene(noise, small("medt", image_size=64, patches=2))
        records = scene.glance(0, ["layer1.0.column_attention", "layer2.1.row_attention"]).records
        with pytest.raises(InputError, match="one block"):
            through_block(*records.values(), (0, 0))

    def test_a_site_that_was_not_listened_to_cannot_be_asked(self, scene):
        keys = [key for key, site in scene.predictor.sites.items() if can_ask(site)]
        spot = scene.locate((2, 40, 40))
        with pytest.raises(InputError, match="not listened"):
            ask(scene, scene.glance(spot.frame, keys[:1]), keys[1], spot)

    def test_an_even_row_is_one_everywhere(self):
        grid = Grid.from_spacing((1, 16, 16), (1.0, 1.0, 1.0))
        dark = Volume(np.zeros((1, 1, 16, 16), np.float32), grid, name="dark", spatial_dims=2)
        dark.array[0, 0, 0, 0] = 0.4  # below the threshold, but not a constant image
        scene = Scene(dark, spotlight(2, (1, 16, 16)))
        spot = scene.locate((0, 5, 5))
        answer = ask(scene, scene.glance(0, ["pairs"]), "pairs", spot)
        np.testing.assert_allclose(answer.values, 1, rtol=1e-5)


def test_interpolation_is_what_torch_calls_it():
    """The placement agrees with another library about where the centres of positions lie."""
    values = np.random.default_rng(1).normal(size=(1, 1, 6, 5)).astype(np.float32)
    grid = Grid.from_spacing((1, 24, 20), (1.0, 1.0, 1.0))
    volume = Volume(np.ones((1, 1, 24, 20), np.float32) * np.arange(20, dtype=np.float32), grid, spatial_dims=2)
    placement = Placement(prepare(volume, Preparation()), (1, 24, 20), (1, 4, 4))
    expected = F.interpolate(torch.from_numpy(values), (24, 20), mode="bilinear", align_corners=False).numpy()
    np.testing.assert_allclose(placement.draw(values, placement.everything), expected, atol=1e-6)
