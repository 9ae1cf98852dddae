"""Maps as files: exact geometry, the values that the network gave, and a card that says what they are."""

import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import tifffile
import torch
from scipy.ndimage import map_coordinates

from napari_medattn import device
from napari_medattn.data import Preparation, Volume, read_volume
from napari_medattn.errors import InputError
from napari_medattn.events import run_to_end
from napari_medattn.geometry import Grid
from napari_medattn.inference import Predictor, segment
from napari_medattn.look import Scene, attention_maps, placed, placed_map, save_maps
from napari_medattn.look.export import file_names, save_maps_steps
from napari_medattn.look.overview import answers_steps, overview_steps
from napari_medattn.models import create_model
from napari_medattn.store import Card

CPU = torch.device("cpu")
PREPARED = Preparation("RAS", (1.5, 1.0, 1.0), "zscore")
TURN = nib.eulerangles.euler2mat(0.2, 0.1, 0.3)
AFFINES = {
    "anisotropic": np.diag([0.7, 1.1, 3.0, 1.0]),
    "flipped": nib.affines.from_matvec(np.array([[0, 0, -1.2], [-0.9, 0, 0], [0, 2.0, 0]]), [10, -20, 30]),
    "oblique": nib.affines.from_matvec(TURN @ np.diag([-0.8, 1.1, 2.5]), [3, 2, 1]),
}
FIELDS = ("pixdim", "qform_code", "sform_code", "xyzt_units", "quatern_b", "quatern_c", "quatern_d")
FIELDS += ("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z")


def network(name="attention_unet", dims=3, tile=(16, 16, 16), **options) -> Predictor:
    """A tiny network that was never trained."""
    torch.manual_seed(0)
    arguments = {"in_channels": 1, "num_classes": 3, "spatial_dims": dims, **options}
    card = Card("tiny", name, arguments, ("background", "a", "b"), PREPARED, tile, weights_sha256="abc")
    return Predictor(create_model(name, **arguments), card, CPU)


def unet() -> Predictor:
    return network(feature_scale=16)


def axial() -> Predictor:
    return network("gated_axial_unet", 2, (1, 32, 32), variant="small", image_size=32)


def dae() -> Predictor:
    return network("dae_former", 2, (1, 32, 32), widths=[8, 16, 24])


def noise(shape=(10, 21, 26)) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)


def scan(affine=AFFINES["oblique"], shape=(10, 21, 26)) -> Volume:
    return Volume(noise(shape), Grid(shape, affine), name="scan")


@pytest.fixture(params=AFFINES)
def stored(request, tmp_path) -> Volume:
    """A scan in a file that says where it lies in two ways, with different codes."""
    image = nib.Nifti1Image(noise()[0].T, AFFINES[request.param])
    image.set_sform(AFFINES[request.param], code=1)
    image.set_qform(AFFINES[request.param], code=2)
    image.header.set_xyzt_units("mm", "sec")
    nib.save(image, tmp_path / "scan.nii.gz")
    return read_volume(tmp_path / "scan.nii.gz")


class TestNifti:
    def test_every_geometry_field_is_the_scans(self, stored, tmp_path):
        (path,) = save_maps(attention_maps(stored, unet(), ["skip2.gate1"]), tmp_path / "out")
        saved, source = nib.load(path).header, nib.load(stored.path).header
        for field in FIELDS:
            assert saved[field].tobytes() == source[field].tobytes(), field

    def test_values_are_those_of_the_prediction(self, stored, tmp_path):
        expected = segment(stored, unet(), attention=["skip2.gate1"]).attention["skip2.gate1"].on_image()
        (path,) = save_maps(attention_maps(stored, unet(), ["skip2.gate1"]), tmp_path / "out")
        np.testing.assert_allclose(np.asarray(nib.load(path).dataobj).T[None], expected, atol=1e-6)

    def test_values_are_single_precision_and_not_scaled(self, stored, tmp_path):
        (path,) = save_maps(attention_maps(stored, unet(), ["skip2.gate1"]), tmp_path / "out")
        header = nib.load(path).header
        assert header.get_data_dtype() == np.float32
        assert nib.load(path).dataobj.slope == 1

    def test_all_heads_are_the_last_axis(self, stored, tmp_path):
        key = "layer1.0.row_attention"
        expected = segment(stored, axial(), attention=[key]).attention[key].on_image()
        (path,) = save_maps(attention_maps(stored, axial(), [key], heads="all"), tmp_path / "out")
        values = np.asarray(nib.load(path).dataobj)
        assert values.shape == (26, 21, 10, 8)
        np.testing.assert_allclose(values.T, expected, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize(("heads", "pick"), [("mean", lambda v: v.mean(axis=0)), (2, lambda v: v[2])])
    def test_the_mean_or_one_head_has_no_such_axis(self, tmp_path, heads, pick):
        key = "layer1.0.row_attention"
        prediction = segment(scan(), axial(), attention=[key])
        (path,) = save_maps(placed(prediction, heads=heads), tmp_path)
        values = np.asarray(nib.load(path).dataobj).T
        np.testing.assert_allclose(values, pick(prediction.attention[key].on_image()), rtol=1e-5, atol=1e-6)

    def test_a_big_endian_scan_gives_a_map_with_the_same_values(self, tmp_path):
        image = nib.Nifti1Image(noise()[0].T, AFFINES["flipped"])
        swapped = nib.Nifti1Image(noise()[0].T.astype(">f4"), None, image.header.as_byteswapped(">"))
        nib.save(swapped, tmp_path / "big.nii")
        volume = read_volume(tmp_path / "big.nii")
        (path,) = save_maps(attention_maps(volume, unet(), ["skip2.gate1"]), tmp_path / "out", form="nii")
        expected = segment(volume, unet(), attention=["skip2.gate1"]).attention["skip2.gate1"].on_image()[0]
        np.testing.assert_allclose(np.asarray(nib.load(path).dataobj).T, expected, atol=1e-6)

    def test_a_flat_image_stays_flat(self, tmp_path):
        nib.save(nib.Nifti1Image(noise((1, 40, 48))[0, 0].T, np.diag([0.5, 0.6, 1, 1])), tmp_path / "flat.nii")
        maps = attention_maps(read_volume(tmp_path / "flat.nii"), dae(), ["encode1.block1.efficient"])
        (path,) = save_maps(maps, tmp_path / "out")
        assert nib.load(path).shape == (48, 40)
        np.testing.assert_allclose(nib.load(path).header.get_zooms(), (0.5, 0.6))

    def test_the_card_travels_inside_the_file(self, stored, tmp_path):
        (path,) = save_maps(attention_maps(stored, unet(), ["skip2.gate1"]), tmp_path / "out")
        texts = [bytes(e.get_content()).rstrip(b"\0") for e in nib.load(path).header.extensions]
        assert json.loads(texts[0])["attention"]["site"]["key"] == "skip2.gate1"


class TestTiff:
    def test_values_spacing_and_axes(self, tmp_path):
        key = "layer1.0.row_attention"
        (path,) = save_maps(attention_maps(scan(), axial(), [key], heads="all"), tmp_path, form="tiff")
        volume = read_volume(path)
        expected = segment(scan(), axial(), attention=[key]).attention[key].on_image()
        np.testing.assert_allclose(volume.array, expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(volume.grid.spacing, scan().grid.spacing)
        with tifffile.TiffFile(path) as file:
            assert file.series[0].axes == "CZYX"

    def test_one_map_has_no_axis_of_heads(self, tmp_path):
        (path,) = save_maps(attention_maps(scan(), unet(), ["skip2.gate1"]), tmp_path, form="tiff")
        with tifffile.TiffFile(path) as file:
            assert (file.series[0].axes, file.series[0].shape) == ("ZYX", (10, 21, 26))
            assert file.series[0].dtype == np.float32


class TestSlabs:
    def test_slab_by_slab_is_the_whole(self, tmp_path, monkeypatch):
        found = attention_maps(scan(), axial(), ["layer1.0.row_attention"], heads="all")[0]
        z, y, x = (slice(0, size) for size in scan().grid.shape)
        monkeypatch.setattr(placed_map, "SLAB", 3 * 4 * 21 * 26)
        slabs = list(found.slabs())
        assert [len(slab) for slab in slabs[:4]] == [3, 3, 3, 1]
        np.testing.assert_allclose(np.concatenate(slabs).reshape(8, 10, 21, 26), found.draw((z, y, x)), atol=1e-6)

    def test_leaving_half_way_leaves_no_half_file(self, tmp_path, monkeypatch):
        monkeypatch.setattr(placed_map, "SLAB", 1)
        steps = save_maps_steps(attention_maps(scan(), unet(), ["skip2.gate1"]), tmp_path / "out")
        for _ in range(5):
            next(steps)
        assert len(list((tmp_path / "out").iterdir())) == 1  # it is being written
        steps.close()
        assert list((tmp_path / "out").iterdir()) == []

    def test_an_older_file_survives_that(self, tmp_path, monkeypatch):
        monkeypatch.setattr(placed_map, "SLAB", 1)
        maps = attention_maps(scan(), unet(), ["skip2.gate1"])
        (path,) = save_maps(maps, tmp_path)
        before = path.read_bytes()
        steps = save_maps_steps([replace(maps[0], values=maps[0].values * 0)], tmp_path, overwrite=True)
        for _ in range(5):
            next(steps)
        steps.close()
        assert path.read_bytes() == before


class TestNetworkGrid:
    @pytest.mark.parametrize("name", AFFINES)
    @pytest.mark.parametrize("axis", [0, 1, 2])
    def test_each_value_lies_where_the_map_on_the_image_has_it(self, name, axis):
        found = attention_maps(scan(AFFINES[name], (24, 30, 28)), unet(), ["skip2.gate1"])[0]
        ramp = np.zeros_like(found.values) + np.arange(found.values.shape[1 + axis]).reshape(
            [-1 if a == axis else 1 for a in range(3)]
        )
        found = replace(found, values=ramp.astype(np.float32))
        z, y, x = (slice(0, size) for size in found.source.grid.shape)
        on_image = found.draw((z, y, x))[0]
        inner = np.array([[2, 2, 2], [3, 2, 4], [4, 5, 3]])
        voxels = np.array([found.source.grid.to_voxel(found.network_grid.to_world(at)) for at in inner])
        np.testing.assert_allclose(map_coordinates(on_image, voxels.T, order=1), inner[:, axis], atol=1e-4)

    def test_it_is_saved_with_that_affine(self, tmp_path):
        maps = attention_maps(scan(), unet(), ["skip2.gate1"])
        (path,) = save_maps(maps, tmp_path, grid="network")
        np.testing.assert_allclose(nib.load(path).affine, maps[0].network_grid.affine, atol=1e-5)
        assert np.asarray(nib.load(path).dataobj).size < scan().array.size / 4

    def test_padding_is_left_out(self):
        found = attention_maps(scan(), unet(), ["skip2.gate1"])[0]
        inside = found.prepared.array.shape[1:]
        assert found.network_grid.shape == tuple(-(-size // 2) for size in inside)
        assert found.values.shape[1:] != found.network_grid.shape


class TestCard:
    @pytest.fixture
    def card(self, tmp_path):
        key = "layer1.0.row_attention"
        (path,) = save_maps(attention_maps(scan(), axial(), [key], heads=2, query=(4, 11, 7)), tmp_path)
        return json.loads((tmp_path / path.name.replace(".nii.gz", ".json")).read_text())

    def test_it_says_what_attention_is_not(self, card):
        assert card["note"] == "Attention is where the block looks, not why."

    def test_it_names_site_and_head(self, card):
        assert card["site"]["key"] == "layer1.0.row_attention"
        assert (card["site"]["kind"], card["site"]["normalisation"], card["site"]["heads"]) == ("axial", "softmax", 8)
        assert (card["head"], card["heads_count_from"]) == (3, 1)

    def test_it_names_the_voxel_in_both_worlds(self, card):
        assert card["query"]["voxel_zyx"] == [4, 11, 7]
        expected = AFFINES["oblique"] @ [7, 11, 4, 1]
        np.testing.assert_allclose(card["query"]["world_xyz_ras"], expected[:3])

    def test_it_says_in_what_the_numbers_are_counted(self, card):
        assert card["values"]["unit"] == "multiples of the even share"
        assert card["values"]["even_share"] == pytest.approx(1 / 16)  # rows of 32 voxels, one value for two
        assert card["values"]["comparable_across_tiles"] is False
        assert card["tile_zyx"] == [1, 32, 32]

    def test_it_names_the_network_and_the_scan(self, card):
        assert (card["checkpoint"], card["network"], card["weights_sha256"]) == ("tiny", "gated_axial_unet", "abc")
        assert card["trained_on"] == "untrained"
        assert card["image"]["name"] == "scan"
        assert card["image"]["affine_xyz_to_ras"] == AFFINES["oblique"].tolist()
        assert set(card["versions"]) >= {"napari_medattn", "torch"}
        assert card["created"]

    def test_gates_compare_across_tiles(self, tmp_path):
        (path,) = save_maps(attention_maps(scan(), unet(), ["skip2.gate1"]), tmp_path)
        card = json.loads((tmp_path / path.name.replace(".nii.gz", ".json")).read_text())
        assert card["values"]["comparable_across_tiles"] is True
        assert card["values"]["even_share"] is None
        assert card["query"] is None
        assert card["files"] == [path.name]


class TestChannelAttention:
    def test_it_becomes_a_table_per_head_whose_rows_sum_to_one(self, tmp_path):
        key = "encode3.block1.channel"
        paths = save_maps(attention_maps(scan(), dae(), [key], heads="all"), tmp_path)
        heads = dae().sites[key].heads
        assert [path.suffix for path in paths] == [".csv"] * heads
        table = np.loadtxt(paths[1], delimiter=",")
        assert table.shape == (3, 3)
        np.testing.assert_allclose(table.sum(axis=1), 1, rtol=1e-4)
        assert "row = channel that attends" in paths[0].read_text()

    def test_with_one_card(self, tmp_path):
        paths = save_maps(attention_maps(scan(), dae(), ["encode3.block1.channel"], heads="all"), tmp_path)
        (card,) = tmp_path.glob("*.json")
        assert json.loads(card.read_text())["files"] == [path.name for path in paths]


class TestNames:
    def test_they_are_readable(self):
        maps = attention_maps(scan(), axial(), ["layer1.0.row_attention"], heads=0, query=(1, 2, 3))
        title = maps[0].site.title.replace(" ", "-")
        assert file_names(maps) == [f"scan_{title}_query-1-2-3_head1.nii.gz"]

    def test_no_two_are_the_same(self):
        found = attention_maps(scan(), unet(), ["skip2.gate1"])[0]
        twin = replace(found, site=replace(found.site, key="other"))
        names = file_names([found, twin, twin], "tiff")
        assert len(set(names)) == 3
        assert names[0].endswith("skip2.gate1.tiff")

    def test_a_name_with_slashes_makes_no_folder(self):
        found = attention_maps(replace(scan(), name="a/b c:d"), unet(), ["skip2.gate1"])
        assert file_names(found)[0].startswith("a-b-c-d_")


class TestQuery:
    def record_of(self, voxel) -> np.ndarray:
        """The row of the tile that shows a voxel, (heads, Y, X), asked without anything in between."""
        scene, key = Scene(scan(), axial()), "layer1.0.row_attention"
        spot = scene.locate(voxel)
        row = scene.glance(spot.frame, [key]).records[key].query(spot.on_grid(scene.site(key)))
        np.testing.assert_allclose(row.sum(dim=(2, 3)), 1, rtol=1e-4)
        return row[spot.tile].numpy()

    def test_it_is_the_row_in_its_tile_and_unknown_outside(self, tmp_path):
        found = attention_maps(scan(), axial(), ["layer1.0.row_attention"], query=(4, 11, 7))[0]
        record = self.record_of((4, 11, 7))
        np.testing.assert_allclose(found.values[0, 0], record.mean(axis=0) * 16, rtol=1e-5)
        (path,) = save_maps([found], tmp_path)
        values = np.asarray(nib.load(path).dataobj)
        assert np.isfinite(values[7, 11, 4])
        assert np.isnan(values[:, :, [0, 9]]).all()
        assert np.nanmax(values) == pytest.approx(found.values.max(), rel=0.6)

    def test_a_gate_has_none(self):
        with pytest.raises(InputError, match=r"is a gate.*so it has no query"):
            attention_maps(scan(), unet(), ["skip2.gate1"], query=(1, 1, 1))

    def test_outside_the_image_is_refused(self):
        with pytest.raises(InputError, match=r"\(10, 0, 0\) lies outside scan"):
            attention_maps(scan(), axial(), ["layer1.0.row_attention"], query=(10, 0, 0))

    def test_received_is_another_map(self):
        scene = Scene(scan(), axial())
        to, back = (
            run_to_end(answers_steps(scene, ["layer1.0.row_attention"], (4, 11, 7), direction=way))[0]
            for way in ("to", "from")
        )
        assert back.asked.direction == "from"
        assert not np.allclose(to.values, back.values)


class TestOverview:
    @pytest.mark.parametrize("make", [unet, axial, dae])
    def test_it_is_what_a_segmentation_gives(self, make):
        predictor = make()
        expected = segment(scan(), predictor, attention=None)
        found = run_to_end(overview_steps(Scene(scan(), predictor), list(predictor.sites), heads="all"))
        np.testing.assert_array_equal(found.labels, expected.labels)
        for key, one in found.maps.items():
            np.testing.assert_allclose(one.values, expected.attention[key].values, rtol=1e-4, atol=1e-6)

    @pytest.mark.parametrize("axis", [0, 1, 2])
    @pytest.mark.parametrize("make", [unet, axial])
    def test_a_slice_is_that_of_the_whole(self, make, axis):
        predictor, volume = make(), scan(shape=(20, 44, 36))
        key = next(iter(predictor.sites))
        expected = segment(volume, predictor, attention=[key])
        box = [slice(0, size) for size in volume.grid.shape]
        box[axis] = slice(7, 8)
        found = run_to_end(overview_steps(Scene(volume, predictor), [key], box=tuple(box), heads="all"))
        np.testing.assert_array_equal(found.labels, expected.labels[tuple(box)])
        drawn = found.maps[key].draw(tuple(box))
        np.testing.assert_allclose(drawn, expected.attention[key].on_image()[(slice(None), *box)], rtol=1e-3, atol=1e-5)

    def test_a_slice_takes_fewer_tiles(self):
        scene = Scene(scan(shape=(40, 44, 36)), unet())
        box = (slice(3, 4), slice(0, 44), slice(0, 36))
        events = list(overview_steps(scene, ["skip2.gate1"], box=box))
        assert 0 < events[-1].total < len(scene.plan)

    def test_what_does_not_fit_into_memory_is_refused_with_its_size(self, monkeypatch):
        monkeypatch.setattr(device, "available_memory", lambda: 50_000)
        with pytest.raises(InputError, match=r"would take .* of memory, 50 kB are free.*mean of the heads"):
            attention_maps(scan(), axial(), ["layer1.0.row_attention"], heads="all")

    def test_so_is_drawing_a_map_on_the_whole_image_at_once(self, monkeypatch):
        found = segment(scan(), unet(), attention=["skip2.gate1"]).attention["skip2.gate1"]
        monkeypatch.setattr(device, "available_memory", lambda: 4 * 10 * 21 * 26 - 1)
        with pytest.raises(InputError, match="Save them with save_maps, which draws slab by slab"):
            found.on_image()
        monkeypatch.setattr(device, "available_memory", lambda: 4 * 10 * 21 * 26)
        assert found.on_image().shape == (1, 10, 21, 26)

    def test_even_the_mean(self, monkeypatch):
        monkeypatch.setattr(device, "available_memory", lambda: 1000)
        with pytest.raises(InputError, match=r"1 kB are free. Take fewer sites"):
            attention_maps(scan(), unet(), ["skip2.gate1"])


class TestBadInput:
    def test_nothing_to_save(self, tmp_path):
        with pytest.raises(InputError, match="no map to save"):
            save_maps([], tmp_path)

    def test_an_unknown_format(self, tmp_path):
        with pytest.raises(InputError, match="no format 'jpg'"):
            save_maps(attention_maps(scan(), unet(), ["skip2.gate1"]), tmp_path, form="jpg")

    def test_a_head_that_is_not_there(self):
        with pytest.raises(InputError, match="no head 9"):
            attention_maps(scan(), axial(), ["layer1.0.row_attention"], heads=8)

    def test_files_are_replaced_only_when_asked(self, tmp_path):
        maps = attention_maps(scan(), unet(), ["skip2.gate1"])
        save_maps(maps, tmp_path)
        with pytest.raises(InputError, match="exists already"):
            save_maps(maps, tmp_path)
        assert len(save_maps(maps, tmp_path, overwrite=True)) == 1

    def test_a_map_that_the_prediction_does_not_have(self):
        with pytest.raises(InputError, match="no map of nose"):
            placed(segment(scan(), unet()), ["nose"])


class TestMemory:
    def test_it_is_known_here(self):
        assert device.available_memory() is None or device.available_memory() > 1 << 20

    @pytest.mark.parametrize(("size", "words"), [(5, "5 bytes"), (1500, "1.5 kB"), (2_500_000_000, "2.5 GB")])
    def test_sizes_are_said_for_people(self, size, words):
        assert device.as_size(size) == words
