"""``medattn checkpoints`` and ``medattn examples`` from a terminal."""

from __future__ import annotations

import json
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from napari_medattn.cli.main import app
from napari_medattn.data import Preparation, write_labels
from napari_medattn.data.phantom import CLASS_NAMES, phantom, write_image
from napari_medattn.errors import CheckpointError, GeometryError, InputError
from napari_medattn.models import create_model
from napari_medattn.store import Card, ExampleStore, TrainingRecord, Versions, load_checkpoint, save_checkpoint

ARGUMENTS = {"in_channels": 1, "num_classes": 2, "spatial_dims": 2, "feature_scale": 32}


def medattn(*arguments, status: int = 0) -> str:
    """Standard output of a call; errors of the core come through as they are."""
    done = CliRunner().invoke(app, [*map(str, arguments)], env={"COLUMNS": "250"})
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == status, done.output
    return done.stdout


@pytest.fixture
def line() -> None:
    """old, and new that came from it."""
    network = create_model("attention_unet", **ARGUMENTS)
    card = Card("old", "attention_unet", ARGUMENTS, ("background", "a"), Preparation(), (1, 16, 16), trained_on="noise")
    old = save_checkpoint(card, network)
    for tensor in network.state_dict().values():
        tensor.copy_(tensor + torch.ones_like(tensor))
    record = TrainingRecord("decoder", 3, ("ab" * 32,), (), {"dice": {"a": 0.5}}, {"dice": {"a": 0.75}})
    came = {"parent": old.card.weights_sha256, "parent_name": "old", "training": record.to_plain()}
    save_checkpoint(replace(card, name="new", **came), network)


@pytest.fixture
def pair(tmp_path):
    """A scan and its mask as files that are named after a person."""
    volume, labels = phantom(1, (6, 24, 24))
    write_image(tmp_path / "doe.nii.gz", volume)
    write_labels(tmp_path / "doe_mask.nii.gz", labels, like=volume, class_names=CLASS_NAMES)
    return tmp_path / "doe.nii.gz", tmp_path / "doe_mask.nii.gz"


class TestCheckpoints:
    def test_the_list_is_as_it_was(self, line):
        assert "phantom" in medattn("checkpoints")
        assert {"old", "new"} < {one["name"] for one in json.loads(medattn("checkpoints", "--json"))["checkpoints"]}

    def test_the_tree_shows_parent_method_and_scores(self, line):
        row = next(text for text in medattn("checkpoints", "tree").splitlines() if "   new" in text)
        assert "decoder" in row
        assert "0.500 -> 0.750" in row

    def test_the_tree_for_programs(self, line):
        found = {one["name"]: one for one in json.loads(medattn("checkpoints", "tree", "--json"))["checkpoints"]}
        assert (found["new"]["parent"], found["new"]["depth"], found["new"]["current"]) == ("old", 1, False)

    def test_use_roll_back_and_current(self, line):
        medattn("checkpoints", "use", "new")
        assert medattn("checkpoints", "current", "old") == "new\n"
        assert medattn("checkpoints", "roll-back", "new") == "old is current now.\n"

    def test_rename_and_note(self, line):
        medattn("checkpoints", "rename", "new", "better")
        medattn("checkpoints", "note", "better", "[for] knees")
        assert medattn("checkpoints", "note", "better") == "[for] knees\n"
        assert "[for] knees" in medattn("checkpoints", "tree")

    def test_export_delete_and_import(self, line, tmp_path):
        path = json.loads(medattn("checkpoints", "export", "new", tmp_path, "--json"))["path"]
        medattn("checkpoints", "delete", "new")
        assert json.loads(medattn("checkpoints", "import", path, "--json"))["new"] is True
        assert medattn("checkpoints", "import", path) == "It is here already, as new.\n"

    def test_what_may_not_be_deleted_stays(self, line):
        with pytest.raises(CheckpointError, match="old cannot be deleted: new came from it"):
            medattn("checkpoints", "delete", "old")
        assert load_checkpoint("old").build()

    def test_an_unknown_name_lists_the_known_ones(self, line):
        with pytest.raises(CheckpointError, match=r"'nwe'.*phantom"):
            medattn("checkpoints", "use", "nwe")

    def test_an_option_in_the_wrong_place_is_not_passed_over(self):
        medattn("checkpoints", "--json", "tree", status=2)

    @pytest.mark.parametrize("group", ["checkpoints", "examples"])
    def test_every_command_explains_itself(self, group):
        commands = {
            "checkpoints": ("tree", "use", "roll-back", "rename", "note", "export", "import", "delete", "current")
        }
        for command in commands.get(group, ("add", "hide", "unhide", "check")):
            assert "Usage" in medattn(group, command, "--help")
            assert command in medattn(group, "--help")


class TestExamples:
    def test_a_pair_is_added_with_the_classes_of_its_mask(self, pair):
        added = json.loads(medattn("examples", "add", *pair, "--modality", "MR", "--json"))
        (entry,) = ExampleStore().entries()
        assert (entry.name, entry.class_names, entry.modality) == (added["name"], CLASS_NAMES, "MR")
        labels = nib.load(pair[1]).get_fdata().transpose(2, 1, 0)
        assert np.array_equal(ExampleStore().load(entry).labels, labels)

    def test_only_what_is_vouched_for_counts(self, pair):
        medattn("examples", "add", *pair, "--unlabelled", 0)
        assert ExampleStore().entries()[0].counts[0] == 0

    def test_weights_come_from_a_file(self, pair, tmp_path):
        mask = nib.load(pair[1])
        values = np.zeros(mask.shape, np.float32)
        values[..., 2] = 0.5
        nib.save(nib.Nifti1Image(values, mask.affine), tmp_path / "w.nii.gz")
        medattn("examples", "add", *pair, "--weights", tmp_path / "w.nii.gz", "-c", "phantom")
        (entry,) = ExampleStore().entries()
        weights = ExampleStore().load(entry).weights
        assert (entry.slices, float(weights[2].min()), float(weights[3].max())) == (1, 0.5, 0)
        assert entry.provenance["checkpoint"] == "phantom"

    def test_weights_elsewhere_are_refused(self, pair, tmp_path):
        mask = nib.load(pair[1])
        nib.save(nib.Nifti1Image(np.ones(mask.shape, np.float32), mask.affine * 2), tmp_path / "w.nii.gz")
        with pytest.raises(GeometryError, match="does not lie on the grid"):
            medattn("examples", "add", *pair, "--weights", tmp_path / "w.nii.gz")

    def test_two_ways_to_say_what_counts_are_one_too_many(self, pair):
        with pytest.raises(InputError, match="Give one of them"):
            medattn("examples", "add", *pair, "--weights", pair[1], "--unlabelled", 0)

    def test_the_list_says_which_is_learned_from(self, pair):
        for unlabelled in (-1, 0):
            medattn("examples", "add", *pair, "--unlabelled", unlabelled)
        roles = [one["role"] for one in json.loads(medattn("examples", "--json"))["examples"]]
        assert roles == ["superseded", "learned from"]
        assert "superseded" in medattn("examples")

    def test_no_name_of_a_file_is_shown(self, pair):
        medattn("examples", "add", *pair)
        assert "doe" not in medattn("examples", "--json").replace(str(pair[0].parent), "")

    def test_hide_and_unhide_by_the_beginning_of_a_name(self, pair):
        name = json.loads(medattn("examples", "add", *pair, "--json"))["name"]
        medattn("examples", "hide", name[:8])
        assert ExampleStore().latest() == []
        medattn("examples", "unhide", name[:8])
        assert len(ExampleStore().latest()) == 1

    def test_a_damaged_one_is_found(self, pair):
        medattn("examples", "add", *pair)
        assert json.loads(medattn("examples", "check", "--json"))["problems"] == []
        image = next((ExampleStore().folder / "images").iterdir())
        image.write_bytes(image.read_bytes()[:-100])
        assert len(json.loads(medattn("examples", "check", "--json", status=1))["problems"]) == 1


def test_both_work_on_the_same_home(line, own_home):
    assert Versions().folder == own_home / "checkpoints"
    assert ExampleStore().folder == own_home / "examples"
