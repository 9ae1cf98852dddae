"""``medattn`` from a terminal: results, exit status, and one sentence where something is wrong."""

import json
import os
import re
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from napari_medattn.data.phantom import phantom, write_image, write_phantom_set
from napari_medattn.models import create_model
from napari_medattn.store import load_checkpoint


def medattn(*args, cwd=None):
    """Run the command as a user does, in a process of its own."""
    environment = {**os.environ, "COLUMNS": "200", "PYTHONWARNINGS": "ignore"}
    return subprocess.run(
        [sys.executable, "-m", "napari_medattn", *map(str, args)],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment,
        timeout=240,
        check=False,
    )


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "phantoms"
    write_phantom_set(folder, 3, (16, 32, 32), (6.0, 3.75, 3.75))
    return folder


@pytest.fixture
def scan(tmp_path):
    path = tmp_path / "scan.nii.gz"
    write_image(path, phantom(1, (32, 48, 48))[0])
    return path


def test_help_names_every_command():
    out = medattn("--help").stdout
    for command in ("demo", "models", "checkpoints", "predict", "train", "finetune", "evaluate", "doctor"):
        assert command in out


def test_models_as_json():
    names = [model["name"] for model in json.loads(medattn("models", "--json").stdout)]
    assert "attention_unet" in names


def test_shipped_checkpoints_say_what_they_were_trained_on():
    found = json.loads(medattn("checkpoints", "--json").stdout)["checkpoints"]
    cards = {card["name"]: card for card in found}
    assert "msd_hippocampus" in cards["hippocampus"]["trained_on"]
    assert "phantom" in cards["phantom"]["trained_on"]
    assert min(cards["hippocampus"]["metrics"]["dice"].values()) > 0.85


def test_predict_writes_a_mask_with_the_scans_affine_and_a_record(scan):
    done = medattn("predict", scan, "-c", "phantom", "--json")
    assert done.returncode == 0, done.stderr
    mask = nib.load(scan.with_name("scan_mask.nii.gz"))
    assert mask.affine.tobytes() == nib.load(scan).affine.tobytes()
    assert set(np.unique(mask.dataobj)) == {0, 1, 2}
    record = json.loads(scan.with_name("scan_mask.json").read_text())
    assert record == json.loads(done.stdout)[0]
    assert record["weights_sha256"] == load_checkpoint("phantom").card.weights_sha256
    assert record["device"].startswith("cpu")


def test_train_finetune_and_evaluate(phantoms, tmp_path, own_home):
    trained = medattn(
        "train", phantoms, "--name", "mine", "--dims", "2", "--option", "feature_scale=32", "--patch", "1,32,32",
        "--epochs", "2", "--validation", "1", "--json",
    )  # fmt: skip
    assert trained.returncode == 0, trained.stderr
    card = load_checkpoint("mine").card
    assert len(card.training["validation_cases"]) == 1
    assert "medattn train" in card.training["command"]

    go_on = ("train", phantoms, "--from", "mine", "--dims", "2", "--patch", "1,32,32", "--validation", "1")
    further = medattn(*go_on, "--option", "feature_scale=32", "--epochs", "0", "--name", "further", "--json")
    assert further.returncode == 0, further.stderr
    same = load_checkpoint("further").card
    assert (same.parent, same.weights_sha256) == (card.weights_sha256, card.weights_sha256)
    other = medattn(*go_on, "--option", "feature_scale=16", "--epochs", "0", "--name", "other")
    assert other.returncode == 1
    assert "differs in feature_scale" in " ".join(other.stderr.split())

    tuned = medattn("finetune", phantoms, "-c", "mine", "--seconds", "1", "--name", "tuned", "--json")
    assert tuned.returncode == 0, tuned.stderr
    assert load_checkpoint("tuned").card.parent == card.weights_sha256

    scored = medattn("evaluate", phantoms, "-c", "mine", "--json")
    assert scored.returncode == 0, scored.stderr
    assert list(json.loads(scored.stdout)["cases"]) == card.training["validation_cases"]


def test_evaluate_a_reference_against_itself_is_perfect(phantoms):
    done = medattn("evaluate", phantoms / "labels", phantoms / "labels", "--json")
    assert done.returncode == 0, done.stderr
    rows = {row["class"]: row for row in json.loads(done.stdout)["summary"]}
    assert (rows["mean"]["dice"], rows["mean"]["hd95"]) == (1.0, 0.0)
    assert (rows["mean with background"]["iou"], rows["mean with background"]["hd95"]) == (1.0, None)


def test_doctor_finds_nothing_wrong_here():
    done = medattn("doctor")
    assert done.returncode == 0, done.stdout
    assert "torch" in done.stdout


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["predict", "nowhere.nii.gz", "-c", "phantom"], "nowhere.nii.gz does not exist"),
        (["predict", "SCAN", "-c", "phantome"], "no checkpoint called 'phantome'"),
        (["predict", "SCAN", "-c", "phantom-2d", "--device", "mps"], "'mps' is not available"),
        (["evaluate", "SCAN", "SCAN"], "negative|whole numbers|classes|label"),
        (["train", "."], "dataset.json"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(scan, args, said, tmp_path):
    if "SCAN" in args and args[0] == "evaluate":
        scan.write_bytes(scan.read_bytes()[:1000])
        said = "damaged"
    done = medattn(*[scan if arg == "SCAN" else arg for arg in args], cwd=tmp_path)
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_wrong_call_has_status_two():
    assert medattn("predict").returncode == 2
    assert medattn("nonsense").returncode == 2


def test_masks_on_different_grids_are_not_compared(scan, tmp_path):
    image = nib.load(scan)
    labels = (np.asarray(image.dataobj) > 400).astype(np.uint8)
    nib.save(nib.Nifti1Image(labels, image.affine), tmp_path / "one.nii")
    nib.save(nib.Nifti1Image(labels, image.affine @ np.diag([-1.0, 1, 1, 1])), tmp_path / "mirrored.nii")
    done = medattn("evaluate", tmp_path / "mirrored.nii", tmp_path / "one.nii")
    assert done.returncode == 1
    assert "do not lie on the same grid" in done.stderr


def test_predict_never_writes_over_a_scan_or_another_mask(scan, tmp_path):
    before = scan.read_bytes()
    assert "is one of the images" in medattn("predict", scan, "-c", "phantom", "-o", scan).stderr
    assert scan.read_bytes() == before
    (tmp_path / "other").mkdir()
    twin = tmp_path / "other" / scan.name
    twin.write_bytes(before)
    done = medattn("predict", scan, twin, "-c", "phantom", "-o", tmp_path / "out")
    assert done.returncode == 1
    assert "Two masks" in done.stderr


def test_training_does_not_replace_a_checkpoint(phantoms, own_home):
    (own_home / "checkpoints").mkdir(parents=True)
    (own_home / "checkpoints" / "mine.safetensors").write_bytes(b"precious")
    done = medattn("train", phantoms, "--name", "mine", "--epochs", "1")
    assert done.returncode == 1
    assert "exists already" in done.stderr
    assert (own_home / "checkpoints" / "mine.safetensors").read_bytes() == b"precious"


def test_one_bad_image_does_not_keep_the_others_from_their_masks(scan, tmp_path):
    bad = tmp_path / "bad.nii.gz"
    bad.write_bytes(b"nothing")
    done = medattn("predict", bad, scan, "-c", "phantom", "-o", tmp_path / "out")
    assert done.returncode == 1
    assert "bad.nii.gz is damaged" in done.stderr
    assert "1 of 2 images" in done.stderr
    assert (tmp_path / "out" / "scan_mask.nii.gz").exists()


def test_a_mask_that_is_there_is_only_replaced_when_asked(scan):
    mask = scan.with_name("scan_mask.nii.gz")
    mask.write_bytes(b"corrected by hand")
    done = medattn("predict", scan, "-c", "phantom")
    assert done.returncode == 1
    assert "exists already" in done.stderr
    assert mask.read_bytes() == b"corrected by hand"
    assert medattn("predict", scan, "-c", "phantom", "--overwrite").returncode == 0
    assert nib.load(mask).shape == nib.load(scan).shape


def authors_name(key: str) -> str:
    """The Attention U-Net authors' name of one of our tensors."""
    for ours, theirs in (
        (r"^encode(\d)", r"conv\1"),
        (r"^bottleneck", "center"),
        (r"^decode(\d)\.block", r"up_concat\1.conv"),
        (r"^gating_signal", "gating.conv1"),
        (r"^skip(\d)\.combine", r"attentionblock\1.combine_gates"),
        (r"^skip(\d)\.gate1\.transform", r"attentionblock\1.gate_block_1.W"),
        (r"^skip(\d)\.gate1", r"attentionblock\1.gate_block_1"),
        (r"^head(\d)\.conv", r"dsv\1.dsv.0"),
        (r"^fuse", "final"),
        (r"\.first\.", ".conv1."),
        (r"\.second\.", ".conv2."),
        (r"\.conv\.(weight|bias)$", r".0.\1"),
        (r"\.norm\.(\w+)$", r".1.\1"),
    ):
        key = re.sub(ours, theirs, key)
    return key


def test_authors_weights_become_a_checkpoint_that_segments(scan, tmp_path):
    made = create_model("attention_unet", num_classes=3, spatial_dims=3, feature_scale=16)
    theirs = tmp_path / "theirs.safetensors"
    save_file({authors_name(key): tensor for key, tensor in made.state_dict().items()}, theirs)
    done = medattn(
        *("import-weights", theirs, "--network", "attention_unet", "--classes", "background,a,b"),
        *("--tile", "32,32,32", "--option", "feature_scale=16", "--json"),
    )
    assert done.returncode == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["class_names"] == ["background", "a", "b"]
    torch.testing.assert_close(load_checkpoint("theirs").state()["fuse.bias"], made.state_dict()["fuse.bias"])
    assert medattn("predict", scan, "-c", "theirs").returncode == 0


def test_weights_of_another_network_are_refused_with_keys(tmp_path):
    save_file({"what.weight": torch.zeros(1)}, tmp_path / "other.safetensors")
    done = medattn(
        *("import-weights", tmp_path / "other.safetensors", "--network", "attention_unet"),
        *("--classes", "a,b", "--tile", "32,32,32"),
    )
    assert done.returncode == 1
    assert "what.weight" in done.stderr


def test_a_network_has_a_page_that_says_where_paper_and_code_differ():
    done = medattn("models", "attention_unet")
    assert done.returncode == 0
    assert "Paper and code differ" in done.stdout
    assert "halve_every=250" in done.stdout


def test_an_unknown_benchmark_is_refused():
    done = medattn("bench", "modells")
    assert done.returncode == 1
    assert "Use models" in done.stderr
