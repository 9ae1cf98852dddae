"""Data folders whose labels number instances or are not named: one foreground class, and it is said so."""

from __future__ import annotations

import json

import numpy as np
import pytest

from napari_medattn.data import Volume, write_labels
from napari_medattn.data.phantom import write_image
from napari_medattn.errors import ReadError
from napari_medattn.geometry import Grid
from napari_medattn.training.folder import DataFolder

INSTANCES = "uint16 instance labels: 0 background, 1..N nuclei"


def folder_of(root, told):
    """One case with three numbered squares."""
    values = np.zeros((1, 16, 16), np.uint16)
    for number in (1, 2, 300):
        values[0, 1:4, number % 7 : number % 7 + 2] = number
    volume = Volume(values[None], Grid.from_spacing((1, 16, 16), (1, 1, 1)))
    for part in ("images", "labels"):
        (root / part).mkdir(parents=True)
    write_image(root / "images" / "a.nii.gz", volume)
    write_labels(root / "labels" / "a.nii.gz", values, volume)
    (root / "dataset.json").write_text(json.dumps({"labels": told}))
    return root, values


class TestLabelsInWords:
    def test_instances_are_one_class(self, tmp_path):
        root, values = folder_of(tmp_path / "cells", INSTANCES)
        folder = DataFolder.open(root)
        assert folder.class_names == ("background", "foreground")
        np.testing.assert_array_equal(folder.example("a").labels, values > 0)
        np.testing.assert_array_equal(folder.scored("a").labels, values > 0)

    def test_it_is_said_so(self, tmp_path):
        (note,) = DataFolder.open(folder_of(tmp_path / "cells", INSTANCES)[0]).notes
        assert "cells number instances" in note
        assert "foreground" in note

    def test_named_values_stay_what_they_are(self, tmp_path):
        root, values = folder_of(tmp_path / "d", {"0": "background", "300": "cell"})
        folder = DataFolder.open(root)
        assert folder.notes == ()
        np.testing.assert_array_equal(folder.example("a").labels, values)

    @pytest.mark.parametrize("told", ["see the paper", [], None, {"a": "b"}, {"-1": "x"}, 3])
    def test_what_says_nothing_is_refused_with_the_form_that_does(self, tmp_path, told):
        root, _ = folder_of(tmp_path / "d", told)
        with pytest.raises(ReadError, match=r'dataset\.json.*Put one there: {"labels"'):
            DataFolder.open(root)


class TestRealFolders:
    @pytest.mark.parametrize("name", ["dsb2018_nuclei", "monuseg_he", "spinal_cord_mri"])
    def test_they_open_with_a_note_and_two_classes(self, shared_data, name):
        folder = DataFolder.open(shared_data / name)
        case = next(iter(folder.cases))
        assert len(folder.cases) == json.loads((folder.root / "dataset.json").read_text())["num_cases"]
        assert name in folder.notes[0]
        assert set(np.unique(folder.example(case).labels)) == {0, 1}

    def test_numbers_of_levels_are_foreground_too(self, shared_data):
        folder = DataFolder.open(shared_data / "spinal_cord_mri")
        assert set(np.unique(folder.example("sct_t2_rootlets_PSR").labels)) == {0, 1}
