"""The tree of checkpoints: who came from whom, which is in use, and what a person may do with them."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, strategies as st
from safetensors.torch import load_file

from napari_medattn.data import Preparation
from napari_medattn.errors import CheckpointError, SaveError
from napari_medattn.models import create_model
from napari_medattn.store import Card, Checkpoint, TrainingRecord, Versions, load_checkpoint, save_checkpoint
from napari_medattn.store.checkpoints import SHIPPED, free_name, hash_weights
from napari_medattn.store.lineage import Tree

ARGUMENTS = {"in_channels": 1, "num_classes": 2, "spatial_dims": 2, "feature_scale": 32}
CARD = Card("tiny", "attention_unet", ARGUMENTS, ("background", "ü"), Preparation(), (1, 16, 16), trained_on="noise")


def network(seed: int) -> torch.nn.Module:
    torch.manual_seed(seed)
    return create_model("attention_unet", **ARGUMENTS)


def save(name: str, seed: int, parent: Checkpoint | None = None, **facts) -> Checkpoint:
    """A checkpoint; the seed tells its age, too."""
    came = {"parent": parent.card.weights_sha256, "parent_name": parent.name} if parent else {}
    created = f"2026-01-01T00:00:{seed:02}+00:00"
    return save_checkpoint(replace(CARD, **{"name": name, "created": created, **came, **facts}), network(seed))


@pytest.fixture
def versions() -> Versions:
    return Versions()


@pytest.fixture
def family() -> dict[str, Checkpoint]:
    """a, its children b and c, and d, the child of b."""
    a = save("a", 1)
    b = save("b", 2, a)
    return {"a": a, "b": b, "c": save("c", 3, a), "d": save("d", 4, b)}


def own(versions: Versions) -> list[str]:
    return ["  " * one.depth + one.name for one in versions.tree() if not one.shipped]


def names(found: list[Checkpoint]) -> list[str]:
    return [one.name for one in found]


class TestTree:
    def test_it_is_listed_depth_first(self, versions, family):
        assert own(versions) == ["a", "  b", "    d", "  c"]

    def test_children_and_parent(self, versions, family):
        assert names(versions.children(family["a"])) == ["b", "c"]
        assert versions.parent(family["d"]) == family["b"]
        assert versions.parent(family["a"]) is None

    def test_what_came_from_a_shipped_one_hangs_below_it(self, versions):
        save("mine", 1, load_checkpoint("phantom"))
        tree = [(one.name, one.depth, one.shipped) for one in versions.tree()]
        assert tree[tree.index(("phantom", 0, True)) + 1] == ("mine", 1, False)

    def test_a_parent_is_known_by_its_weights_whatever_its_name_is_now(self, versions, family):
        versions.rename(family["a"], "z")
        assert versions.parent(family["b"]).name == "z"

    def test_a_parent_that_was_trained_anew_is_found_by_its_name_and_that_is_said(self, versions, family):
        save("a", 9)
        found = {one.name: one for one in versions.tree()}
        assert (found["b"].parent.name, found["b"].by_name) == ("a", True)
        assert not found["d"].by_name

    def test_what_has_lost_its_parent_is_a_root_and_says_whose_it_was(self, versions, family):
        family["b"].path.unlink()
        found = {one.name: one for one in versions.tree()}
        assert (found["d"].depth, found["d"].lost_parent) == (0, "b")

    def test_untrained_copies_do_not_become_each_others_parents(self, versions):
        first = save("first", 1)
        card = replace(CARD, name="copy", parent=first.card.weights_sha256, created="2026-01-01T00:00:02+00:00")
        save_checkpoint(card, network(1))
        first.path.unlink()
        save_checkpoint(replace(card, name="copy2"), network(1))
        assert own(versions) == ["copy", "  copy2"]

    def test_a_damaged_file_does_not_spoil_it(self, versions, family):
        (family["a"].path.parent / "bad.safetensors").write_bytes(b"garbage")
        problems: list[CheckpointError] = []
        assert len([one for one in versions.tree(problems) if not one.shipped]) == 4
        assert "bad.safetensors" in str(problems[0])

    @given(st.lists(st.tuples(*[st.integers(0, 4)] * 4), min_size=1, max_size=8))
    def test_whatever_cards_say_everybody_is_in_it_once(self, facts):
        """Parents may be themselves, each other, or nobody."""
        cards = [
            replace(CARD, name=f"n{n}", weights_sha256=str(own), parent=str(up), parent_name=f"n{by}", created=str(age))
            for n, (own, up, by, age) in enumerate(facts)
        ]
        tree = Tree.of([Checkpoint(card, Path(card.name)) for card in cards])
        seen = [one.name for root in tree.roots() for one, _ in tree.line(root)]
        assert sorted(seen) == sorted(card.name for card in cards)


class TestCurrent:
    def test_at_first_it_is_the_root(self, versions, family):
        assert versions.current(family["d"]).name == "a"

    def test_the_chosen_one_is_current_for_the_whole_line(self, versions, family):
        versions.make_current(family["d"])
        assert {versions.current(one).name for one in family.values()} == {"d"}
        assert [one.name for one in Versions().line(family["a"]) if one.current] == ["d"]

    def test_each_line_has_its_own(self, versions, family):
        other = save("other", 7)
        newer = save("newer", 8, other)
        versions.make_current(family["c"])
        versions.make_current(newer)
        assert (versions.current(family["a"]).name, versions.current(other).name) == ("c", "newer")

    def test_rolling_back_makes_the_parent_current(self, versions, family):
        versions.make_current(family["d"])
        assert versions.roll_back(family["d"]).name == "b"
        assert versions.current(family["d"]).name == "b"

    def test_a_root_cannot_be_rolled_back(self, versions, family):
        with pytest.raises(CheckpointError, match="a cannot be rolled back: it was not fine-tuned"):
            versions.roll_back(family["a"])

    def test_where_the_parent_is_gone_that_is_said(self, versions, family):
        family["b"].path.unlink()
        with pytest.raises(CheckpointError, match="its parent b is gone"):
            versions.roll_back(family["d"])

    def test_it_stays_current_under_a_new_name(self, versions, family):
        versions.make_current(family["b"])
        versions.rename(family["b"], "better")
        assert versions.current(family["a"]).name == "better"

    def test_new_weights_under_its_name_are_not_current(self, versions, family):
        versions.make_current(family["c"])
        save("c", 9, family["a"])
        assert versions.current(family["a"]).name == "a"

    @pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"current": 3}', b'{"current": [{"name": 1}]}', b"\xff"])
    def test_damage_to_the_choice_is_harmless(self, versions, family, damage):
        versions.make_current(family["b"])
        (family["a"].path.parent / ".current.json").write_bytes(damage)
        assert versions.current(family["b"]).name == "a"
        versions.make_current(family["b"])
        assert versions.current(family["b"]).name == "b"

    def test_a_shipped_one_can_be_current_again(self, versions):
        phantom = load_checkpoint("phantom")
        mine = versions.make_current(save("mine", 1, phantom))
        assert versions.roll_back(mine) == phantom
        assert versions.current(mine) == phantom

    def test_what_is_gone_cannot_become_current(self, versions, family):
        family["c"].path.unlink()
        with pytest.raises(CheckpointError, match="c is gone"):
            versions.make_current(family["c"])


class TestRenameAndNote:
    def test_renaming_moves_both_files(self, versions, family):
        versions.rename(family["c"], "new name")
        found = sorted(path.name for path in family["c"].path.parent.iterdir() if path.stem not in "abd")
        assert found == ["new name.json", "new name.safetensors"]

    def test_the_card_inside_and_beside_have_the_new_name(self, versions, family):
        new = versions.rename(family["c"], "neu")
        assert load_checkpoint("neu").card == new.card
        assert json.loads(new.path.with_suffix(".json").read_text(encoding="utf-8"))["name"] == "neu"

    def test_the_weights_stay_byte_for_byte(self, versions, family):
        before = family["b"].path.read_bytes()[-100_000:]
        noted = versions.note(versions.rename(family["b"], "longer than before"), "größer " * 100)
        assert noted.path.read_bytes()[-len(before) :] == before
        assert hash_weights(load_file(noted.path)) == family["b"].card.weights_sha256

    def test_a_note_comes_back_word_for_word_and_nothing_else_changes(self, versions, family):
        text = 'Über "Fälle" 3-7\nund \\ { } 8'
        assert versions.note(family["b"], text).card == replace(family["b"].card, note=text)
        assert load_checkpoint("b").card.note == text

    def test_a_card_without_a_note_is_still_read(self):
        card = json.loads(CARD.to_json())
        del card["note"]
        assert Card.from_json(json.dumps(card), "x").note == ""

    @pytest.mark.parametrize("name", ["a", "phantom"])
    def test_a_taken_name_is_refused(self, versions, family, name):
        with pytest.raises(CheckpointError, match=f"called {name} already"):
            versions.rename(family["b"], name)
        assert own(versions) == ["a", "  b", "    d", "  c"]

    @pytest.mark.parametrize("name", ["", "../x", ".x", "a/b", "a\nb", " a", "x" * 200, "a\\b"])
    def test_what_is_no_name_is_refused(self, versions, family, name):
        with pytest.raises(CheckpointError, match="no name for a checkpoint"):
            versions.rename(family["b"], name)

    def test_shipped_ones_stay_as_they_are(self, versions):
        phantom = load_checkpoint("phantom")
        with pytest.raises(CheckpointError, match="phantom came with the program and cannot be renamed"):
            versions.rename(phantom, "x")
        with pytest.raises(CheckpointError, match="cannot be changed"):
            versions.note(phantom, "x")

    def test_one_that_was_replaced_meanwhile_is_not_written_over(self, versions, family):
        save("b", 9)
        with pytest.raises(CheckpointError, match="b was replaced elsewhere"):
            versions.note(family["b"], "of the old one")

    @pytest.mark.parametrize("after", [0, 1])
    def test_a_full_disk_changes_nothing(self, versions, family, monkeypatch, after):
        calls = []

        def full(descriptor: int) -> None:
            calls.append(descriptor)
            if len(calls) > after:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr("os.fsync", full)
        before = {path: path.read_bytes() for path in family["b"].path.parent.glob("b.*")}
        with pytest.raises(SaveError, match="no space left"):
            versions.rename(family["b"], "x")
        assert load_checkpoint("b").card == family["b"].card
        assert before[family["b"].path] == family["b"].path.read_bytes()


class TestExportAndImport:
    def test_it_comes_back_elsewhere(self, versions, family, tmp_path):
        sent = versions.export(family["d"], tmp_path)
        got, new = Versions(tmp_path / "other").import_(sent)
        assert new
        assert (got.card, sent.name) == (family["d"].card, "d.safetensors")
        assert got.state().keys() == family["d"].state().keys()

    def test_a_taken_name_gets_a_number(self, versions, family, tmp_path):
        sent = versions.export(family["d"], tmp_path / "a.safetensors")
        versions.delete(family["d"])
        got, _ = versions.import_(sent)
        assert (got.name, got.card.name, versions.parent(got).name) == ("a-2", "a-2", "b")

    def test_what_is_here_already_is_not_taken_in_twice(self, versions, family, tmp_path):
        sent = versions.export(family["d"], tmp_path / "again.safetensors")
        assert versions.import_(sent) == (family["d"], False)
        assert own(versions) == ["a", "  b", "    d", "  c"]

    def test_a_damaged_file_is_not_taken_in(self, versions, family, tmp_path):
        sent = versions.export(family["c"], tmp_path)
        versions.delete(family["c"])
        content = bytearray(sent.read_bytes())
        content[-9] ^= 1
        sent.write_bytes(content)
        with pytest.raises(CheckpointError, match="not those its card speaks of"):
            versions.import_(sent)
        assert own(versions) == ["a", "  b", "    d"]

    def test_a_damaged_one_is_not_passed_on(self, versions, family, tmp_path):
        content = bytearray(family["c"].path.read_bytes())
        content[-9] ^= 1
        family["c"].path.write_bytes(content)
        with pytest.raises(CheckpointError):
            versions.export(family["c"], tmp_path)
        assert not list(tmp_path.glob("*.safetensors"))

    def test_a_file_that_is_there_is_replaced_only_when_asked(self, versions, family, tmp_path):
        versions.export(family["c"], tmp_path)
        with pytest.raises(CheckpointError, match="exists already"):
            versions.export(family["c"], tmp_path)
        assert versions.export(family["c"], tmp_path, overwrite=True).is_file()

    def test_it_is_never_written_over_itself(self, versions, family):
        with pytest.raises(CheckpointError, match="exists already"):
            versions.export(family["c"], family["c"].path, overwrite=True)

    def test_another_suffix_is_refused(self, versions, family, tmp_path):
        with pytest.raises(CheckpointError, match=r"x\.pth does not end with"):
            versions.export(family["c"], tmp_path / "x.pth")


class TestDelete:
    def test_both_files_go(self, versions, family):
        versions.delete(family["d"])
        assert not list(family["d"].path.parent.glob("d.*"))
        assert own(versions) == ["a", "  b", "  c"]

    def test_never_one_that_others_descend_from(self, versions, family):
        with pytest.raises(CheckpointError, match="b cannot be deleted: d came from it"):
            versions.delete(family["b"])
        assert family["b"].path.exists()

    def test_never_one_whose_child_knows_it_by_name_only(self, versions, family):
        anew = save("b", 9)
        with pytest.raises(CheckpointError, match="d came from it"):
            versions.delete(anew)

    def test_never_the_current_one(self, versions, family):
        versions.make_current(family["d"])
        with pytest.raises(CheckpointError, match="d is the current version"):
            versions.delete(family["d"])

    def test_never_a_shipped_one(self, versions):
        with pytest.raises(CheckpointError, match="phantom came with the program"):
            versions.delete(load_checkpoint("phantom"))
        assert (SHIPPED / "phantom.safetensors").exists()

    def test_a_line_of_one_can_go(self, versions):
        versions.delete(versions.make_current(save("alone", 1)))
        assert own(versions) == []

    def test_one_that_was_replaced_meanwhile_stays(self, versions, family):
        save("d", 9, family["b"])
        with pytest.raises(CheckpointError, match="d was replaced elsewhere"):
            versions.delete(family["d"])

    def test_a_button_can_ask_beforehand(self, versions, family):
        assert versions.why_kept(family["d"]) is None
        assert "d came from it" in str(versions.why_kept(family["b"]))


class TestTwoWindows:
    def test_versions_saved_at_once_never_get_one_name(self, family):
        def tune(seed: int) -> Checkpoint:
            return save_checkpoint(replace(CARD, name="tuned"), models[seed], unique=True)

        models = [network(seed) for seed in range(6)]
        with ThreadPoolExecutor(3) as windows:
            made = list(windows.map(tune, range(6)))
        assert sorted(one.name for one in made) == ["tuned", *(f"tuned-{n}" for n in range(2, 7))]
        assert [load_checkpoint(one.name).card for one in made] == [one.card for one in made]

    def test_choices_made_at_once_in_other_lines_are_all_kept(self, versions):
        lines = [save(f"r{n}", 10 + n) for n in range(4)]
        tuned = [save(f"t{n}", 20 + n, root) for n, root in enumerate(lines)]
        with ThreadPoolExecutor(4) as windows:
            list(windows.map(lambda one: Versions().make_current(one), tuned))
        assert [versions.current(root).name for root in lines] == [one.name for one in tuned]

    def test_one_name_for_two_is_given_once(self, family):
        def rename(which: str) -> bool:
            try:
                Versions().rename(family[which], "best")
            except CheckpointError:
                return False
            return True

        with ThreadPoolExecutor(3) as windows:
            assert sorted(windows.map(rename, "bcd")) == [False, False, True]

    def test_whoever_waits_in_vain_is_told(self, family, own_home):
        from napari_medattn.store.locks import one_at_a_time

        folder = family["a"].path.parent
        with one_at_a_time(folder), pytest.raises(CheckpointError, match="Another window"), one_at_a_time(folder, 0.05):
            pass


class TestHalfWritten:
    def test_what_a_killed_process_was_writing_is_not_listed(self, versions, family):
        (family["a"].path.parent / ".saving-x.safetensors").write_bytes(family["a"].path.read_bytes())
        assert own(versions) == ["a", "  b", "    d", "  c"]
        assert free_name(".saving-x") == ".saving-x"

    def test_it_goes_after_a_day(self, family):
        left = family["a"].path.parent / ".saving-x.safetensors"
        left.write_bytes(b"half")
        os.utime(left, (time.time() - 10**6,) * 2)
        save("e", 5)
        assert not left.exists()


class TestTrainingRecord:
    RECORD = TrainingRecord(
        "decoder", 61.5, ("ab" * 32,), ("cd" * 32,), {"dice": {"ü": 0.5}}, {"dice": {"ü": 0.75}, "hd95": {"ü": None}}
    )

    def test_it_comes_back_from_a_checkpoint(self):
        saved = save("a", 1, training={"device": "cpu", **self.RECORD.to_plain()})
        assert TrainingRecord.of(load_checkpoint(saved.name).card) == self.RECORD

    def test_what_is_no_number_is_left_open(self):
        record = replace(self.RECORD, after={"hd95": {"ü": float("nan"), "ö": float("inf")}})
        assert record.to_plain()["after"] == {"hd95": {"ü": None, "ö": None}}

    def test_shipped_cards_have_none(self):
        assert TrainingRecord.of(load_checkpoint("hippocampus").card) is None


CHANGE = """
import sys
from tests.test_versions import *
versions, a, b = Versions(), load_checkpoint("a"), network(2)
print("ready", flush=True)
for n in range(10**6):
    save("b", 2 + n % 2, a, note=str(n))                             # replaced by other weights
    c = versions.note(versions.find("c"), f"{n} " + "x" * (n % 50))  # rewritten with a longer card
    versions.make_current(c)
    versions.rename(versions.find("d"), "e")
    versions.rename(versions.find("e"), "d")
    print(n, flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
class TestKill:
    """A process that saves, notes, renames and chooses is killed at a random moment: what was there before is whole."""

    @staticmethod
    def kill(family: dict[str, Checkpoint], seed: int, home: Path) -> int:
        environment = {**os.environ, "MEDATTN_HOME": str(home), "OMP_NUM_THREADS": "1"}
        command, root = [sys.executable, "-c", CHANGE], Path(__file__).parents[1]
        with subprocess.Popen(command, cwd=root, env=environment, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            assert child.stdout.readline() == "ready\n"
            time.sleep(random.Random(seed).uniform(0.02, 0.5))
            child.kill()
            done = [int(line) for line in child.stdout.read().split("\n")[:-1]]
            assert child.wait() == -signal.SIGKILL
        last = done[-1] if done else -1
        problems: list[CheckpointError] = []
        found = {one.name: one.checkpoint for one in Versions().tree(problems) if not one.shipped}
        assert problems == []
        assert {name.replace("e", "d") for name in found} == {"a", "b", "c", "d"}
        assert len(found) == 4
        weights = {name: hash_weights(one.state()) for name, one in found.items()}  # `state` holds it against the card
        assert weights["a"] == family["a"].card.weights_sha256
        assert weights["c"] == family["c"].card.weights_sha256
        assert weights.get("d", weights.get("e")) == family["d"].card.weights_sha256
        assert weights["b"] in {hash_weights(network(n).state_dict()) for n in (2, 3)}
        if last >= 0:
            assert int(found["b"].card.note) in (last, last + 1)
            assert int(found["c"].card.note.split()[0]) in (last, last + 1)
            assert Versions().current(found["a"]).name == "c"
        Versions().note(found["c"], "the lock is free again")
        return len(done)

    @staticmethod
    def restore(family: dict[str, Checkpoint]) -> None:
        found = [one.checkpoint for one in Versions().tree() if one.name == "e"]
        for one in found:
            Versions().rename(one, "d")

    def test_three_kills(self, family, own_home):
        for seed in range(3):
            self.kill(family, seed, own_home)
            self.restore(family)

    @pytest.mark.nightly
    @pytest.mark.timeout(1800)
    def test_thirty_kills(self, family, own_home):
        done = 0
        for seed in range(100, 130):
            done += self.kill(family, seed, own_home)
            self.restore(family)
        assert done > 5  # it was at work when it was killed
