"""What is known of a part of a map only, on the image."""

import numpy as np
import pytest

from napari_medattn.data import Preparation, Volume, prepare
from napari_medattn.geometry import Grid
from napari_medattn.inference.placement import Placement
from napari_medattn.look import Atlas, Scene
from napari_medattn.look.part_of_map import draw_part, nearest_voxels
from tests.test_look import spotlight


def bright(shape, at, spacing=(1.0, 1.0, 1.0)):
    values = np.zeros((1, *shape), np.float32)
    values[(0, *at)] = 1
    return Volume(values, Grid.from_spacing(shape, spacing), name="spot")


class TestAnswers:
    @pytest.mark.parametrize("asked", [0, 3, 4, 8])
    def test_a_slice_between_those_of_the_network_shows_its_answer(self, asked):
        scene = Scene(bright((9, 16, 16), (asked, 5, 7)), spotlight(2, (1, 16, 16), spacing=(1.5, 1.0, 1.0)))
        assert scene.frames == 6
        atlas = Atlas(scene)
        spot = scene.locate((asked, 5, 7))
        page = atlas.listen(spot, ["pairs"])
        atlas.keep(page)
        from napari_medattn.look import ask

        answer = ask(scene, atlas.glance(spot), "pairs", spot)
        drawn = atlas.draw_answer(answer, None, scene.placement("pairs").everything)
        shown = np.flatnonzero(np.isfinite(drawn).all(axis=(1, 2)))
        assert asked in shown
        assert [scene.locate((z, 5, 7)).frame for z in shown] == [spot.frame] * len(shown)
        assert np.isnan(drawn).any(axis=(1, 2)).sum() == 9 - len(shown)


class TestNearest:
    @pytest.mark.parametrize("size", [4, 9, 20])
    def test_every_slice_is_nearest_to_the_one_that_holds_it(self, size):
        scene = Scene(bright((9, 16, 16), (0, 0, 0)), spotlight(2, (1, 16, 16), spacing=(9 / size, 1.0, 1.0)))
        for z in range(9):
            frame = scene.locate((z, 0, 0)).frame
            assert z in range(9)[nearest_voxels(scene.prepared, 0, slice(frame, frame + 1))]

    def test_no_slice_of_the_network_is_nowhere(self):
        scene = Scene(bright((9, 16, 16), (0, 0, 0)), spotlight(2, (1, 16, 16), spacing=(0.5, 1.0, 1.0)))
        spans = [nearest_voxels(scene.prepared, 0, slice(frame, frame + 1)) for frame in range(scene.frames)]
        assert all(span.stop - span.start == 1 for span in spans)


def test_beyond_a_part_nothing_is_known():
    prepared = prepare(bright((8, 8, 8), (0, 0, 0)), Preparation())
    placement = Placement(prepared, (8, 8, 8), (1, 1, 1))
    drawn = draw_part(placement, np.ones((1, 4, 4, 4), np.float32), (2, 2, 2), placement.everything)[0]
    assert (drawn[2:6, 2:6, 2:6] == 1).all()
    assert np.isfinite(drawn).sum() == 64
