"""The atlas stays within its bounds, whatever is ticked, and can be asked all the same."""

import numpy as np
import pytest
import torch

from napari_medattn.data import Preparation, Volume
from napari_medattn.events import run_to_end
from napari_medattn.geometry import Grid
from napari_medattn.inference import Predictor
from napari_medattn.look import Atlas, Scene, ask
from napari_medattn.look.atlas import _bytes
from napari_medattn.models import create_model
from napari_medattn.store import Card

COLUMNS = "layer1.0.column_attention"
ROWS = "layer1.0.row_attention"


@pytest.fixture
def scene():
    """Four slices of four tiles each before a MedT."""
    arguments = {"in_channels": 1, "num_classes": 2, "spatial_dims": 2, "image_size": 64, "patches": 2}
    card = Card("axial", "medt", arguments, ("background", "a"), Preparation(), (1, 64, 64))
    predictor = Predictor(create_model("medt", **arguments), card, torch.device("cpu"))
    values = np.random.default_rng(0).normal(size=(1, 4, 128, 128)).astype(np.float32)
    return Scene(Volume(values, Grid.from_spacing((4, 128, 128), (1.0, 1.0, 1.0)), name="noise"), predictor)


@pytest.fixture
def one_by_one(monkeypatch):
    """Tiles go through the network one at a time."""
    monkeypatch.setattr("napari_medattn.look.batches.VOXELS", 1)


class TestMaps:
    def test_few_tiles_at_a_time_give_the_map_of_the_whole_frame(self, scene, one_by_one):
        whole = scene.map_of(scene.glance(1, [COLUMNS]), COLUMNS)
        np.testing.assert_allclose(Atlas(scene).make(1, [COLUMNS]).maps[COLUMNS], whole, rtol=1e-4, atol=1e-6)

    def test_the_work_can_be_left_between_two_forward_passes(self, scene, one_by_one):
        steps = Atlas(scene).make_steps(0, [COLUMNS])
        assert [event.done for event in steps] == [1, 2, 3]

    def test_nothing_is_kept_for_questions_unless_asked_for(self, scene):
        assert Atlas(scene).make(0, [COLUMNS]).glances == []

    def test_least_recently_shown_maps_go_first(self, scene):
        atlas = Atlas(scene, limit=1)
        for frame in (0, 1):
            atlas.keep(atlas.make(frame, [COLUMNS]))
        assert (atlas.knows(0, COLUMNS), atlas.knows(1, COLUMNS)) == (False, True)


class TestQuestions:
    def test_all_tiles_can_be_asked_where_memory_allows(self, scene, one_by_one):
        atlas = Atlas(scene)
        atlas.keep(atlas.make(0, [COLUMNS], [COLUMNS]))
        for voxel in ((0, 0, 0), (0, 0, 127), (0, 127, 0), (0, 127, 127)):
            assert atlas.unheard(scene.locate(voxel), [COLUMNS]) == []

    def test_the_tile_that_is_asked_is_kept_in_any_case(self, scene, one_by_one):
        atlas = Atlas(scene, answers_limit=1)
        spot = scene.locate((2, 100, 10))
        atlas.keep(run_to_end(atlas.make_steps(2, [COLUMNS], [COLUMNS], spot.tile)))
        assert atlas.unheard(spot, [COLUMNS]) == []
        assert atlas.unheard(scene.locate((2, 10, 10)), [COLUMNS]) == [COLUMNS]

    def test_another_tile_is_one_forward_pass_away(self, scene, one_by_one):
        atlas = Atlas(scene, answers_limit=1)
        spot = scene.locate((2, 10, 10))
        atlas.keep(atlas.listen(spot, [COLUMNS]))
        glance = atlas.glance(spot)
        assert len(glance.probabilities) == 1
        asked = ask(scene, glance, COLUMNS, spot).values
        whole = ask(scene, scene.glance(2, [COLUMNS]), COLUMNS, spot).values
        np.testing.assert_allclose(asked, whole, rtol=1e-4, atol=1e-6)

    def test_a_later_site_joins_an_earlier_one(self, scene):
        atlas, spot = Atlas(scene), scene.locate((0, 5, 5))
        for key in (COLUMNS, ROWS):
            atlas.keep(atlas.listen(spot, [key]))
        assert atlas.unheard(spot, [COLUMNS, ROWS]) == []

    def test_records_stay_below_the_limit(self, scene, one_by_one):
        one = _bytes(Atlas(scene).listen(scene.locate((0, 5, 5)), [COLUMNS]).glances[0])
        atlas = Atlas(scene, answers_limit=3 * one)
        for frame in range(4):
            atlas.keep(atlas.make(frame, [COLUMNS], [COLUMNS]))
            assert sum(map(_bytes, atlas._glances.values())) <= 3 * one
        assert len(atlas._glances) == 3
