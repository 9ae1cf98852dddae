"""Checkpoints: a file is whole or refused, and never lost to a later one."""

from __future__ import annotations

import errno
import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from napari_medattn.data import Preparation
from napari_medattn.errors import CheckpointError, SaveError
from napari_medattn.models import create_model
from napari_medattn.store import Card, Checkpoint, list_checkpoints, load_checkpoint, save_checkpoint
from napari_medattn.store.checkpoints import free_name, hash_weights

ARGUMENTS = {"in_channels": 1, "num_classes": 3, "spatial_dims": 2, "feature_scale": 32}
CARD = Card(
    name="tiny",
    title="Ein Netz für Tests",
    network="attention_unet",
    arguments=ARGUMENTS,
    class_names=("background", "left", "rechts ü"),
    preparation=Preparation(spacing=(2.0, 1.0, 1.0), intensity="window", window=(-100.0, 300.0)),
    tile=(1, 32, 32),
    trained_on="noise (CC0)",
    parent="abc",
)


def network(seed: int = 0) -> torch.nn.Module:
    torch.manual_seed(seed)
    return create_model("attention_unet", **ARGUMENTS).eval()


@pytest.fixture
def saved() -> Checkpoint:
    return save_checkpoint(CARD, network())


@pytest.fixture
def folder(own_home) -> Path:
    return own_home / "checkpoints"


class TestRoundTrip:
    @torch.no_grad()
    def test_the_rebuilt_network_gives_the_same_output(self, saved):
        x = torch.randn(1, 1, 32, 16)
        torch.testing.assert_close(load_checkpoint("tiny").build()(x), network()(x), rtol=0, atol=0)

    def test_the_card_comes_back_word_for_word(self, saved):
        assert load_checkpoint("tiny").card == replace(CARD, weights_sha256=saved.card.weights_sha256)

    def test_the_hash_is_that_of_the_weights(self, saved):
        assert load_checkpoint("tiny").card.weights_sha256 == hash_weights(network().state_dict())

    def test_other_weights_have_another_hash(self):
        assert hash_weights(network(0).state_dict()) != hash_weights(network(1).state_dict())

    def test_the_hash_does_not_depend_on_the_order_of_the_tensors(self):
        state = network().state_dict()
        assert hash_weights(dict(reversed(state.items()))) == hash_weights(state)

    def test_the_card_beside_the_weights_is_the_same_card(self, saved, folder):
        assert Card.from_json((folder / "tiny.json").read_text(encoding="utf-8"), "tiny.json") == saved.card

    def test_a_checkpoint_opens_by_path(self, saved):
        assert load_checkpoint(saved.path).name == "tiny"

    def test_saving_leaves_the_network_as_it_was(self):
        model = network().train()
        save_checkpoint(CARD, model)
        assert model.training

    def test_a_checkpoint_saved_elsewhere_is_not_listed(self, tmp_path):
        save_checkpoint(replace(CARD, name="elsewhere"), network(), tmp_path / "new" / "folder")
        assert "elsewhere" not in {found.name for found in list_checkpoints()}

    def test_saving_again_replaces_the_older_one(self, saved):
        save_checkpoint(CARD, network(1))
        assert load_checkpoint("tiny").card.weights_sha256 == hash_weights(network(1).state_dict())


class TestNames:
    @pytest.mark.parametrize("name", ["", "a/b", "../evil", ".hidden"])
    def test_a_name_that_is_no_file_name_is_refused(self, name, tmp_path):
        with pytest.raises(CheckpointError, match="no name for a checkpoint"):
            save_checkpoint(replace(CARD, name=name), network(), tmp_path)

    def test_a_free_name_is_taken_as_it_is(self):
        assert free_name("new") == "new"

    def test_a_taken_name_gets_the_next_number(self, saved):
        save_checkpoint(replace(CARD, name="tiny-2"), network())
        assert free_name("tiny") == "tiny-3"

    def test_the_name_of_a_renamed_file_is_not_free(self, saved, folder):
        saved.path.rename(folder / "mine.safetensors")
        assert free_name("mine") != "mine"

    def test_the_name_of_a_damaged_file_is_not_free(self, folder):
        folder.mkdir(parents=True)
        (folder / "mine.safetensors").write_bytes(b"perhaps it can be repaired")
        assert free_name("mine") != "mine"

    def test_an_unknown_name_lists_the_known_ones(self, saved):
        with pytest.raises(CheckpointError, match=r"'tinny'.*tiny"):
            load_checkpoint("tinny")


class TestDamage:
    @pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
    def test_a_cut_off_file_is_refused_by_name(self, saved, share):
        saved.path.write_bytes(saved.path.read_bytes()[: int(share * saved.path.stat().st_size)])
        with pytest.raises(CheckpointError, match=r"tiny\.safetensors is damaged"):
            load_checkpoint("tiny")

    def test_one_changed_byte_in_the_weights_is_noticed(self, saved):
        content = bytearray(saved.path.read_bytes())
        content[-100] ^= 1
        saved.path.write_bytes(content)
        with pytest.raises(CheckpointError, match="not those its card speaks of"):
            load_checkpoint("tiny").build()

    def test_a_missing_file_is_named(self, tmp_path):
        with pytest.raises(CheckpointError, match=r"gone\.safetensors"):
            load_checkpoint(tmp_path / "gone.safetensors")

    def test_weights_without_a_card_are_refused(self, tmp_path):
        save_file(network().state_dict(), tmp_path / "bare.safetensors")
        with pytest.raises(CheckpointError, match=r"bare\.safetensors carries no card"):
            load_checkpoint(tmp_path / "bare.safetensors")

    @pytest.mark.parametrize("card", ["{", "[]", "{}", '{"format": 1}'])
    def test_an_unreadable_card_is_refused(self, tmp_path, card):
        self.resave(network(), tmp_path / "x.safetensors", card)
        with pytest.raises(CheckpointError, match=r"card in x\.safetensors cannot be read"):
            load_checkpoint(tmp_path / "x.safetensors")

    @pytest.mark.parametrize(
        "change",
        [{"format": 2}, {"format": 2, "preparation": {"new_option": 1}}, {"format": 2, "tile": None}],
        ids=["same fields", "more fields", "other fields"],
    )
    def test_a_card_of_a_newer_version_asks_for_an_update(self, tmp_path, change):
        card = json.dumps(json.loads(CARD.to_json()) | change)
        self.resave(network(), tmp_path / "x.safetensors", card)
        with pytest.raises(CheckpointError, match="Update napari-medattn"):
            load_checkpoint(tmp_path / "x.safetensors")

    def test_a_two_dimensional_network_with_thick_tiles_is_refused(self, tmp_path):
        flat = replace(CARD, arguments=ARGUMENTS | {"spatial_dims": 2}, tile=(8, 32, 32))
        with pytest.raises(CheckpointError, match="2-D network cannot work on tiles"):
            save_checkpoint(flat, network(), tmp_path)
        self.resave(network(), tmp_path / "x.safetensors", flat.to_json())
        with pytest.raises(CheckpointError, match="2-D network cannot work on tiles"):
            load_checkpoint(tmp_path / "x.safetensors")

    @pytest.mark.parametrize("arguments", [ARGUMENTS | {"num_classes": 5}, ARGUMENTS | {"gates_per_skip": 2}])
    def test_weights_that_do_not_fit_the_card_are_refused(self, saved, tmp_path, arguments):
        card = replace(saved.card, arguments=arguments)
        self.resave(network(), tmp_path / "x.safetensors", card.to_json())
        with pytest.raises(CheckpointError, match="another network than its card says"):
            load_checkpoint(tmp_path / "x.safetensors").build()

    def test_a_network_that_does_not_exist_here_is_named(self, saved, tmp_path):
        self.resave(network(), tmp_path / "x.safetensors", replace(saved.card, network="unet9000").to_json())
        with pytest.raises(CheckpointError, match=r"x\.safetensors.*unet9000"):
            load_checkpoint(tmp_path / "x.safetensors").build()

    def test_a_damaged_file_does_not_spoil_the_list(self, saved, folder):
        (folder / "bad.safetensors").write_bytes(b"garbage")
        assert "tiny" in {found.name for found in list_checkpoints()}

    def test_what_is_wrong_with_it_can_be_asked_for(self, saved, folder):
        (folder / "bad.safetensors").write_bytes(b"garbage")
        problems: list[CheckpointError] = []
        list_checkpoints(problems)
        assert ["bad.safetensors" in str(problem) for problem in problems] == [True]

    @staticmethod
    def resave(model: torch.nn.Module, path: Path, card: str) -> None:
        save_file(model.state_dict(), path, metadata={"medattn_card": card})


class TestFailedSaves:
    @staticmethod
    def os_error(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    @pytest.mark.parametrize("broken", ["os.fsync", "os.replace"])
    def test_a_full_disk_leaves_the_older_checkpoint_whole(self, saved, monkeypatch, broken):
        monkeypatch.setattr(broken, self.os_error)
        with pytest.raises(SaveError, match="no space left"):
            save_checkpoint(CARD, network(1))
        assert hash_weights(load_file(saved.path)) == saved.card.weights_sha256

    def test_a_full_disk_while_the_weights_are_written_is_told_as_such(self, saved, monkeypatch):
        monkeypatch.setattr("pathlib.Path.write_bytes", self.os_error)
        with pytest.raises(SaveError, match="no space left"):
            save_checkpoint(CARD, network(1))

    def test_a_full_disk_leaves_no_temporary_file(self, saved, folder, monkeypatch):
        monkeypatch.setattr("os.fsync", self.os_error)
        with pytest.raises(SaveError):
            save_checkpoint(CARD, network(1))
        assert sorted(found.name for found in folder.iterdir()) == ["tiny.json", "tiny.safetensors"]

    def test_where_saving_fails_at_the_card_the_older_checkpoint_stays(self, saved, monkeypatch):
        calls = []

        def second_time(descriptor: int) -> None:
            calls.append(descriptor)
            if len(calls) == 2:
                self.os_error()

        monkeypatch.setattr("os.fsync", second_time)
        with pytest.raises(SaveError):
            save_checkpoint(CARD, network(1))
        assert load_checkpoint("tiny").card.weights_sha256 == saved.card.weights_sha256

    def test_a_folder_that_cannot_be_made_is_a_save_error(self, tmp_path):
        (tmp_path / "file").write_text("in the way")
        with pytest.raises(SaveError):
            save_checkpoint(CARD, network(), tmp_path / "file" / "folder")

    def test_a_copied_checkpoint_needs_nothing_beside_it(self, saved, tmp_path):
        shutil.copy(saved.path, tmp_path / "sent.safetensors")
        x = np.zeros((1, 1, 16, 16), np.float32)
        assert load_checkpoint(tmp_path / "sent.safetensors").build()(torch.from_numpy(x)).shape == (
            1,
            3,
            16,
            16,
        )
