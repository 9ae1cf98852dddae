"""``medattn attention``, in this process: files, exit status, and one sentence where something is wrong."""

import json
import sys

import nibabel as nib
import numpy as np
import pytest

from napari_medattn.cli.main import main
from napari_medattn.data import Preparation
from napari_medattn.data.phantom import phantom, write_image
from napari_medattn.inference import Predictor, segment
from napari_medattn.models import create_model
from napari_medattn.store import Card, load_checkpoint, save_checkpoint

ROWS = "layer1.0.row_attention"


@pytest.fixture
def scan(tmp_path):
    path = tmp_path / "scan.nii.gz"
    write_image(path, phantom(1, (12, 32, 32))[0])
    return path


@pytest.fixture(autouse=True)
def networks(own_home):
    """One network of gates, in 3-D, and one that can be asked, in 2-D; never trained."""
    gates = {"in_channels": 1, "num_classes": 2, "spatial_dims": 3, "feature_scale": 16}
    axial = {"in_channels": 1, "num_classes": 2, "spatial_dims": 2, "variant": "small", "image_size": 32}
    for name, network, tile, arguments in (
        ("gates", "attention_unet", (16, 32, 32), gates),
        ("axial", "gated_axial_unet", (1, 32, 32), axial),
    ):
        card = Card(name, network, arguments, ("background", "a"), Preparation(), tile)
        save_checkpoint(card, create_model(network, **arguments))


@pytest.fixture
def medattn(monkeypatch, capsys):
    """Run ``medattn attention``; gives the exit status, what it printed, and what it said."""

    def call(*args):
        monkeypatch.setattr(sys, "argv", ["medattn", "attention", *map(str, args)])
        status = 0
        try:
            main()
        except SystemExit as stop:
            status = stop.code or 0
        out, said = capsys.readouterr()
        return status, out, " ".join(said.replace("│", " ").split())

    return call


class TestSites:
    def test_a_key_is_never_cut_off(self, medattn, monkeypatch):
        monkeypatch.setenv("COLUMNS", "80")
        _, out, _ = medattn("-c", "axial", "--list")
        assert ROWS in out

    def test_they_are_listed_without_a_scan(self, medattn):
        status, out, _ = medattn("-c", "gates", "--list")
        assert status == 0
        assert "skip2.gate1" in out

    def test_as_json(self, medattn):
        sites = {site["key"]: site for site in json.loads(medattn("-c", "axial", "--list", "--json")[1])}
        assert sites[ROWS]["heads"] == 8
        assert sites[ROWS]["query"] is True
        assert "even share" in sites[ROWS]["legend"]


class TestMaps:
    def test_they_are_saved_on_the_scan_with_a_card(self, medattn, scan, tmp_path):
        status, out, said = medattn(scan, "-c", "gates", "-s", "skip2.gate1", "-o", tmp_path / "out", "--json")
        assert status == 0, said
        (file,) = json.loads(out)["files"]
        assert nib.load(file).affine.tobytes() == nib.load(scan).affine.tobytes()
        card = json.loads((tmp_path / "out" / "scan_decoder-2-gate.json").read_text())
        assert card["weights_sha256"] == load_checkpoint("gates").card.weights_sha256

    def test_they_are_what_python_gives(self, medattn, scan, tmp_path):
        from napari_medattn.data import read_volume

        medattn(scan, "-c", "axial", "-s", ROWS, "--head", "3", "-o", tmp_path / "out")
        (file,) = (tmp_path / "out").glob("*_head3.nii.gz")
        predictor = Predictor.load(load_checkpoint("axial"), "cpu")
        expected = segment(read_volume(scan), predictor, attention=[ROWS]).attention[ROWS].on_image()[2]
        np.testing.assert_allclose(np.asarray(nib.load(file).dataobj).T, expected, rtol=1e-4, atol=1e-5)

    def test_all_sites_all_heads_as_tiff(self, medattn, scan, tmp_path):
        medattn(scan, "-c", "gates", "-s", "all", "--head", "all", "--format", "tiff", "-o", tmp_path / "out")
        assert len(list((tmp_path / "out").glob("*.tiff"))) == 3
        assert len(list((tmp_path / "out").glob("*.json"))) == 3

    def test_a_voxel_and_its_world_coordinates_ask_the_same(self, medattn, scan, tmp_path):
        x, y, z = (nib.load(scan).affine @ [9, 12, 5, 1])[:3]
        medattn(scan, "-c", "axial", "-s", ROWS, "--query", "5,12,9", "-o", tmp_path / "a")
        medattn(scan, "-c", "axial", "-s", ROWS, "--query", f"{x},{y},{z}mm", "-o", tmp_path / "b")
        (a,), (b,) = ((tmp_path / name).glob("*query-5-12-9*.nii.gz") for name in "ab")
        np.testing.assert_array_equal(nib.load(a).dataobj, nib.load(b).dataobj)

    def test_received_is_said_in_name_and_card(self, medattn, scan, tmp_path):
        medattn(scan, "-c", "axial", "-s", ROWS, "--query", "5,12,9", "--received", "-o", tmp_path / "a")
        (card,) = (tmp_path / "a").glob("*received-5-12-9*.json")
        assert json.loads(card.read_text())["shows"] == "who attends to the query voxel"

    def test_the_networks_own_grid_is_smaller(self, medattn, scan, tmp_path):
        medattn(scan, "-c", "gates", "-s", "skip2.gate1", "--grid", "network", "-o", tmp_path / "out")
        assert nib.load(tmp_path / "out" / "scan_decoder-2-gate.nii.gz").shape == (16, 16, 6)


class TestPictures:
    def test_sheet_and_figure(self, medattn, scan, tmp_path):
        sheet, figure = tmp_path / "new" / "sheet.pdf", tmp_path / "new" / "figure.svg"
        status, _, said = medattn(scan, "-c", "gates", "-s", "all", "--sheet", sheet, "--figure", figure)
        assert status == 0, said
        assert sheet.read_bytes().startswith(b"%PDF")
        assert "<svg" in figure.read_text()
        assert f"Saved {figure}" in said

    @pytest.mark.parametrize("extra", [("--slice", "3"), ("--slice", "4", "--axis", "x"), ("--query", "5,12,9")])
    def test_a_figure_alone(self, medattn, scan, tmp_path, extra):
        status, _, said = medattn(scan, "-c", "axial", "-s", ROWS, "--figure", tmp_path / "f.png", *extra)
        assert status == 0, said
        assert (tmp_path / "f.png").stat().st_size > 10_000


class TestBadCalls:
    @pytest.mark.parametrize(
        ("args", "said"),
        [
            (["SCAN", "-c", "gates"], "at least one --site"),
            (["-c", "gates", "-s", "all", "-o", "out"], "Give an IMAGE"),
            (["SCAN", "-c", "gates", "-s", "all"], "Say what to make"),
            (["SCAN", "-c", "gates", "-s", "all", "-o", "out", "--head", "0"], "counted from 1"),
            (["SCAN", "-c", "axial", "-s", ROWS, "-o", "out", "--query", "1,2"], "is not Z,Y,X"),
            (["SCAN", "-c", "axial", "-s", ROWS, "-o", "out", "--received"], "go with a --query"),
            (["SCAN", "-c", "gates", "-s", "all", "-o", "out", "--grid", "moon"], "is not image or network"),
        ],
    )
    def test_a_wrong_call_has_status_two(self, medattn, scan, tmp_path, monkeypatch, args, said):
        monkeypatch.chdir(tmp_path)
        status, _, text = medattn(*[scan if arg == "SCAN" else arg for arg in args])
        assert status == 2
        assert said in text
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize(
        ("args", "said"),
        [
            (["-c", "gates", "-s", "skip2.gate", "-o", "out"], "Did you mean skip2.gate1"),
            (["-c", "gates", "-s", "nose", "-o", "out"], "--list` shows"),
            (["-c", "gates", "-s", "skip2.gate1", "-o", "out", "--query", "1,1,1"], "is a gate"),
            (["-c", "axial", "-s", ROWS, "-o", "out", "--query", "1,1,99"], "(1, 1, 99) lies outside scan"),
            (["-c", "axial", "-s", ROWS, "-o", "out", "--head", "9"], "no head 9"),
            (["-c", "gates", "-s", "all", "-o", "out", "--format", "jpg"], "no format 'jpg'"),
            (["-c", "gates", "-s", "all", "--figure", "f.jpg"], "f.jpg has no suffix"),
            (["-c", "gates", "-s", "all", "--figure", "f.png", "--slice", "99"], "no slice 99"),
            (["-c", "nobody", "-s", "all", "-o", "out"], "no checkpoint called 'nobody'"),
        ],
    )
    def test_bad_input_is_one_sentence_and_leaves_nothing(self, medattn, scan, tmp_path, monkeypatch, args, said):
        monkeypatch.chdir(tmp_path)
        status, _, text = medattn(scan, *args)
        assert status == 1
        assert said in text
        assert "Traceback" not in text
        assert not (tmp_path / "out").exists()

    def test_files_that_are_there_stop_it_before_the_network_runs(self, medattn, scan, tmp_path):
        args = (scan, "-c", "gates", "-s", "skip2.gate1", "-o", tmp_path / "out")
        assert medattn(*args)[0] == 0
        status, _, said = medattn(*args)
        assert status == 1
        assert "exists already" in said
        assert "looking" not in said
        assert medattn(*args, "--overwrite")[0] == 0


def test_with_a_query_all_sites_are_those_that_have_an_answer(medattn, scan, tmp_path):
    arguments = {"in_channels": 1, "num_classes": 2, "spatial_dims": 2, "widths": [8, 16, 24]}
    card = Card("mixed", "dae_former", arguments, ("background", "a"), Preparation(), (1, 32, 32))
    save_checkpoint(card, create_model("dae_former", **arguments))
    status, out, said = medattn(
        scan, "-c", "mixed", "-s", "all", "--query", "5,16,16", "-o", tmp_path / "out", "--json", "--grid", "network"
    )
    assert status == 0, said
    kinds = {found["site"]["kind"] for found in json.loads(out)["maps"]}
    assert kinds == {"factored"}
