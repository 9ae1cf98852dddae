"""The record beside a mask: a person's work is not overwritten, and the share that was edited adds up."""

from __future__ import annotations

import json

import pytest

from napari_medattn.data import read_labels, read_volume, write_labels
from napari_medattn.store.mask_record import edited_since, record_beside, record_path
from tests.test_cohort import folder, go, network, out  # noqa: F401 - fixtures


class TestCohort:
    @pytest.fixture
    def edited(self, folder, out):  # noqa: F811
        """The first mask of a cohort, with a person's edits in it."""
        go(folder, out)
        mask = out / "a_mask.nii.gz"
        labels = read_labels(mask).copy()
        labels[0] = 1
        write_labels(mask, labels, like=read_volume(mask))
        told = edited_since(record_beside(mask), labels[0].size, labels.size)
        record_path(mask).write_text(json.dumps(told))
        return mask

    def test_another_network_leaves_what_a_person_edited(self, folder, out, edited):  # noqa: F811
        before = edited.read_bytes()
        status = go(folder, out, network("other"))
        assert status == {"a.nii.gz": "failed", "b.nii.gz": "done", "later/c.nii.gz": "done"}
        assert edited.read_bytes() == before
        (case, *_) = json.loads((out / "report.json").read_text())["cases"]
        assert "edited by a person" in case["error"]

    def test_with_the_same_network_it_counts_as_finished(self, folder, out, edited):  # noqa: F811
        before = edited.read_bytes()
        assert set(go(folder, out).values()) == {"skipped"}
        assert edited.read_bytes() == before


class TestShare:
    def test_it_adds_up_and_is_never_more_than_all(self):
        once = edited_since({"share_edited": 0.25}, 50, 200)
        assert once["share_edited"] == 0.5
        assert edited_since(once, 150, 200)["share_edited"] == 1


class TestBeside:
    @pytest.mark.parametrize(
        "text", ["", "[1]", '{"Modality": "MR"}', '{"format": 2, "weights_sha256": "a", "mask": "b.nii"}']
    )
    def test_a_file_that_is_no_record_of_this_mask_is_none(self, tmp_path, text):
        (tmp_path / "a.json").write_text(text)
        assert record_beside(tmp_path / "a.nii.gz") is None
