"""One of several DICOM series in a folder, chosen on the command line and in a path."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest

from napari_medattn.cli import main
from napari_medattn.data import Preparation, Volume, read_volume, write_labels
from napari_medattn.data.formats import find_format, mask_suffix, stem
from napari_medattn.data.phantom import write_image
from napari_medattn.errors import ReadError
from napari_medattn.geometry import Grid
from napari_medattn.models import create_model
from napari_medattn.store import Card, load_checkpoint, save_checkpoint
from tests.dicom_tools import save_series, voxels
from tests.training_tools import make_folder

ARGUMENTS = {"in_channels": 1, "num_classes": 2, "spatial_dims": 2, "feature_scale": 32}


@pytest.fixture
def study(tmp_path):
    """A CT of 5 x 4 pixels and an MR of 7 x 8."""
    save_series(tmp_path / "study" / "a", voxels())
    save_series(tmp_path / "study" / "b", voxels((3, 7, 8)), SeriesInstanceUID="1.2.9", SeriesNumber=8, Modality="MR")
    return tmp_path / "study"


@pytest.fixture
def network(own_home):
    card = Card("tiny", "attention_unet", ARGUMENTS, ("background", "a"), Preparation(), (1, 16, 16))
    save_checkpoint(card, create_model("attention_unet", **ARGUMENTS))


@pytest.fixture
def medattn(monkeypatch, capsys):
    """Run a command; gives the exit status, what it printed, and what it said."""

    def call(*args):
        monkeypatch.setattr(sys, "argv", ["medattn", *map(str, args)])
        status = 0
        try:
            main()
        except SystemExit as stop:
            status = stop.code or 0
        out, said = capsys.readouterr()
        return status, out, " ".join(said.split())

    return call


class TestPaths:
    @pytest.mark.parametrize(("number", "shape"), [(1, (6, 5, 4)), (2, (3, 7, 8))])
    def test_a_path_names_a_series(self, study, number, shape):
        assert read_volume(f"{study}#{number}").grid.shape == shape

    def test_a_series_that_is_not_there_is_refused_with_how_many_there_are(self, study):
        with pytest.raises(ReadError, match=r"no series 3.*from 1 to 2"):
            read_volume(f"{study}#3")

    def test_its_mask_is_a_dicom_segmentation_named_after_it(self, study):
        path = study.with_name("study#2")
        assert (find_format(path).name, stem(path), mask_suffix(path)) == ("DICOM", "study_series2", ".dcm")

    def test_a_folder_that_is_called_so_is_itself(self, tmp_path):
        save_series(tmp_path / "scan", voxels((3, 7, 8)))
        save_series(tmp_path / "scan#1", voxels())
        assert read_volume(tmp_path / "scan#1").grid.shape == (6, 5, 4)

    def test_a_file_without_series_has_none_to_choose(self, tmp_path):
        volume = Volume(np.zeros((1, 2, 3, 4), np.int16), Grid.from_spacing((2, 3, 4), (1, 1, 1)))
        write_image(tmp_path / "a.nii", volume)
        with pytest.raises(ReadError, match="no series to choose"):
            read_volume(tmp_path / "a.nii", series=1)


class TestPredict:
    def test_the_mask_lies_on_the_chosen_series(self, study, network, medattn):
        assert medattn("predict", study, "-c", "tiny", "--series", "2", "--device", "cpu")[0] == 0
        made = read_volume(study.with_name("study_series2_mask.dcm"))
        assert made.grid.matches(read_volume(study, series=2).grid)

    def test_its_record_makes_it_again(self, study, network, medattn):
        medattn("predict", study, "-c", "tiny", "--series", "2", "--device", "cpu")
        record = study.with_name("study_series2_mask.json")
        assert json.loads(record.read_text())["image_file"].endswith("study#2")
        status, out, _ = medattn("predict", "--from-record", record, "--overwrite", "--json")
        assert (status, json.loads(out)["identical"]) == (0, True)

    def test_without_a_choice_the_series_are_listed_with_the_option(self, study, network, medattn):
        status, _, said = medattn("predict", study, "-c", "tiny", "--device", "cpu")
        assert status == 1
        assert "1: CT 3" in said
        assert "2: MR 8" in said
        assert "--series" in said


class TestAttention:
    def test_maps_lie_on_the_chosen_series(self, study, network, medattn, tmp_path):
        status, _, said = medattn(
            "attention", study, "-c", "tiny", "--series", "2", "-s", "skip2.gate1", "-o", tmp_path / "maps"
        )
        assert status == 0, said
        (made,) = (tmp_path / "maps").glob("*.nii.gz")
        assert read_volume(made).grid.shape == (3, 7, 8)


class TestEvaluate:
    def test_numbers_of_a_palette_are_labels_not_colours(self, tmp_path, medattn):
        from PIL import Image

        labels = np.zeros((8, 8), np.uint8)
        labels[2:5, 2:6] = 1
        picture = Image.fromarray(labels)
        picture.putpalette([0, 0, 0, 255, 0, 0] + [0] * 762)
        assert picture.mode == "P"
        picture.save(tmp_path / "mask.png")
        like = Volume(labels[None, None], Grid.from_spacing((1, 8, 8), (1, 1, 1), "pixel"), spatial_dims=2)
        write_labels(tmp_path / "truth.png", labels, like)
        status, out, said = medattn("evaluate", tmp_path / "mask.png", tmp_path / "truth.png", "--json")
        assert status == 0, said
        assert json.loads(out)["summary"][0]["dice"] == 1.0


class TestTrainingWindow:
    """A network trains on CT in a window, which its card then tells to whoever uses it."""

    @pytest.mark.parametrize(("told", "limits"), [("lung", (-1350.0, 150.0)), ("-100,200", (-100.0, 200.0))])
    def test_the_card_has_the_window(self, tmp_path, medattn, told, limits):
        root = make_folder(tmp_path / "data")
        status, out, said = medattn(
            "train", root, "--dims", "2", "--option", "feature_scale=32", "--epochs", "1", "--validation", "2",
            "--patch", "1,32,32", "--window", told, "--name", "mine", "--out", tmp_path / "out", "--json",
        )  # fmt: skip
        assert status == 0, said
        preparation = load_checkpoint(json.loads(out)["path"]).card.preparation
        assert (preparation.intensity, tuple(preparation.window)) == ("window", limits)

    @pytest.mark.parametrize("told", ["200,-100", "1,2,3", "a,b"])
    def test_limits_that_make_no_window_are_refused(self, tmp_path, medattn, told):
        status, _, said = medattn("train", make_folder(tmp_path / "data"), "--window", told)
        assert status == 2
        assert told.split(",")[0] in said
