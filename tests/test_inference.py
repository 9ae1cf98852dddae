"""Segmenting: the mask and the maps lie on the scan, however it is stored and however it is cut."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from napari_medattn.data import Preparation, Volume, read_volume
from napari_medattn.data.phantom import phantom
from napari_medattn.device import resolve_device
from napari_medattn.errors import CheckpointError, DeviceError, InputError
from napari_medattn.geometry import Grid
from napari_medattn.inference import Predictor, segment, segment_steps
from napari_medattn.models import AttentionSite, create_model
from napari_medattn.models.tap import Tap
from napari_medattn.store import Card, save_checkpoint
from tests.test_geometry import stored_as

CPU = torch.device("cpu")
PLAIN = Preparation(orientation="RAS", intensity="none")


class Gate(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.tap = Tap()


class Threshold(nn.Module):
    """Class 1 where the brightness is above one half, voxel by voxel; its gate is the mean of 4x4x4 voxels."""

    def __init__(self, dims: int = 3) -> None:
        super().__init__()
        self.stride, self.gate = (4,) * dims, Gate()

    def sites(self) -> list[AttentionSite]:
        return [AttentionSite("gate", ("mean",), "gate", self.stride)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert not any(n % 4 for n in x.shape[2:])
        if self.gate.tap.listened:
            pool = F.avg_pool3d if x.ndim == 5 else F.avg_pool2d
            self.gate.tap.emit(gate=pool(x[:, :1], 4))
        return torch.cat([torch.zeros_like(x[:, :1]), 8 * (x[:, :1] - 0.5)], dim=1)


class OneChannel(Threshold):
    """`Threshold` of one of its channels."""

    def __init__(self, channel: int) -> None:
        super().__init__(2)
        self.channel = channel

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x[:, self.channel : self.channel + 1])


def card(tile=(8, 8, 8), dims=3, preparation=PLAIN, classes=2, channels=1, **facts) -> Card:
    arguments = {"in_channels": channels, "num_classes": classes, "spatial_dims": dims, "feature_scale": 32}
    names = ("background", "a", "b")[:classes]
    return Card("tiny", "attention_unet", arguments, names, preparation, tile, **facts)


def threshold(**facts) -> Predictor:
    made = card(**facts)
    return Predictor(Threshold(made.spatial_dims), made, CPU)


def untrained(dims: int = 3, preparation: Preparation = PLAIN, channels: int = 1) -> Predictor:
    """A real network, whose answer depends on direction; its head is centred so that all classes occur."""
    torch.manual_seed(5)
    tile = (16, 32, 32) if dims == 3 else (1, 32, 32)
    made = card(tile=tile, dims=dims, preparation=preparation, classes=3, channels=channels)
    model = create_model("attention_unet", **made.arguments).eval()
    with torch.no_grad():
        logits = model(torch.rand(1, channels, *(16,) * dims))
        model.fuse.bias -= logits.mean(dim=[0, *range(2, dims + 2)])
    return Predictor(model, made, CPU)


def scan(shape=(16, 20, 24), spatial_dims=3, channels=1, grid=None) -> Volume:
    array = np.random.default_rng(2).random((channels, *shape)).astype(np.float32)
    return Volume(array, grid or Grid.from_spacing(shape, (1, 1, 1)), name="scan", spatial_dims=spatial_dims)


class TestMask:
    @pytest.mark.parametrize("orientation", ["RAS", "LPS", "PSR", "SRA", "IPL", "ASL"])
    def test_a_turned_copy_of_a_scan_gives_the_turned_mask(self, orientation):
        from napari_medattn.geometry import Reorientation

        straight = scan((14, 15, 16), grid=stored_as("RAS", shape=(14, 15, 16)))
        turn = Reorientation.between(straight.grid, orientation)
        array = np.ascontiguousarray(turn.apply(straight.array))
        copy = Volume(array, stored_as(orientation, turn.reorder((3, 2, 1))[::-1], array.shape[1:]), name="copy")
        predictor = untrained(preparation=Preparation())
        expected = segment(straight, predictor).labels
        assert len(np.unique(expected)) > 1
        np.testing.assert_array_equal(segment(copy, predictor).labels, turn.apply(expected[None])[0])

    @pytest.mark.parametrize("tile", [(4, 8, 8), (8, 8, 8), (100, 100, 100)])
    @pytest.mark.parametrize("overlap", [0.0, 0.5])
    def test_tiles_do_not_show_in_the_mask(self, tile, overlap):
        volume = scan((9, 17, 22))
        found = segment(volume, threshold(tile=tile), overlap=overlap)
        np.testing.assert_array_equal(found.labels, volume.array[0] > 0.5)

    def test_a_resampled_scan_gets_a_mask_on_its_own_grid(self):
        array = np.zeros((1, 10, 24, 24), np.float32)
        array[:, 2:8, 6:18, 6:18] = 1
        volume = Volume(array, Grid.from_spacing((10, 24, 24), (4, 1, 1)))
        preparation = Preparation(spacing=(2.0, 2.0, 2.0), intensity="none")
        labels = segment(volume, threshold(preparation=preparation)).labels
        np.testing.assert_array_equal(labels, array[0] > 0.5)

    def test_a_2d_network_works_slice_by_slice(self):
        predictor, volume = untrained(dims=2), scan((3, 20, 24))
        whole = segment(volume, predictor).labels
        for z in range(3):
            one = Volume(volume.array[:, z : z + 1], Grid.from_spacing((1, 20, 24), (1, 1, 1)))
            np.testing.assert_array_equal(segment(one, predictor).labels[0], whole[z])

    def test_a_2d_image_is_segmented_by_a_2d_network(self):
        volume = scan((1, 13, 18), spatial_dims=2)
        labels = segment(volume, threshold(dims=2, tile=(1, 8, 8))).labels
        np.testing.assert_array_equal(labels, volume.array[0] > 0.5)

    def test_segmenting_twice_gives_the_same(self):
        predictor = untrained()
        np.testing.assert_array_equal(*(segment(scan(), predictor).labels for _ in range(2)))


class TestProbabilities:
    @pytest.fixture
    def found(self):
        return segment(scan(), untrained(), probabilities=True, uncertainty=True)

    def test_they_sum_to_one(self, found):
        np.testing.assert_allclose(found.probabilities.sum(axis=0), 1, atol=1e-5)

    def test_the_mask_is_the_most_probable_class(self, found):
        np.testing.assert_array_equal(found.probabilities.argmax(axis=0), found.labels)

    def test_uncertainty_lies_between_zero_and_one(self, found):
        assert 0 <= found.uncertainty.min() <= found.uncertainty.max() <= 1 + 1e-6

    def test_an_undecided_network_is_wholly_uncertain(self):
        volume = scan()
        volume.array[0, :8] = 0.5
        found = segment(volume, threshold(), uncertainty=True)
        np.testing.assert_allclose(found.uncertainty[:8], 1, atol=1e-6)

    def test_they_are_left_out_unless_asked_for(self):
        found = segment(scan(), threshold())
        assert (found.probabilities, found.uncertainty, dict(found.attention)) == (None, None, {})


class TestAttention:
    @pytest.mark.parametrize("orientation", ["RAS", "LPS", "PSR"])
    @pytest.mark.parametrize("spacing", [None, (0.5, 0.5, 0.5)], ids=["as stored", "resampled"])
    def test_a_gate_lands_on_the_voxels_that_it_looked_at(self, orientation, spacing):
        array = np.zeros((1, 12, 16, 20), np.float32)
        array[0, 4:8, 8:12, 12:16] = 1
        volume = Volume(array, stored_as(orientation, (1.0, 1.0, 1.0), (12, 16, 20)))
        preparation = Preparation(orientation="RAS", spacing=spacing, intensity="none")
        found = segment(volume, threshold(preparation=preparation), attention=["gate"]).attention["gate"].on_image()[0]
        inside = array[0] > 0
        centre = [float((axis * found).sum() / found.sum()) for axis in np.indices(found.shape)]
        assert centre == pytest.approx([5.5, 9.5, 13.5], abs=0.3)
        assert found[inside].mean() > 4 * found[~inside].max() / 5

    @pytest.mark.parametrize("shape", [(16, 20, 24), (9, 17, 22), (2, 5, 6)])
    def test_a_map_has_the_shape_of_the_scan(self, shape):
        found = segment(scan(shape), threshold(), attention=None)
        assert found.attention["gate"].on_image().shape == (1, *shape)

    def test_a_map_of_a_2d_network_covers_all_slices(self):
        volume = scan((3, 8, 8))
        volume.array[0] = np.array([0.1, 0.5, 0.9])[:, None, None]
        found = segment(volume, threshold(dims=2, tile=(1, 8, 8)), attention=["gate"])
        np.testing.assert_allclose(found.attention["gate"].on_image()[0, :, 4, 4], [0.1, 0.5, 0.9], atol=1e-5)

    def test_maps_do_not_depend_on_the_tiles(self):
        small, large = (
            segment(scan(), threshold(tile=tile), attention=["gate"]).attention["gate"].values
            for tile in ((8, 8, 8), (64, 64, 64))
        )
        np.testing.assert_allclose(small, large, atol=1e-5)

    def test_looking_does_not_change_the_mask(self):
        predictor = untrained()
        plain, watched = segment(scan(), predictor), segment(scan(), predictor, attention=None)
        np.testing.assert_array_equal(watched.labels, plain.labels)

    @pytest.mark.parametrize("nothing", [(), [], iter(())], ids=["tuple", "list", "iterator"])
    def test_no_sites_means_no_maps(self, nothing):
        assert dict(segment(scan(), threshold(), attention=nothing).attention) == {}

    def test_an_unknown_site_is_refused_before_any_work(self):
        with pytest.raises(InputError, match="no attention site nose"):
            segment(scan(), threshold(), attention=["nose"])


class TestKindsOfAttention:
    """Maps of networks whose attention is a softmax, or has no place in space."""

    @pytest.fixture
    def found(self):
        torch.manual_seed(0)
        arguments = {"in_channels": 1, "num_classes": 2, "spatial_dims": 2, "widths": [8, 16, 24]}
        made = Card("tiny", "dae_former", arguments, ("background", "a"), PLAIN, (1, 32, 32))
        predictor = Predictor(create_model("dae_former", **arguments), made, CPU)
        return segment(scan((3, 40, 48)), predictor, attention=None)

    def test_every_site_of_the_network_is_listed_and_made(self, found):
        assert list(found.attention) == [site.key for site in found.sites]

    def test_softmax_maps_come_in_multiples_of_an_even_share(self, found):
        maps = [m for m in found.attention.values() if m.site.kind == "factored"]
        means = [m.on_image().mean() for m in maps]
        assert len(means) >= 6
        np.testing.assert_allclose(means, 1, atol=0.25)
        assert all(m.limits(m.on_image())[0] == 0 for m in maps)

    def test_channel_attention_is_a_matrix_and_has_no_place_on_the_image(self, found):
        channel = next(m for m in found.attention.values() if m.site.kind == "channel")
        side = channel.site.channels
        assert channel.values.shape == (channel.site.heads, 1, side, side)
        np.testing.assert_allclose(channel.values.sum(axis=-1), 1, rtol=1e-4)
        with pytest.raises(InputError, match="no place on the image"):
            channel.on_image()


class TestNeighbours:
    def test_a_network_that_sees_three_slices_takes_a_scan_of_one_channel(self):
        predictor = untrained(2, Preparation(orientation="RAS", intensity="none", neighbours=1), channels=3)
        found = segment(scan((4, 20, 24)), predictor)
        assert found.labels.shape == (4, 20, 24)

    @pytest.mark.parametrize(("channel", "seen"), [(0, [0, 0, 1, 2]), (1, [0, 1, 2, 3]), (2, [1, 2, 3, 3])])
    def test_its_channels_are_the_slices_below_at_and_above_each(self, channel, seen):
        made = card((1, 8, 8), 2, Preparation(orientation="RAS", intensity="none", neighbours=1), channels=3)
        predictor = Predictor(OneChannel(channel), made, CPU)
        source = scan((4, 8, 8))
        expected = source.array[0][seen] > 0.5
        np.testing.assert_array_equal(segment(source, predictor).labels, expected)

    def test_and_refuses_one_of_three(self):
        predictor = untrained(2, Preparation(orientation="RAS", intensity="none", neighbours=1), channels=3)
        with pytest.raises(InputError, match=r"trained on 1 channel\(s\)"):
            segment(scan((4, 20, 24), channels=3), predictor)


class TestThreads:
    def test_two_threads_on_one_network_do_not_mix_up_their_maps(self):
        torch.manual_seed(0)
        arguments = {"in_channels": 1, "num_classes": 2, "spatial_dims": 2, "widths": [8, 16, 24]}
        made = Card("tiny", "dae_former", arguments, ("background", "a"), PLAIN, (1, 32, 32))
        predictor = Predictor(create_model("dae_former", **arguments), made, CPU)
        source = scan((16, 64, 64))
        keys = [key for key, site in predictor.sites.items() if site.kind == "factored"][:3]

        def one(key: str):
            return segment(source, predictor, attention=[key]).attention[key].values

        with ThreadPoolExecutor(3) as pool:
            together = list(pool.map(one, keys))
        for key, values in zip(keys, together, strict=True):
            np.testing.assert_allclose(values, one(key), rtol=1e-4, atol=1e-6)


class TestPrecision:
    @pytest.mark.parametrize("name", ["hippocampus", "phantom"])
    def test_shipped_networks_keep_the_class_of_nearly_every_voxel_in_bfloat16(self, name, shared_data):
        volume = read_volume(next((shared_data / "msd_hippocampus" / "images").glob("*_026*")))
        if name == "phantom":
            volume = phantom(1, (32, 48, 48))[0]
        fine, rough = segment(volume, name), segment(volume, name, precision="bf16")
        assert (fine.labels == rough.labels).mean() >= 0.999

    def test_bfloat16_gives_nearly_the_same_and_is_recorded(self):
        fine = untrained(2)
        rough = Predictor(fine.model, fine.card, CPU, precision="bf16")
        one, other = segment(scan(), fine), segment(scan(), rough)
        assert (one.labels == other.labels).mean() > 0.9
        assert (one.record["precision"], other.record["precision"]) == ("fp32", "bf16")

    def test_an_unknown_precision_is_refused(self):
        fine = untrained(2)
        with pytest.raises(InputError, match="fp32 or bf16"):
            Predictor(fine.model, fine.card, CPU, precision="fp4")


class TestRefusals:
    @pytest.mark.parametrize(("channels", "what"), [(3, "an RGB image"), (2, "an image of 2 channels")])
    def test_other_channels_than_the_network_was_trained_on(self, channels, what):
        with pytest.raises(InputError, match=f"scan is {what}, tiny was trained on 1 channel"):
            segment(scan(channels=channels), threshold())

    def test_a_single_slice_for_a_3d_network(self):
        with pytest.raises(InputError, match="single slice"):
            segment(scan((1, 20, 20), spatial_dims=2), threshold())

    def test_an_unknown_checkpoint(self):
        with pytest.raises(CheckpointError, match="nobody"):
            segment(scan(), "nobody")

    @pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
    @pytest.mark.parametrize("name", ["cuda", "cuda:0"])
    def test_a_gpu_that_is_not_there(self, name):
        checkpoint = save_checkpoint(card(), create_model("attention_unet", **card().arguments))
        with pytest.raises(DeviceError, match=f"'{name}' is not available.*cpu"):
            segment(scan(), checkpoint, device=name)

    def test_a_device_that_nobody_knows(self):
        with pytest.raises(DeviceError, match="'abacus'"):
            resolve_device("abacus")


class TestRun:
    def test_progress_counts_up_to_all_tiles(self):
        events = [e for e in segment_steps(scan((40, 40, 40)), threshold(tile=(32, 32, 32))) if e.stage == "segmenting"]
        assert (events[0].done, events[-1].done, events[-1].total) == (0, 8, 8)
        assert len(events) > 2

    def test_leaving_early_runs_no_further_tile(self):
        predictor, calls = threshold(tile=(32, 32, 32)), []
        predictor.model.register_forward_hook(lambda *_: calls.append(1))
        steps = segment_steps(scan((40, 40, 40)), predictor, attention=["gate"])
        while not calls:
            next(steps)
        steps.close()
        assert (len(calls), predictor.model.gate.tap.listened) == (1, False)

    def test_the_record_says_how_the_mask_was_made(self):
        checkpoint = save_checkpoint(
            card(trained_on="noise", parent="p1"), create_model("attention_unet", **card().arguments)
        )
        record = segment(scan(), "tiny", device="cpu").record
        expected = {
            "image": "scan",
            "checkpoint": "tiny",
            "weights_sha256": checkpoint.card.weights_sha256,
            "parent": "p1",
            "trained_on": "noise",
            "class_names": ["background", "a"],
        }
        assert {key: record[key] for key in expected} == expected

    def test_the_record_is_plain_data(self):
        import json

        record = segment(scan(), threshold()).record
        assert json.loads(json.dumps(record))["overlap"] == 0.25

    def test_what_was_decided_about_odd_voxels_is_recorded(self):
        volume = scan()
        volume.array[0, 0, 0, 0] = np.nan
        assert "NaN" in segment(volume, threshold()).record["notes"][0]
