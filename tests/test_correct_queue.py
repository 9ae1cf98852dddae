"""The review queue: the slices that are worth most come first, those that are done never."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from napari_medattn.correct.queue import REASONS, Evidence, Weights, evidence_steps, rank
from napari_medattn.data.phantom import phantom
from napari_medattn.errors import GeometryError, InputError
from napari_medattn.events import run_to_end
from napari_medattn.inference import Predictor, segment
from napari_medattn.store import load_checkpoint
from tests.correct_tools import ball

SHAPE = (6, 12, 14)
EMPTY = np.zeros(SHAPE, np.uint8)


def doubt(**slices):
    """Uncertainty with so many doubtful voxels per slice."""
    found = np.zeros(SHAPE, np.float32)
    for name, count in slices.items():
        found[int(name[1:])].flat[:count] = 1
    return Evidence(found)


def indices(places):
    return [place.index for place in places]


class TestOrder:
    def test_the_most_uncertain_slice_is_first(self):
        assert indices(rank(EMPTY, doubt(z1=3, z4=9, z2=5))) == [4, 2, 1]

    def test_equal_ones_by_index(self):
        assert indices(rank(EMPTY, doubt(z5=3, z0=3, z2=3))) == [0, 2, 5]

    def test_scores_are_shares(self):
        places = rank(EMPTY, doubt(z1=3, z4=9))
        assert [place.score for place in places] == pytest.approx([0.75, 0.25])

    def test_sums_count_and_not_means(self):
        found = np.zeros(SHAPE, np.float32)
        found[1, 0, 0], found[2] = 1, 0.1
        assert rank(EMPTY, Evidence(found))[0].index == 2

    def test_a_slice_unlike_its_neighbours_is_found_without_a_network(self):
        labels = np.ones(SHAPE, np.uint8)
        labels[3, 4:8, 4:8] = 2
        place = rank(labels)[0]
        assert (place.index, place.reason) == (3, "unlike its neighbours")

    def test_along_another_axis(self):
        labels = np.ones(SHAPE, np.uint8)
        labels[:, :, 9] = 2
        place = rank(labels, axis=2)[0]
        assert (place.axis, place.index) == (2, 9)

    def test_twice_the_same(self):
        evidence = Evidence(np.random.default_rng(0).random(SHAPE, np.float32))
        assert rank(EMPTY, evidence) == rank(EMPTY, evidence)

    def test_so_many_and_no_more(self):
        assert len(rank(EMPTY, doubt(z1=3, z4=9, z2=5), count=2)) == 2

    def test_weights_choose_what_counts(self):
        found = [np.zeros(SHAPE, np.float32) for _ in range(3)]
        for number, values in enumerate(found):
            values[number] = 1
        evidence = Evidence(*found)
        for number, name in enumerate(("uncertainty", "disagreement", "attention")):
            only = Weights(**{**dict.fromkeys(("uncertainty", "roughness"), 0.0), name: 1.0})
            place = rank(EMPTY, evidence, weights=only)[0]
            assert (place.index, place.reason) == (number, REASONS[name])

    def test_attention_inside_the_object_is_no_sign(self):
        labels = ball(SHAPE, (3, 6, 7), 2).astype(np.uint8)
        only = Weights(0, 0, 0, 1)
        assert rank(labels, Evidence(attention=labels.astype(np.float32)), weights=only) == ()

    def test_nothing_suspicious_nothing_to_review(self):
        assert rank(EMPTY) == ()
        assert rank(EMPTY, doubt()) == ()


class TestDone:
    def test_slices_that_are_done_are_left_out(self):
        assert indices(rank(EMPTY, doubt(z1=3, z4=9, z2=5), done=[4, 1])) == [2]

    def test_voxels_that_a_person_vouches_for_are_not_suspicious(self):
        trusted = np.zeros(SHAPE, bool)
        trusted[4, :, 2:] = True
        evidence = doubt(z1=3, z4=9)
        assert indices(rank(EMPTY, evidence, trusted=trusted)) == [1, 4]
        trusted[4] = True
        assert indices(rank(EMPTY, evidence, trusted=trusted)) == [1]


class TestBox:
    def test_it_holds_what_is_suspicious(self):
        found = np.zeros((3, 60, 70), np.float32)
        found[1, 30:34, 40:46] = 1
        place = rank(np.zeros(found.shape, np.uint8), Evidence(found))[0]
        assert place.box == (slice(1, 2), slice(26, 38), slice(36, 50))

    def test_along_another_axis(self):
        found = np.zeros((60, 3, 70), np.float32)
        found[30:34, 1, 40:46] = 1
        place = rank(np.zeros(found.shape, np.uint8), Evidence(found), axis=1)[0]
        assert place.box == (slice(26, 38), slice(1, 2), slice(36, 50))

    def test_it_never_leaves_the_mask(self):
        evidence = Evidence(np.random.default_rng(1).random(SHAPE, np.float32))
        for place in rank(EMPTY, evidence):
            assert all(0 <= side.start < side.stop <= size for side, size in zip(place.box, SHAPE, strict=True))


class TestRefused:
    def test_arrays_that_do_not_lie_on_the_mask(self):
        with pytest.raises(GeometryError, match="uncertainty"):
            rank(EMPTY, Evidence(np.zeros((5, 12, 14), np.float32)))
        with pytest.raises(GeometryError, match="trusted"):
            rank(EMPTY, trusted=np.zeros((5, 12, 14), bool))

    def test_an_image_without_slices(self):
        with pytest.raises(InputError, match=r"\(12, 14\)"):
            rank(EMPTY[0])

    @pytest.mark.parametrize("weights", [{"uncertainty": 0, "roughness": 0}, {"attention": -1}])
    def test_weights_that_order_nothing(self, weights):
        with pytest.raises(InputError, match="ordered"):
            Weights(**weights)


@pytest.fixture(scope="module")
def predictor():
    return Predictor.load(load_checkpoint("phantom"), "cpu")


@pytest.fixture(scope="module")
def volume():
    return phantom(5, (16, 32, 48))[0]


class TestEvidence:
    def test_the_uncertainty_is_that_of_the_run(self, predictor, volume):
        found = run_to_end(evidence_steps(volume, predictor))
        assert np.array_equal(found.uncertainty, segment(volume, predictor, uncertainty=True).uncertainty)
        assert found.disagreement is None

    def test_flips_disagree_between_0_and_1_and_on_the_image(self, predictor, volume):
        found = run_to_end(evidence_steps(volume, predictor, flips=(1, 2)))
        assert found.disagreement.shape == volume.grid.shape
        assert 0 < found.disagreement.max() <= 1 + 1e-5

    def test_a_symmetric_network_never_disagrees(self, predictor, volume, monkeypatch):
        monkeypatch.setattr(predictor, "forward", _brightness_only)
        found = run_to_end(evidence_steps(volume, predictor, flips=(2,)))
        assert found.disagreement.max() < 1e-5

    def test_attention_lies_on_the_image(self, predictor, volume):
        key = next(iter(predictor.sites))
        assert run_to_end(evidence_steps(volume, predictor, attention=key)).attention.shape == volume.grid.shape

    def test_what_is_known_is_not_computed_again(self, predictor, volume):
        known = np.zeros(volume.grid.shape, np.float32)
        assert run_to_end(evidence_steps(volume, predictor, uncertainty=known)).uncertainty is known

    def test_it_can_be_left_between_steps(self, predictor, volume, monkeypatch):
        passes, run = [], predictor.forward
        monkeypatch.setattr(predictor, "forward", lambda *given, **named: passes.append(given) or run(*given, **named))
        run_to_end(evidence_steps(volume, predictor, flips=(2,)))
        whole = len(passes)
        passes.clear()
        steps = evidence_steps(volume, predictor, flips=(2,))
        next(steps)
        steps.close()
        assert len(passes) < whole

    def test_an_axis_that_is_not_there(self, predictor, volume):
        with pytest.raises(InputError, match="mirrored"):
            run_to_end(evidence_steps(volume, predictor, flips=(3,)))


def _brightness_only(tiles, sites=()):
    """A network that looks at each voxel by itself."""
    likely = tiles[:, :1].sigmoid()
    rest = (1 - likely) / 2
    return torch.cat([likely, rest, rest], dim=1), {}
