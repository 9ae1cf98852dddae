"""A folder of images: resumable, not stopped by a bad file, and the same on a cluster that loses a worker."""

from __future__ import annotations

import csv
import json
import os
import signal
import time

import numpy as np
import pytest

from napari_medattn.data import read_labels, read_volume
from napari_medattn.data.phantom import phantom, write_image
from napari_medattn.errors import DeviceError, InputError
from napari_medattn.events import run_to_end
from napari_medattn.inference import Predictor, RunSettings, segment
from napari_medattn.inference.case_file import Asked, frame_targets, read_record, segment_file_steps
from napari_medattn.inference.cluster import cohort_on_cluster_steps
from napari_medattn.inference.cohort import cohort_steps, find_cases
from napari_medattn.store import load_checkpoint
from tests.test_cli import medattn
from tests.test_inference import CPU, Threshold, card

SHAPE = (16, 24, 24)


def network(name="tiny") -> Predictor:
    """Labels follow brightness: no training needed."""
    from dataclasses import replace

    made = replace(card(), name=name, weights_sha256=name * 8)
    return Predictor(Threshold(), made, CPU)


@pytest.fixture
def folder(tmp_path):
    """Three images, one of them in a folder of its own."""
    root = tmp_path / "in"
    (root / "later").mkdir(parents=True)
    for number, name in enumerate(["a.nii.gz", "b.nii.gz", "later/c.nii.gz"]):
        write_image(root / name, phantom(number, SHAPE)[0])
    return root


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def go(folder, out, predictor=None, asked=None):
    """Status by case."""
    results = run_to_end(cohort_steps(find_cases(folder, out), predictor or network(), asked or Asked(), out))
    return {result.name: result.status for result in results}


class TestCases:
    def test_folders_are_kept_as_they_are(self, folder, out):
        masks = {case.name: str(case.mask.relative_to(out)) for case in find_cases(folder, out)}
        assert masks == {
            "a.nii.gz": "a_mask.nii.gz",
            "b.nii.gz": "b_mask.nii.gz",
            "later/c.nii.gz": "later/c_mask.nii.gz",
        }

    def test_masks_in_the_same_folder_are_no_images(self, folder):
        out = folder / "masks"
        go(folder, out)
        assert len(find_cases(folder, out)) == 3

    def test_of_a_data_folder_the_labels_are_left_out(self, folder, out):
        root = folder.parent / "set"
        (root / "labels").mkdir(parents=True)
        folder.rename(root / "images")
        write_image(root / "labels" / "a.nii.gz", phantom(0, SHAPE)[0])
        assert [case.name for case in find_cases(root, out)] == ["a.nii.gz", "b.nii.gz", "later/c.nii.gz"]

    def test_images_of_one_name_get_masks_and_records_of_their_own(self, folder, out):
        write_image(folder / "a.nii", phantom(3, SHAPE)[0])
        go(folder, out)
        assert len(list(out.glob("a*_mask*.nii*"))) == 2
        assert len(list(out.glob("a*_mask.json"))) == 2

    def test_a_folder_of_dicom_files_is_one_case(self, folder, out):
        (folder / "series").mkdir()
        for number in range(3):
            (folder / "series" / f"{number}.dcm").write_bytes(b"")
        assert [case.name for case in find_cases(folder, out)][-1] == "series"

    @pytest.mark.parametrize("wrong", ["empty", "same", "none"])
    def test_what_cannot_be_a_cohort_is_refused(self, folder, tmp_path, wrong):
        (tmp_path / "nothing").mkdir()
        place = {"empty": tmp_path / "nothing", "same": folder, "none": tmp_path / "nowhere"}[wrong]
        with pytest.raises(InputError):
            find_cases(place, folder)


class TestRun:
    def test_every_image_gets_its_mask_and_record(self, folder, out):
        assert set(go(folder, out).values()) == {"done"}
        expected = segment(read_volume(folder / "later" / "c.nii.gz"), network()).labels
        np.testing.assert_array_equal(read_labels(out / "later" / "c_mask.nii.gz"), expected)
        assert read_record(out / "later" / "c_mask.json")["mask"] == "c_mask.nii.gz"

    def test_what_is_finished_is_skipped(self, folder, out):
        go(folder, out)
        before = {path: path.stat().st_mtime_ns for path in out.rglob("*_mask*")}
        assert set(go(folder, out).values()) == {"skipped"}
        assert {path: path.stat().st_mtime_ns for path in out.rglob("*_mask*")} == before

    def test_an_interrupted_case_is_made_again(self, folder, out):
        go(folder, out)
        (out / "b_mask.json").unlink()  # written last
        assert go(folder, out) == {"a.nii.gz": "skipped", "b.nii.gz": "done", "later/c.nii.gz": "skipped"}

    def test_left_in_the_middle_it_goes_on_there(self, folder, out):
        steps = cohort_steps(find_cases(folder, out), network(), Asked(), out)
        while not (out / "b_mask.json").exists():
            next(steps)
        steps.close()
        rows = {row["name"]: row["status"] for row in json.loads((out / "report.json").read_text())["cases"]}
        assert rows["a.nii.gz"] == "done"
        assert rows["later/c.nii.gz"] == "open"
        assert go(folder, out) == {"a.nii.gz": "skipped", "b.nii.gz": "skipped", "later/c.nii.gz": "done"}

    @pytest.mark.parametrize("change", ["network", "options", "image"])
    def test_what_was_made_otherwise_is_made_again(self, folder, out, change):
        go(folder, out)
        predictor = network("other") if change == "network" else None
        asked = Asked(RunSettings(overlap=0.5)) if change == "options" else None
        if change == "image":
            write_image(folder / "b.nii.gz", phantom(9, SHAPE)[0])
        found = go(folder, out, predictor, asked)
        assert found["b.nii.gz"] == "done"
        assert (found["a.nii.gz"] == "skipped") == (change == "image")

    def test_a_bad_file_stops_nothing_and_is_in_the_report(self, folder, out):
        (folder / "aa.nii.gz").write_bytes(b"nothing")
        assert go(folder, out) == {
            "a.nii.gz": "done",
            "aa.nii.gz": "failed",
            "b.nii.gz": "done",
            "later/c.nii.gz": "done",
        }
        rows = {row["case"]: row for row in csv.DictReader((out / "report.csv").read_text().splitlines())}
        assert "aa.nii.gz is damaged" in rows["aa.nii.gz"]["error"]
        volume = read_volume(folder / "b.nii.gz")
        count = int(np.count_nonzero(read_labels(out / "b_mask.nii.gz") == 1))
        assert int(rows["b.nii.gz"]["a voxels"]) == count
        assert float(rows["b.nii.gz"]["a ml"]) == pytest.approx(count * np.prod(volume.grid.spacing) / 1000, abs=1e-3)

    def test_nor_does_a_fault_in_our_own_work(self, folder, out, monkeypatch):
        plain = segment_file_steps

        def faulty(image, *rest):
            if image.name == "b.nii.gz":
                raise ZeroDivisionError("oh")
            return plain(image, *rest)

        monkeypatch.setattr("napari_medattn.inference.cohort.segment_file_steps", faulty)
        assert go(folder, out) == {"a.nii.gz": "done", "b.nii.gz": "failed", "later/c.nii.gz": "done"}
        assert "ZeroDivisionError: oh" in (out / "report.csv").read_text()


class TestFrames:
    @pytest.fixture
    def series(self, tmp_path):
        """Four frames, each of another brightness."""
        import nibabel as nib

        array = np.random.default_rng(0).random((12, 10, 8, 4)).astype(np.float32) * np.arange(1, 5)
        path = tmp_path / "series.nii.gz"
        nib.save(nib.Nifti1Image(array.astype(np.float32), np.eye(4)), path)
        return path

    def test_each_frame_gets_the_mask_it_would_get_alone(self, series, tmp_path):
        target = tmp_path / "mask.nii.gz"
        records = run_to_end(segment_file_steps(series, target, network(), Asked(frames=True)))
        assert [record["frame"] for record in records] == [0, 1, 2, 3]
        volume = read_volume(series)
        for frame, path in enumerate(frame_targets(target, 4)):
            np.testing.assert_array_equal(read_labels(path), volume.array[frame] > 0.5)

    def test_a_cohort_of_them_is_resumable_too(self, series, tmp_path, out):
        (tmp_path / "in").mkdir()
        series.rename(tmp_path / "in" / series.name)
        asked = Asked(frames=True)
        assert go(tmp_path / "in", out, asked=asked) == {"series.nii.gz": "done"}
        assert go(tmp_path / "in", out, asked=asked) == {"series.nii.gz": "skipped"}
        (out / "series_mask_t2.nii.gz").unlink()
        assert go(tmp_path / "in", out, asked=asked) == {"series.nii.gz": "done"}

    def test_channels_that_are_no_whole_frames_are_refused(self, series):
        from napari_medattn.inference.frames import split_frames

        with pytest.raises(InputError, match="4 channels, which are no whole number of frames of 3"):
            split_frames(read_volume(series), 3)


class TestUncertaintyFile:
    def test_it_lies_beside_the_mask_on_the_same_grid(self, folder, out):
        go(folder, out, asked=Asked(uncertainty="margin"))
        found = read_volume(out / "a_mask_uncertainty.nii.gz")
        expected = segment(read_volume(folder / "a.nii.gz"), network(), uncertainty="margin").uncertainty
        np.testing.assert_allclose(found.array[0], expected, atol=1e-6)


class TestFromRecord:
    def test_the_mask_comes_back_to_the_byte(self, folder, out):
        done = medattn("predict", folder / "a.nii.gz", "-c", "phantom", "-o", out, "--flips", "x", "--tidy", "largest")
        assert done.returncode == 0, done.stderr
        mask = out / "a_mask.nii.gz"
        again = medattn("predict", "--from-record", out / "a_mask.json", "-o", out / "again.nii.gz", "--json")
        assert again.returncode == 0, again.stderr
        assert json.loads(again.stdout)["identical"]
        np.testing.assert_array_equal(read_labels(out / "again.nii.gz"), read_labels(mask))

    def test_another_image_is_noticed(self, folder, out):
        from napari_medattn.cli.again import make_again

        medattn_record = run_to_end(
            segment_file_steps(folder / "a.nii.gz", folder / "m.nii.gz", Predictor.named("phantom", "cpu"), Asked())
        )
        assert medattn_record[0]["checkpoint"] == "phantom"
        with pytest.raises(InputError, match="not those that the record speaks of"):
            make_again(folder / "m.json", [folder / "b.nii.gz"], "", out / "x.nii.gz", False, True)
        assert not out.exists()


class TestCommand:
    def test_report_and_exit_status(self, folder, out):
        (folder / "bad.nii.gz").write_bytes(b"nothing")
        done = medattn("cohort", folder, out, "-c", "phantom", "--json")
        assert done.returncode == 1, done.stderr
        statuses = {case["name"]: case["status"] for case in json.loads(done.stdout)["cases"]}
        assert statuses == {"a.nii.gz": "done", "b.nii.gz": "done", "bad.nii.gz": "failed", "later/c.nii.gz": "done"}


class TestCluster:
    @pytest.mark.timeout(240)
    # What distributed says of a worker that was killed, and of processes that outlive their loop for a moment.
    @pytest.mark.filterwarnings("ignore")
    def test_a_worker_that_is_killed_loses_nothing_and_doubles_nothing(self, tmp_path, out, monkeypatch):
        distributed = pytest.importorskip("distributed")
        root = tmp_path / "in"
        root.mkdir()
        for number in range(6):
            write_image(root / f"{number}.nii.gz", phantom(number, (48, 64, 64))[0])
        monkeypatch.setenv("DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES", "10")
        options = {"n_workers": 2, "threads_per_worker": 1, "processes": True, "dashboard_address": None}
        with distributed.LocalCluster(**options, local_directory=str(tmp_path)) as cluster:
            cases, asked = find_cases(root, out), Asked()
            steps = cohort_on_cluster_steps(
                cases, load_checkpoint("phantom"), asked, out, cluster.scheduler_address, device="cpu"
            )
            killed, results = None, None
            while results is None:
                try:
                    next(steps)
                except StopIteration as stop:
                    results = stop.value
                if killed is None and list(out.glob("*_mask.json")):
                    killed = next(iter(cluster.workers.values())).pid
                    os.kill(killed, signal.SIGKILL)
                time.sleep(0.01)
        assert killed is not None
        assert [(result.name, result.status) for result in results] == [(f"{n}.nii.gz", "done") for n in range(6)]
        assert sorted(path.name for path in out.iterdir()) == sorted(
            [f"{n}_mask{end}" for n in range(6) for end in (".nii.gz", ".json")] + ["report.csv", "report.json"]
        )
        rows = list(csv.DictReader((out / "report.csv").read_text().splitlines()))
        assert [row["case"] for row in rows] == [f"{n}.nii.gz" for n in range(6)]
        expected = segment(read_volume(root / "5.nii.gz"), "phantom", device="cpu").labels
        assert np.mean(read_labels(out / "5_mask.nii.gz") == expected) > 0.9999

    def test_a_scheduler_that_is_not_there_is_named(self, folder, out, monkeypatch):
        distributed = pytest.importorskip("distributed")

        def nobody(*_, **__):
            raise OSError("Timed out trying to connect")

        monkeypatch.setattr(distributed, "Client", nobody)
        steps = cohort_on_cluster_steps(
            find_cases(folder, out), load_checkpoint("phantom"), Asked(), out, "tcp://127.0.0.1:1"
        )
        with pytest.raises(DeviceError, match=r"no Dask scheduler at tcp://127.0.0.1:1"):
            next(steps)
