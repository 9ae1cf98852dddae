"""Whole volumes, tile by tile: seams, flips, regions, background, uncertainty, and memory that does not suffice."""

from __future__ import annotations

import errno
import itertools
import json
import os
import weakref

import numpy as np
import pytest
import torch
from hypothesis import given, strategies as st
from torch import nn
from torch.nn import functional as F

from napari_medattn.data import Preparation, Volume
from napari_medattn.data.tiles import plan_tiles, shares
from napari_medattn.errors import DeviceError, InputError, SaveError
from napari_medattn.geometry import Grid
from napari_medattn.inference import Predictor, RunSettings, SlicesReady, StepDown, segment, segment_steps
from napari_medattn.inference.blend import RollingBlend
from napari_medattn.inference.choosing import first_attempt, limits
from napari_medattn.inference.ladder import step_down
from napari_medattn.inference.outputs import uncertain, winner
from napari_medattn.inference.record import run_again
from tests.test_geometry import stored_as
from tests.test_inference import CPU, PLAIN, Threshold, card, scan, threshold, untrained
from tests.test_tiles import OVERLAPS, SHAPES, STRIDES, TILES


class Blur(nn.Module):
    """Class 1 where the mean of 3 x 3 x 3 voxels is high: the same everywhere but at the rim of what it is given."""

    stride = (1, 1, 1)

    def sites(self):
        return []

    def forward(self, x):
        mean = F.avg_pool3d(F.pad(x[:, :1], (1,) * 6, mode="replicate"), 3, stride=1)
        return torch.cat([torch.zeros_like(mean), 8 * (mean - 0.5)], dim=1)


class Slope(nn.Module):
    """Class 1 more probable towards the end of X, whatever it is given."""

    stride = (1, 1, 1)

    def sites(self):
        return []

    def forward(self, x):
        ramp = torch.linspace(-2, 2, x.shape[-1]).expand_as(x[:, :1])
        return torch.cat([torch.zeros_like(ramp), ramp], dim=1)


class Greedy(Threshold):
    """`Threshold` that runs out of memory at its n-th forward pass, or above a number of voxels."""

    def __init__(self, fails=(), voxels=None, only_fp32=False) -> None:
        super().__init__()
        self.fails, self.voxels, self.only_fp32, self.calls = set(fails), voxels, only_fp32, 0

    def forward(self, x):
        self.calls += 1
        half = torch.is_autocast_enabled("cpu")
        too_large = self.voxels is not None and x[:, 0].numel() > self.voxels
        if self.calls in self.fails or (too_large and not (half and self.only_fp32)):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return super().forward(x)


def bare(network: nn.Module, tile=(8, 8, 8), preparation=PLAIN) -> Predictor:
    return Predictor(network, card(tile, preparation=preparation), CPU)


def greedy(**facts) -> tuple[Predictor, Greedy]:
    predictor = bare(Greedy(**facts))
    return predictor, predictor.model


def run(volume, predictor, **options):
    """All events, and the prediction."""
    events, steps = [], segment_steps(volume, predictor, **options)
    while True:
        try:
            events.append(next(steps))
        except StopIteration as stop:
            return events, stop.value


class TestShares:
    @given(SHAPES, TILES, STRIDES, OVERLAPS)
    def test_all_tiles_together_decide_each_voxel_once(self, shape, tile, stride, overlap):
        plan = plan_tiles(shape, tile, stride, overlap)
        total, profiles = np.zeros(plan.padded), shares(plan)
        for start in plan.starts:
            z, y, x = (axis[first] for axis, first in zip(profiles, start, strict=True))
            box = tuple(slice(a, a + n) for a, n in zip(start, plan.tile, strict=True))
            total[box] += z[:, None, None] * y[:, None] * x
        np.testing.assert_allclose(total, 1, atol=1e-5)


class TestRollingBlend:
    @given(SHAPES, TILES, STRIDES, OVERLAPS, st.integers(1, 5), st.sampled_from(["device", "memory", "disk"]))
    def test_an_identity_network_gives_its_input_back(self, shape, tile, stride, overlap, batch, place):
        plan = plan_tiles(shape, tile, stride, overlap)
        array = torch.rand(2, *plan.padded)
        batches = [plan.starts[n : n + batch] for n in range(0, len(plan), batch)]
        blend, found = RollingBlend(plan, batches, 2, CPU, place), torch.full_like(array, torch.nan)
        for starts in [*batches, None]:
            until = plan.padded[0] if starts is None else starts[0][0]
            first, planes = blend.ready(until)
            found[:, first : first + planes.shape[1]] = planes
            blend.forget(until)
            for start in starts or ():
                box = (slice(None), *(slice(a, a + n) for a, n in zip(start, plan.tile, strict=True)))
                blend.add(start, array[box])
        torch.testing.assert_close(found, array, atol=1e-5, rtol=0)

    def test_it_keeps_the_unfinished_slices_only(self):
        plan = plan_tiles((100, 8, 8), (8, 8, 8), (1, 1, 1), 0.25)
        blend = RollingBlend(plan, [[start] for start in plan.starts], 2, CPU)
        assert blend._sum.shape == (2, 8, 8, 8)


class TestSeams:
    @pytest.mark.parametrize("tile", [(8, 8, 8), (6, 12, 10)])
    def test_tiled_is_untiled_for_a_network_that_does_the_same_everywhere(self, tile):
        volume = scan((20, 22, 24))
        whole = segment(volume, bare(Blur(), (32, 32, 32)), probabilities=True)
        tiled = segment(volume, bare(Blur(), tile), probabilities=True, overlap=0.5)
        np.testing.assert_allclose(tiled.probabilities, whole.probabilities, atol=0.01)
        assert whole.record["tiles"] == 1 < tiled.record["tiles"]
        clear = np.abs(whole.probabilities[1] - 0.5) > 0.01
        np.testing.assert_array_equal(tiled.labels[clear], whole.labels[clear])

    def test_a_voxel_by_voxel_network_shows_no_tiles_at_all(self):
        volume = scan((20, 22, 24))
        whole, tiled = (
            segment(volume, threshold(tile=tile), probabilities=True).probabilities for tile in ((32,) * 3, (8,) * 3)
        )
        np.testing.assert_allclose(tiled, whole, atol=1e-6)

    @pytest.mark.parametrize("settings", [{"accumulator": "disk"}, {"accumulator": "memory"}, {"batch": 3}])
    def test_how_it_is_done_does_not_change_the_mask(self, settings):
        volume, predictor = scan((16, 40, 40)), untrained()
        plain = segment(volume, predictor).labels
        np.testing.assert_array_equal(segment(volume, predictor, settings=RunSettings(**settings)).labels, plain)

    def test_half_precision_slices_change_next_to_nothing(self):
        volume, predictor = scan((16, 40, 40)), untrained()
        fine, rough = (
            segment(volume, predictor, probabilities=True, settings=RunSettings(half=half)) for half in (False, True)
        )
        np.testing.assert_allclose(rough.probabilities, fine.probabilities, atol=5e-3)
        assert rough.record["accumulated_in"] == "float16"


class TestResampling:
    @pytest.mark.parametrize("spacing", [(2.0, 2.0, 2.0), (0.7, 1.3, 1.0), (0.37, 1.0, 1.0), (0.29, 0.4, 1.0)])
    def test_slice_by_slice_is_as_restored_as_a_whole(self, spacing):
        from napari_medattn.data import prepare

        how = Preparation(orientation="LPI", spacing=spacing, intensity="none")
        volume = scan((14, 18, 20), grid=stored_as("PSR", (1.0, 1.0, 1.0), (14, 18, 20)))
        found = segment(volume, bare(Threshold(), (8, 8, 8), how), probabilities=True).probabilities
        prepared = prepare(volume, how)
        odds = torch.from_numpy(8 * (prepared.array[0] - 0.5)).sigmoid().numpy()
        expected = prepared.restore(np.stack([1 - odds, odds]))
        np.testing.assert_allclose(found, expected, atol=1e-5)


class TestRegions:
    BOXES = st.tuples(*(st.tuples(st.integers(0, n - 1), st.integers(1, n)) for n in (14, 18, 20)))

    @given(BOXES, st.sampled_from(["RAS", "PSR"]), st.sampled_from([None, (1.5, 0.8, 1.0)]))
    def test_a_region_is_that_part_of_the_whole(self, sides, orientation, spacing):
        how = Preparation(orientation="RAS", spacing=spacing, intensity="none")
        volume = scan((14, 18, 20), grid=stored_as(orientation, (1.0, 1.0, 1.0), (14, 18, 20)))
        predictor = bare(Blur(), (8, 8, 8), how)
        box = tuple(slice(first, min(first + size, n)) for (first, size), n in zip(sides, (14, 18, 20), strict=True))
        whole, part = (
            segment(volume, predictor, box=where, probabilities=True, uncertainty=True) for where in (None, box)
        )
        expected = np.zeros_like(whole.labels)
        expected[box] = whole.labels[box]
        np.testing.assert_array_equal(part.labels, expected)
        np.testing.assert_allclose(part.probabilities[:, *box], whole.probabilities[:, *box], atol=1e-6)
        assert part.box == box

    def test_a_slice_runs_the_tiles_that_touch_it_only(self):
        volume, predictor = scan((32, 16, 16)), threshold()
        part = segment(volume, predictor, box=(slice(0, 1), slice(None), slice(None)), overlap=0)
        assert (part.record["tiles"], part.record["box"]) == (4, [[0, 1], [0, 16], [0, 16]])
        np.testing.assert_array_equal(part.labels[0], volume.array[0, 0] > 0.5)

    def test_one_slice_of_a_2d_network_is_one_forward_pass(self):
        predictor = threshold(dims=2, tile=(1, 16, 16))
        part = segment(scan((9, 16, 16)), predictor, box=(slice(4, 5), slice(None), slice(None)))
        assert part.record["tiles"] == 1

    @pytest.mark.parametrize("box", [(slice(3, 3),) * 3, (slice(90, 99),) * 3, (slice(0, 8, 2),) * 3, (slice(0, 1),)])
    def test_a_region_that_is_none_is_refused(self, box):
        with pytest.raises(InputError, match=r"region|no box"):
            segment(scan(), threshold(), box=box)


class TestFlips:
    def test_what_depends_on_direction_is_evened_out(self):
        volume = scan((8, 8, 8))
        found = segment(volume, bare(Slope()), probabilities=True, settings=RunSettings(flips="x")).probabilities
        np.testing.assert_allclose(found[1], found[1][:, :, ::-1], atol=1e-6)
        plain = segment(volume, bare(Slope()), probabilities=True).probabilities
        assert plain[1, 0, 0, 0] < 0.2 < found[1, 0, 0, 0]

    @pytest.mark.parametrize(("flips", "passes"), [("", 1), ("z", 2), ("yx", 4), ("zyx", 8)])
    def test_every_combination_is_seen(self, flips, passes):
        predictor, calls = bare(Blur(), (8, 8, 8)), []
        predictor.model.register_forward_hook(lambda *_: calls.append(1))
        segment(scan((8, 8, 8)), predictor, settings=RunSettings(flips=flips))
        assert len(calls) == passes

    def test_a_network_that_does_not_care_gives_the_same(self):
        volume = scan()
        plain = segment(volume, threshold(), probabilities=True).probabilities
        flipped = segment(volume, threshold(), probabilities=True, settings=RunSettings(flips="zyx")).probabilities
        np.testing.assert_allclose(flipped, plain, atol=1e-6)

    def test_maps_are_those_of_the_image_as_it_is(self):
        volume = scan()
        maps = [
            segment(volume, threshold(), attention=["gate"], settings=RunSettings(flips=flips)).attention["gate"].values
            for flips in ("", "x")
        ]
        np.testing.assert_array_equal(*maps)

    def test_a_2d_network_has_no_z(self):
        with pytest.raises(InputError, match="no z axis"):
            segment(scan((3, 8, 8)), threshold(dims=2, tile=(1, 8, 8)), settings=RunSettings(flips="z"))


class TestBackground:
    @pytest.fixture
    def island(self):
        """Air with one bright cube."""
        array = np.full((1, 8, 40, 40), -1000, np.int16)
        array[0, 2:6, 2:6, 2:6] = 500
        return Volume(array, Grid.from_spacing((8, 40, 40), (1, 1, 1)), name="island")

    def test_dark_tiles_are_not_shown_to_the_network(self, island):
        how, calls = Preparation(orientation="RAS", intensity="window"), []
        predictor = bare(Threshold(), (8, 8, 8), how)
        predictor.model.register_forward_hook(lambda _, x, __: calls.append(len(x[0])))
        everything = segment(island, predictor, overlap=0)
        seen, calls[:] = sum(calls), []
        some = segment(island, predictor, settings=RunSettings(overlap=0, skip_below=-500))
        np.testing.assert_array_equal(some.labels, everything.labels)
        assert some.labels.any()
        assert sum(calls) == 1 < seen

    def test_they_are_background_for_certain(self, island):
        how = Preparation(orientation="RAS", intensity="window")
        found = segment(
            island, bare(Slope(), (8, 8, 8), how), probabilities=True, settings=RunSettings(skip_below=-500)
        )
        np.testing.assert_allclose(found.probabilities[0, :, 20:, 20:], 1, atol=1e-6)


class TestUncertainty:
    @pytest.mark.parametrize("measure", ["entropy", "margin"])
    @pytest.mark.parametrize(
        ("probabilities", "expected"),
        [([0.5, 0.5], 1.0), ([1.0, 0.0], 0.0), ([1 / 3] * 3, 1.0), ([0.0, 0.0, 1.0], 0.0)],
    )
    def test_it_runs_from_certain_to_undecided(self, measure, probabilities, expected):
        found = uncertain(torch.tensor(probabilities)[:, None], measure)
        assert float(found) == pytest.approx(expected, abs=1e-4)

    def test_by_hand(self):
        values = torch.tensor([0.7, 0.2, 0.1])[:, None]
        assert float(uncertain(values, "margin")) == pytest.approx(0.5)
        entropy = -(0.7 * np.log(0.7) + 0.2 * np.log(0.2) + 0.1 * np.log(0.1)) / np.log(3)
        assert float(uncertain(values, "entropy")) == pytest.approx(entropy, rel=1e-5)

    def test_the_margin_can_be_asked_for(self):
        found = segment(scan(), untrained(), uncertainty="margin", probabilities=True)
        high = np.sort(found.probabilities, axis=0)
        np.testing.assert_allclose(found.uncertainty, 1 - (high[-1] - high[-2]), atol=1e-5)

    def test_another_measure_is_refused(self):
        with pytest.raises(InputError, match="no uncertainty 'doubt'"):
            segment(scan(), threshold(), uncertainty="doubt")

    @given(st.integers(1, 6), st.integers(0, 100))
    def test_the_winner_is_the_first_of_the_highest(self, classes, seed):
        values = torch.from_numpy(np.random.default_rng(seed).integers(0, 3, (classes, 40)).astype(np.float32))
        np.testing.assert_array_equal(winner(values).numpy(), values.numpy().argmax(axis=0))


class TestSlicesReady:
    def test_they_come_in_order_and_make_up_the_mask(self):
        volume = scan((40, 16, 16), grid=stored_as("RAS", shape=(40, 16, 16)))
        events, found = run(volume, threshold(), tell_slices=True, settings=RunSettings(batch=4))
        ready = [event for event in events if isinstance(event, SlicesReady)]
        spans = [(event.box[0].start, event.box[0].stop) for event in ready]
        assert spans[0][0] == 0
        assert spans[-1][1] == 40
        assert all(a[1] == b[0] for a, b in itertools.pairwise(spans))
        assert len(spans) > 3
        np.testing.assert_array_equal(np.concatenate([event.labels for event in ready]), found.labels)

    def test_they_lie_where_they_belong_on_a_turned_scan(self):
        volume = scan((16, 20, 24), grid=stored_as("PSR", shape=(16, 20, 24)))
        seen = np.full((16, 20, 24), 9, np.uint8)
        steps = segment_steps(volume, threshold(), tell_slices=True, settings=RunSettings(batch=2))
        for event in steps:
            if isinstance(event, SlicesReady):
                seen[event.box] = event.labels
        np.testing.assert_array_equal(seen, volume.array[0] > 0.5)

    def test_nobody_is_told_unasked(self):
        events, _ = run(scan(), threshold())
        assert not any(isinstance(event, SlicesReady) for event in events)


class TestOutOfMemory:
    """A network that fails at tile k: the run ends well, and says what it did."""

    @pytest.mark.parametrize("k", [1, 2, 5])
    def test_the_mask_is_right_wherever_it_happened(self, k):
        volume = scan((16, 24, 24))
        predictor, _ = greedy(fails=[k])
        events, found = run(volume, predictor, settings=RunSettings(batch=2))
        np.testing.assert_array_equal(found.labels, volume.array[0] > 0.5)
        step = {"step": "1 instead of 2 tiles at a time", "reason": "out of memory on cpu"}
        assert found.record["ladder"] == [step]
        assert [event.step for event in events if isinstance(event, StepDown)] == [step["step"]]
        assert found.record["batch"] == 1

    def test_each_rung_is_taken_in_turn(self):
        volume = scan((16, 16, 16))
        predictor, _ = greedy(fails=range(1, 7))
        found = segment(volume, predictor, settings=RunSettings(batch=4))
        assert [step["step"] for step in found.record["ladder"]] == [
            "2 instead of 4 tiles at a time",
            "1 instead of 2 tiles at a time",
            "tiles of 4 x 8 x 8 instead of 8 x 8 x 8 voxels",
            "tiles of 4 x 4 x 8 instead of 4 x 8 x 8 voxels",
            "tiles of 4 x 4 x 4 instead of 4 x 4 x 8 voxels",
            "half precision (bf16) instead of single",
        ]
        assert (found.record["tile"], found.record["precision"]) == ([4, 4, 4], "bf16")
        assert (found.labels == (volume.array[0] > 0.5)).mean() > 0.99

    def test_smaller_tiles_are_kept_where_they_suffice(self):
        volume = scan((16, 16, 16))
        predictor, network = greedy(voxels=256)
        found = segment(volume, predictor, settings=RunSettings(batch=1))
        assert found.record["tile"] == [4, 8, 8]
        np.testing.assert_array_equal(found.labels, volume.array[0] > 0.5)
        assert network.calls == found.record["tiles"] + 1

    def test_the_callers_network_keeps_its_precision(self):
        predictor, _ = greedy(voxels=10, only_fp32=True)
        found = segment(scan((8, 8, 8)), predictor)
        assert (found.record["precision"], predictor.precision) == ("bf16", "fp32")

    def test_nothing_fits(self):
        predictor, _ = greedy(voxels=1)
        with pytest.raises(DeviceError, match=r"even for one tile of \(4, 4, 4\) voxels \(out of memory on cpu\)"):
            segment(scan((8, 8, 8)), predictor)

    def test_nothing_of_a_failed_pass_is_held_on_to(self):
        seen = []

        class Remembering(Greedy):
            def forward(self, x):
                alive = [ref for ref in seen if ref() is not None]
                if self.calls == 3:
                    assert not alive
                between = x + 0
                seen.extend(map(weakref.ref, (x, between)))
                return super().forward(between)

        segment(scan((16, 16, 16)), bare(Remembering(fails=[3])), settings=RunSettings(batch=1))
        assert len(seen) > 6

    def test_it_is_estimated_before_it_fails(self, monkeypatch):
        predictor = untrained()
        one = predictor.forward_bytes((16, 32, 32))
        monkeypatch.setattr("napari_medattn.device._meminfo", lambda field: 2 * one)
        found = segment(scan((16, 64, 64)), predictor, settings=RunSettings(batch=4, accumulator="device"))
        assert found.record["batch"] == 1
        assert "a batch would take about" in found.record["ladder"][0]["reason"]

    def test_another_error_is_passed_on(self):
        class Broken(Threshold):
            def forward(self, x):
                raise RuntimeError("weights are upside down")

        with pytest.raises(RuntimeError, match="upside down"):
            segment(scan(), bare(Broken()))

    def test_a_device_that_disappears_is_named(self):
        class Lost(Threshold):
            def forward(self, x):
                raise RuntimeError("CUDA error: unspecified launch failure\nCompile with TORCH_USE_CUDA_DSA")

        with pytest.raises(DeviceError, match=r"cpu stopped working .*launch failure"):
            segment(scan(), bare(Lost()))


class TestLadder:
    def test_from_a_gpu_it_ends_on_the_cpu_with_everything_as_it_was(self):
        predictor = threshold()
        first = first_attempt(predictor, RunSettings(batch=2))
        there = type(first)("cuda:0", "fp32", first.tile, 2, "device")
        reach, steps = limits(predictor, there), []
        while (found := step_down(there, reach)) is not None:
            there, step = found
            steps.append(step)
            if there.device == "cpu" and len(steps) == 8:
                assert (there.tile, there.precision) == (first.tile, "fp32")
        assert steps[5:8] == [
            "unfinished slices in main memory",
            "unfinished slices on disk",
            "the CPU instead of cuda:0",
        ]
        assert steps.count("the CPU instead of cuda:0") == 1

    def test_slices_that_do_not_fit_go_elsewhere_at_once(self):
        first = first_attempt(threshold(), RunSettings())
        there, step = step_down(first, limits(threshold(), first), accumulator_only=True)
        assert (there.batch, there.accumulator, step) == (first.batch, "disk", "unfinished slices on disk")

    def test_the_run_puts_them_there(self, monkeypatch):
        plain = torch.zeros

        def zeros(*args, **options):
            if args and isinstance(args[0], tuple) and len(args[0]) == 4:
                raise RuntimeError("[enforce fail at alloc_cpu.cpp:114] DefaultCPUAllocator: can't allocate memory")
            return plain(*args, **options)

        monkeypatch.setattr(torch, "zeros", zeros)
        volume = scan()
        found = segment(volume, threshold())
        assert [step["step"] for step in found.record["ladder"]] == ["unfinished slices on disk"]
        np.testing.assert_array_equal(found.labels, volume.array[0] > 0.5)

    def test_large_ones_go_to_disk_beforehand(self, monkeypatch):
        monkeypatch.setattr("napari_medattn.inference.choosing.available_memory", lambda: 1000)
        monkeypatch.setattr("napari_medattn.inference.choosing.free_memory", lambda device: 1000)
        monkeypatch.setattr("napari_medattn.inference.climb.too_much", lambda *_: "")
        assert segment(scan(), threshold()).record["accumulator"] == "disk"

    @pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="room is taken in another way here")
    def test_a_full_disk_is_said_before_anything_is_written(self, monkeypatch, tmp_path):
        def full(*_):
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(os, "posix_fallocate", full)
        monkeypatch.setattr("tempfile.gettempdir", lambda: str(tmp_path))
        with pytest.raises(SaveError, match=r"are needed for a while in .* there is not so much room"):
            segment(scan(), threshold(), settings=RunSettings(accumulator="disk"))
        assert list(tmp_path.iterdir()) == []


class TestRecord:
    def test_running_it_again_gives_the_very_same_mask(self):
        volume, predictor = scan((16, 40, 40)), untrained()
        settings = RunSettings(overlap=0.5, flips="x", tile=(8, 16, 16), batch=3, half=True, skip_below=0.2)
        first = segment(volume, predictor, tidy=["small:3", "holes"], settings=settings)
        record = json.loads(json.dumps(dict(first.record)))
        again = segment(volume, predictor, **run_again(record))
        np.testing.assert_array_equal(again.labels, first.labels)
        same = ("labels_sha256", "image_sha256", "tile", "batch", "flips", "tidy", "overlap", "accumulated_in")
        assert {key: again.record[key] for key in same} == {key: record[key] for key in same}

    def test_after_a_step_down_it_begins_where_the_first_run_ended(self):
        volume = scan((16, 16, 16))
        first = segment(volume, bare(Greedy(fails=range(1, 5))), settings=RunSettings(batch=2))
        again = segment(volume, bare(Greedy()), **run_again(first.record))
        assert again.record["ladder"] == []
        assert again.record["labels_sha256"] == first.record["labels_sha256"]

    def test_the_hash_is_of_the_mask_as_tidied(self):
        volume = scan()
        hashes = {segment(volume, threshold(), tidy=steps).record["labels_sha256"] for steps in ([], ["largest"])}
        assert len(hashes) == 2

    @pytest.mark.parametrize("record", [{}, {"format": 2}, {"format": 1}, {"format": 2, "tile": [1, 2]}])
    def test_what_is_no_record_is_refused(self, record):
        with pytest.raises(InputError, match=r"no record|layout 1"):
            run_again(record)


class TestTidying:
    def test_it_is_done_and_recorded(self):
        volume = scan()
        plain, tidied = segment(volume, threshold()), segment(volume, threshold(), tidy=["largest", "holes"])
        changed = np.count_nonzero(plain.labels != tidied.labels)
        assert [step["step"] for step in tidied.record["tidy"]] == ["largest", "holes"]
        assert sum(step["changed"] for step in tidied.record["tidy"]) >= changed > 0

    def test_nothing_changes_outside_of_the_region(self):
        box = (slice(2, 9), slice(3, 17), slice(4, 20))
        tidied = segment(scan(), threshold(), box=box, tidy=["smooth:2"]).labels
        inside = tidied[box].copy()
        tidied[box] = 0
        assert inside.any()
        assert not tidied.any()

    def test_a_wrong_step_is_refused_before_any_work(self):
        with pytest.raises(InputError, match="'shave'"):
            next(itertools.islice(segment_steps(scan(), threshold(), tidy=["shave"]), 1, None))


class TestSmallVolumes:
    @pytest.mark.parametrize("shape", [(2, 3, 5), (2, 40, 3), (5, 4, 4)])
    def test_thinner_than_the_stride(self, shape):
        volume = scan(shape)
        np.testing.assert_array_equal(segment(volume, threshold()).labels, volume.array[0] > 0.5)

    def test_a_single_voxel_cannot_be_told_from_nothing(self):
        volume = Volume(np.ones((1, 1, 1, 1), np.float32), Grid.from_spacing((1, 1, 1), (1, 1, 1)), spatial_dims=2)
        with pytest.raises(InputError, match="nothing to segment"):
            segment(volume, threshold(dims=2, tile=(1, 8, 8)))


class TestSettings:
    @pytest.mark.parametrize(
        ("wrong", "why"),
        [
            ({"overlap": 1.0}, "overlap by 1.0"),
            ({"flips": "w"}, "along 'w'"),
            ({"flips": "xx"}, "along 'xx'"),
            ({"tile": (0, 8, 8)}, "no tiles of"),
            ({"batch": 0}, "batches of 0"),
            ({"accumulator": "cloud"}, "'cloud'"),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, wrong, why):
        with pytest.raises(InputError, match=why):
            RunSettings(**wrong)
