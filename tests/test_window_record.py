"""The record beside a mask that is saved from the window: how it was made, and how much of it a person edited."""

from __future__ import annotations

import json

import numpy as np
import pytest

from napari_medattn.layerdata import KEY
from tests.window_tools import PATIENCE, PLUGIN, segment

EDITED = (slice(2, 4), slice(5, 9), slice(6, 12))  # 48 voxels


def edit(mask, box=EDITED):
    """Give every voxel of a box another label, as a tool that reports to napari does."""
    places = tuple(axis.ravel() for axis in np.mgrid[box])
    mask.data_setitem(places, (mask.data[places] + 1) % 3)


def save(dock, path, qtbot):
    job = dock.correct.save_mask(path)
    qtbot.waitUntil(lambda: not job.running, timeout=PATIENCE)
    return json.loads(path.with_name("mask.json").read_text())


@pytest.fixture
def path(tmp_path):
    return tmp_path / "mask.nii.gz"


@pytest.fixture
def segmented(dock, qtbot):
    dock.segment.more.tidy.setText("largest")
    segment(dock, qtbot)
    return dock


class TestShare:
    def test_it_is_what_a_person_edited(self, segmented, path, qtbot):
        mask = segmented.session.case.mask
        edit(mask)
        assert save(segmented, path, qtbot)["share_edited"] == 48 / mask.data.size

    def test_untouched_it_is_nothing(self, segmented, path, qtbot):
        assert save(segmented, path, qtbot)["share_edited"] == 0

    def test_what_was_undone_does_not_count(self, segmented, path, qtbot):
        edit(segmented.session.case.mask)
        segmented.session.case.undo()
        assert save(segmented, path, qtbot)["share_edited"] == 0

    def test_naparis_own_save_tells_it_too(self, segmented, viewer, path):
        mask = segmented.session.case.mask
        edit(mask)
        viewer.layers.selection.active = mask
        viewer.layers.save(str(path), selected=True, plugin=PLUGIN)
        assert json.loads(path.with_name("mask.json").read_text())["share_edited"] == 48 / mask.data.size

    def test_of_a_mask_that_is_opened_again_it_goes_on(self, segmented, viewer, scan, path, qtbot):
        edit(segmented.session.case.mask)
        first = save(segmented, path, qtbot)
        viewer.layers.clear()
        viewer.open(str(scan), plugin=PLUGIN)
        (mask,) = viewer.open(str(path), plugin=PLUGIN)
        assert segmented.session.case.mask == mask
        edit(mask, np.s_[10:11, 2:4, 3:6])
        again = save(segmented, path, qtbot)
        assert again["share_edited"] == pytest.approx(54 / mask.data.size)
        assert again["weights_sha256"] == first["weights_sha256"]


class TestRest:
    def test_it_is_the_record_of_the_run(self, segmented, path, qtbot):
        mask = segmented.session.case.mask
        run = json.loads(json.dumps(mask.metadata[KEY]["record"]))
        edit(mask)
        saved = save(segmented, path, qtbot)
        assert {"parent", "parent_name", "checkpoint", "ladder", "tidy", "labels_sha256"} <= set(run)
        assert [step["step"] for step in run["tidy"]] == ["largest"]
        assert {key: saved[key] for key in run if key != "share_edited"} == {
            key: value for key, value in run.items() if key != "share_edited"
        }

    def test_voxels_are_those_of_the_saved_mask(self, segmented, path, qtbot):
        mask = segmented.session.case.mask
        edit(mask)
        names = mask.metadata[KEY]["class_names"]
        counts = np.bincount(mask.data.ravel(), minlength=len(names)).tolist()
        assert save(segmented, path, qtbot)["voxels"] == dict(zip(names, counts, strict=True))

    def test_a_file_of_that_name_that_is_no_record_stays(self, segmented, path, qtbot):
        path.with_name("mask.json").write_text('{"Modality": "MR"}')
        assert save(segmented, path, qtbot) == {"Modality": "MR"}
