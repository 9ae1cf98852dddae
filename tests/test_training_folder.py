"""Which cases are learned from and which held out: whole patients, on every machine the same; and sparse labels."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, strategies as st

from napari_medattn import segment
from napari_medattn.data import Preparation, Volume, prepare, read_volume, write_labels
from napari_medattn.errors import ReadError, TrainingError
from napari_medattn.events import run_to_end
from napari_medattn.geometry import Grid
from napari_medattn.store import Checkpoint
from napari_medattn.training.examples import TrainingCase
from napari_medattn.training.folder import DataFolder
from napari_medattn.training.patches import Augmentation, PatchSampler
from napari_medattn.training.patients import fold_of, hold_out, patient_of
from napari_medattn.training.sides import mirrored_safely, side_pairs
from napari_medattn.training.train import train_on_folder
from tests.training_tools import make_folder, make_plan

PATIENTS = st.dictionaries(st.text("abcdef", min_size=1, max_size=4), st.integers(1, 3), min_size=2, max_size=12).map(
    lambda counts: {name: [f"{name}_frame{n:02}" for n in range(count)] for name, count in counts.items()}
)


class TestPatients:
    @pytest.mark.parametrize(
        ("case", "patient"),
        [
            ("patient001_frame01", "patient001"),
            ("patient001_frame12", "patient001"),
            ("patient001_ED", "patient001"),
            ("sub-03_ses-2_T1w", "sub-03"),
            ("SC-HF-I-05-IM-0001-0027", "SC-HF-I-05"),
            ("p7_visit2_slice-11", "p7"),
            ("hippocampus_001", "hippocampus_001"),
            ("scan_1", "scan_1"),
            ("frame01", "frame01"),
        ],
    )
    def test_a_name_tells_the_patient(self, case, patient):
        assert patient_of(case) == patient

    def test_the_set_may_tell_who_is_who(self, tmp_path):
        told = {"a_frame01": "x", "a_frame09": "y", "b_frame01": "x", "b_frame07": "z", "c_frame01": "x"}
        training, held_out = DataFolder.open(make_folder(tmp_path / "d", patients=told)).fold(0, 3)
        assert not {told[case] for case in training} & {told[case] for case in held_out}

    def test_names_that_tell_of_one_patient_only_tell_nothing(self, tmp_path):
        folder = DataFolder.open(make_folder(tmp_path / "d", ["set_scan1", "set_scan2", "set_scan3"]))
        assert len(folder.split(1)[1]) == 1


class TestFolds:
    @given(cases=PATIENTS, seed=st.integers(0, 9), data=st.data())
    def test_over_all_folds_every_case_is_held_out_once_and_patients_stay_whole(self, cases, seed, data):
        folds = data.draw(st.integers(2, len(cases)))
        parts = [fold_of(cases, number, folds, seed) for number in range(folds)]
        assert sorted(case for part in parts for case in part) == sorted(case for of in cases.values() for case in of)
        assert all(set(of) <= part or not set(of) & part for of in cases.values() for part in parts)

    @given(cases=PATIENTS, wanted=st.integers(0, 40), seed=st.integers(0, 9))
    def test_cases_held_out_are_whole_patients_and_somebody_is_left(self, cases, wanted, seed):
        part = hold_out(cases, wanted, seed)
        assert all(set(of) <= part or not set(of) & part for of in cases.values())
        assert len(part) < sum(map(len, cases.values()))

    @given(cases=PATIENTS, wanted=st.integers(1, 40))
    def test_no_more_are_held_out_than_asked_for_but_one_patient_is(self, cases, wanted):
        part = hold_out(cases, wanted, 0)
        assert 1 <= len(part) <= max(wanted, 3)

    def test_the_choice_is_the_same_on_every_machine(self):
        assert hold_out({name: [name] for name in "abcdefgh"}, 3, 0) == {"c", "f", "g"}

    @pytest.mark.parametrize(("number", "folds"), [(5, 5), (-1, 5), (0, 1)])
    def test_a_fold_that_is_not_there_is_refused(self, number, folds):
        with pytest.raises(TrainingError, match=f"no fold {number} of {folds}"):
            fold_of({name: [name] for name in "abcdef"}, number, folds, 0)

    def test_more_folds_than_patients_are_refused(self):
        with pytest.raises(TrainingError, match="2 patients cannot"):
            fold_of({"a": ["a"], "b": ["b"]}, 0, 3, 0)


class TestSparseLabels:
    @pytest.fixture
    def root(self, tmp_path):
        sparse = {"0": "unlabelled", "1": "background", "2": "square"}
        root = make_folder(tmp_path / "d", ["a", "b"], scribbles=sparse)
        (root / "scribbles").mkdir()
        volume = read_volume(root / "images" / "a.nii.gz")
        drawn = np.zeros(volume.grid.shape, np.uint8)
        drawn[0, 0, :5], drawn[0, 10, 10:13] = 1, 2
        write_labels(root / "scribbles" / "a.nii.gz", drawn, volume)
        return root

    def test_only_what_was_drawn_counts(self, root):
        example = DataFolder.open(root, "scribbles").example("a")
        assert np.argwhere(example.counts())[:, 1].tolist() == [0] * 5 + [10] * 3

    def test_values_become_classes(self, root):
        example = DataFolder.open(root, "scribbles").example("a")
        assert example.labels[example.counts()].tolist() == [0] * 5 + [1] * 3

    def test_a_network_is_scored_on_whole_masks_where_there_are_some(self, root):
        assert DataFolder.open(root, "scribbles").scored("a").counts().all()

    def test_without_masks_it_is_scored_on_what_was_drawn(self, root):
        (root / "labels" / "a.nii.gz").unlink()
        assert DataFolder.open(root, "scribbles").scored("a").counts().sum() == 8

    def test_images_without_scribbles_are_left_out(self, root):
        assert list(DataFolder.open(root, "scribbles").cases) == ["a"]

    @pytest.mark.parametrize(
        ("told", "sentence"),
        [(None, "does not say what the values"), ({"1": "circle"}, "calls the value 1 of scribbles/ 'circle'")],
    )
    def test_values_without_a_meaning_are_refused(self, root, told, sentence):
        facts = json.loads((root / "dataset.json").read_text(encoding="utf-8"))
        facts["scribbles"] = told
        (root / "dataset.json").write_text(json.dumps(facts), encoding="utf-8")
        with pytest.raises(ReadError, match=sentence):
            DataFolder.open(root, "scribbles")


class TestSpacing:
    def pictures(self, root: Path, **told) -> DataFolder:
        for folder in ("images", "labels"):
            (root / folder).mkdir(parents=True)
        for number in range(3):
            values = np.random.default_rng(number).integers(0, 255, (24, 24)).astype(np.uint8)
            tifffile.imwrite(root / "images" / f"p{number}.tif", values, **told)
            tifffile.imwrite(root / "labels" / f"p{number}.tif", (values > 128).astype(np.uint8), **told)
        facts = {"name": "pictures", "labels": {"0": "background", "1": "bright"}, "licence": "CC0"}
        (root / "dataset.json").write_text(json.dumps(facts), encoding="utf-8")
        return DataFolder.open(root)

    def train(self, folder: DataFolder, out: Path) -> Checkpoint:
        plan = replace(make_plan(epochs=1), validation=0, preparation=Preparation(spacing=(1.0, 0.5, 0.5)))
        return run_to_end(train_on_folder(folder, plan, device="cpu", out=out))

    def test_pictures_that_do_not_tell_their_size_are_not_learned_at_a_wrong_one(self, tmp_path):
        with pytest.raises(TrainingError, match="no voxel size"):
            self.train(self.pictures(tmp_path / "data"), tmp_path / "out")

    def test_nor_scored_at_a_wrong_one(self, tmp_path):
        folder = self.pictures(tmp_path / "data", resolution=(10.0, 10.0), resolutionunit="CENTIMETER")
        plan = replace(make_plan(epochs=1), validation=1, preparation=Preparation(spacing=(1.0, 0.5, 0.5)))
        (case,) = plan.split(folder)[1]
        values = tifffile.imread(tmp_path / "data" / "images" / f"{case}.tif")
        tifffile.imwrite(tmp_path / "data" / "images" / f"{case}.tif", values)
        with pytest.raises(TrainingError, match="no voxel size"):
            run_to_end(train_on_folder(folder, plan, device="cpu", out=tmp_path / "out"))

    def test_a_network_of_pictures_takes_the_slices_of_a_scan_as_they_are(self, tmp_path):
        told = {"resolution": (10.0, 10.0), "resolutionunit": "CENTIMETER"}
        checkpoint = self.train(self.pictures(tmp_path / "data", **told), tmp_path / "out")
        assert checkpoint.card.preparation.spacing == (0.0, 0.5, 0.5)
        grid = Grid.from_spacing((5, 8, 8), (9.0, 1.0, 1.0))
        scan = Volume(np.random.default_rng(0).normal(size=(1, 5, 8, 8)).astype(np.float32), grid)
        assert prepare(scan, checkpoint.card.preparation).array.shape == (1, 5, 16, 16)

    def test_and_turns_them_the_way_pictures_are_shown(self, tmp_path):
        plan = replace(make_plan(epochs=1), validation=0)
        folder = self.pictures(tmp_path / "data")
        checkpoint = run_to_end(train_on_folder(folder, plan, device="cpu", out=tmp_path / "out"))
        assert checkpoint.card.preparation.orientation == "LPS"
        values = np.random.default_rng(0).normal(size=(1, 3, 16, 16)).astype(np.float32)
        shown = segment(Volume(values, Grid((3, 16, 16), np.diag([-1.0, -1.0, 1.0, 1.0]))), checkpoint)
        stored = segment(Volume(values[:, :, ::-1, ::-1], Grid((3, 16, 16), np.eye(4))), checkpoint)
        np.testing.assert_array_equal(stored.labels[:, ::-1, ::-1], shown.labels)
        assert 0 < shown.labels.mean() < 1


class TestSides:
    @pytest.mark.parametrize("ending", [".tif", ".nii.gz"])
    def test_where_nothing_says_which_axis_runs_from_right_to_left_none_is_taken_for_safe(self, tmp_path, ending):
        for folder in ("images", "labels"):
            (tmp_path / folder).mkdir()
            for number in range(3):
                labels = np.random.default_rng(number).integers(0, 3, (4, 16, 16)).astype(np.uint8)
                path = tmp_path / folder / f"p{number}{ending}"
                if ending == ".tif":
                    tifffile.imwrite(path, labels, photometric="minisblack")
                else:
                    write_labels(path, labels, Volume(labels[None], Grid(labels.shape, np.eye(4))))
        names = {"0": "background", "1": "left kidney", "2": "right kidney"}
        facts = {"name": "stacks", "labels": names, "licence": "CC0"}
        (tmp_path / "dataset.json").write_text(json.dumps(facts), encoding="utf-8")
        plan = make_plan(epochs=1)
        config = replace(plan.config, augmentation=Augmentation(flip_axes=(-2,)))
        steps = train_on_folder(DataFolder.open(tmp_path), replace(plan, validation=0, config=config), device="cpu")
        if ending == ".tif":
            with pytest.raises(TrainingError, match="left kidney"):
                next(steps)
        else:
            next(steps)
            steps.close()

    @pytest.mark.parametrize(
        ("names", "pairs"),
        [
            (("background", "liver", "right kidney", "left kidney", "spleen"), ((3, 2),)),
            (("background", "kidney_l", "kidney_r"), ((1, 2),)),
            (("background", "Left-Lung", "Right-Lung", "lungLeft", "lungRight"), ((1, 2), (3, 4))),
            (("background", "left atrium", "right ventricle"), ()),
            (("background", "anterior", "posterior", "leftover", "r"), ()),
        ],
    )
    def test_names_tell_pairs(self, names, pairs):
        assert side_pairs(names) == pairs

    def test_kidneys_are_not_mirrored_into_each_other(self):
        with pytest.raises(TrainingError, match='along x would turn "left kidney" and "right kidney"'):
            mirrored_safely(Augmentation(flip_axes=(-2, -1)), ("", "left kidney", "right kidney"), "refuse", "RAS")

    def test_other_axes_may_be_mirrored(self):
        how = Augmentation(flip_axes=(-2,))
        assert mirrored_safely(how, ("", "left kidney", "right kidney"), "refuse", "RAS") is how

    def test_any_axis_may_be_the_one_where_directions_are_not_known(self):
        with pytest.raises(TrainingError, match="along y"):
            mirrored_safely(Augmentation(flip_axes=(-2,)), ("", "left kidney", "right kidney"), "refuse", None)

    def test_mirrored_labels_are_swapped(self):
        how = mirrored_safely(
            Augmentation(flip_axes=(-1,), rotate=0, scale=0, intensity=0, chance=0), ("", "l", "r"), "swap", "RAS"
        )
        labels = np.repeat(np.array([1, 1, 2, 0], np.uint8)[None, None], 4, axis=1)
        case = TrainingCase("case", labels[None].astype(np.float32), labels, np.ones(labels.shape, np.float32))
        images, found, *_ = PatchSampler([case], (1, 4, 4), 2, how, 0).batch(20)
        rows = {(tuple(i), tuple(f)) for i, f in zip(images[:, 0, 0].tolist(), found[:, 0].tolist(), strict=True)}
        assert rows == {((1, 1, 2, 0), (1, 1, 2, 0)), ((0, 2, 1, 1), (0, 1, 2, 2))}
