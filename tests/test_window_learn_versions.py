"""Versions in the window: the tree and what is done with it, and two of them side by side."""

import numpy as np
import pytest
from qtpy.QtWidgets import QFileDialog, QInputDialog, QMessageBox

from napari_medattn.store import load_checkpoint
from napari_medattn.store.versions import Versions
from napari_medattn.widgets.learn.beside import Masks
from tests.learn_window import CLASSES, NAME, correct, own_checkpoints, tiny_network
from tests.window_tools import PATIENCE, PLUGIN, choose, open_dock, segment

YES = QMessageBox.StandardButton.Yes


@pytest.fixture
def told(monkeypatch):
    """Notifications that napari would have shown."""
    said = []
    monkeypatch.setattr("napari_medattn.widgets.parts.show_error", said.append)
    return said


@pytest.fixture
def line(viewer, scan, qtbot):
    """The dock with a tiny network, a child and a grandchild of it, the child in use and chosen."""
    root = tiny_network(created="2026-01-01T00:00:00+00:00")
    child = tiny_network("child", root, seed=1, created="2026-01-02T00:00:00+00:00")
    tiny_network("grandchild", child, seed=2, created="2026-01-03T00:00:00+00:00")
    Versions().make_current(child)
    viewer.open(str(scan), plugin=PLUGIN)
    dock = open_dock(viewer)
    choose(dock, "child", qtbot)
    settled(dock, qtbot)
    return dock


def settled(dock, qtbot):
    versions = dock.learn.versions
    qtbot.waitUntil(lambda: not versions.reading and bool(versions.tree.versions), timeout=PATIENCE)


def select(dock, name):
    assert dock.learn.versions.tree.select(load_checkpoint(name).card.weights_sha256)
    return dock.learn.versions.tree.current


def said(dock, words, qtbot):
    qtbot.waitUntil(lambda: words in dock.learn.message.text, timeout=PATIENCE)
    settled(dock, qtbot)


class TestTree:
    def test_each_stands_below_what_it_was_fine_tuned_from(self, line):
        found = [(version.name, version.depth) for version in line.learn.versions.tree.versions]
        assert found == [(NAME, 0), ("child", 1), ("grandchild", 2)]

    def test_the_one_in_use_is_bold_and_selected(self, line):
        tree = line.learn.versions.tree
        bold = [item.text(0) for item in tree._items() if item.font(0).bold()]
        assert bold == ["child"] == [tree.current.name]

    def test_a_network_that_is_chosen_brings_its_own_line(self, line, qtbot):
        choose(line, "phantom", qtbot)
        qtbot.waitUntil(lambda: [v.name for v in line.learn.versions.tree.versions] == ["phantom"], timeout=PATIENCE)


class TestWhatIsDone:
    def test_make_current(self, line, qtbot):
        select(line, "grandchild")
        line.learn.versions.use.click()
        said(line, "grandchild is in use.", qtbot)
        assert line.session.checkpoint.name == "grandchild"
        assert Versions().current(load_checkpoint(NAME)).name == "grandchild"

    def test_roll_back(self, line, qtbot):
        line.learn.versions.back.click()
        said(line, f"Rolled back from child to {NAME}.", qtbot)
        assert line.session.checkpoint.name == NAME
        assert not line.learn.versions.back.isEnabled()

    def test_rename_keeps_the_choice(self, line, qtbot, monkeypatch, own_home):
        select(line, "child")
        monkeypatch.setattr(QInputDialog, "getText", lambda *_, **__: ("better", True))
        line.learn.versions.actions["Rename ..."].trigger()
        said(line, "child is called better now.", qtbot)
        assert line.session.checkpoint.name == "better"
        assert own_checkpoints(own_home) == ["better", "grandchild", NAME]

    def test_note(self, line, qtbot, monkeypatch):
        select(line, "grandchild")
        monkeypatch.setattr(QInputDialog, "getMultiLineText", lambda *_, **__: ("for the 3 T scanner", True))
        line.learn.versions.actions["Note ..."].trigger()
        said(line, "Noted in grandchild.", qtbot)
        assert load_checkpoint("grandchild").card.note == "for the 3 T scanner"
        assert line.session.checkpoint.name == "child"

    def test_export_and_import(self, line, qtbot, monkeypatch, tmp_path, own_home):
        target = tmp_path / "for others.safetensors"
        version = select(line, "grandchild")
        monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_: (str(target.with_suffix("")), ""))
        line.learn.versions.actions["Export ..."].trigger()
        said(line, "Exported", qtbot)
        line.learn.versions.delete(version)
        said(line, "Deleted grandchild.", qtbot)
        monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(target), ""))
        line.learn.versions.actions["Import ..."].trigger()
        said(line, "Imported", qtbot)
        assert line.session.checkpoint.card.weights_sha256 == version.checkpoint.card.weights_sha256

    def test_what_others_descend_from_is_not_deleted(self, line, told, own_home):
        select(line, NAME)
        line.learn.versions.actions["Delete ..."].trigger()
        assert told[0].startswith(f"{NAME} cannot be deleted: child")
        assert NAME in own_checkpoints(own_home)

    def test_delete_asks_first(self, line, qtbot, monkeypatch, own_home):
        asked = []
        select(line, "grandchild")
        monkeypatch.setattr(QMessageBox, "question", lambda _p, _t, text: asked.append(text) or YES)
        line.learn.versions.actions["Delete ..."].trigger()
        said(line, "Deleted grandchild.", qtbot)
        assert "grandchild" in asked[0]
        assert own_checkpoints(own_home) == ["child", NAME]

    def test_a_version_that_was_deleted_elsewhere_is_an_error_and_goes(self, line, qtbot, told):
        version = select(line, "grandchild")
        version.checkpoint.path.unlink()
        line.learn.versions.use.click()
        qtbot.waitUntil(lambda: bool(told), timeout=PATIENCE)
        qtbot.waitUntil(lambda: len(line.learn.versions.tree.versions) == 2, timeout=PATIENCE)
        assert "gone" in told[0]

    def test_what_came_with_the_program_cannot_be_changed(self, line, qtbot):
        choose(line, "phantom", qtbot)
        qtbot.waitUntil(lambda: [v.name for v in line.learn.versions.tree.versions] == ["phantom"], timeout=PATIENCE)
        actions = line.learn.versions.actions
        assert not any(actions[text].isEnabled() for text in ("Rename ...", "Note ...", "Delete ..."))
        assert actions["Export ..."].isEnabled()


class TestMasks:
    def test_changed_voxels_show_the_new_class_or_what_is_gone(self):
        before = np.array([[[0, 1, 1, 2, 2, 0]]], np.uint8)
        after = np.array([[[0, 1, 2, 0, 2, 1]]], np.uint8)
        masks = Masks(before, after)
        np.testing.assert_array_equal(masks.changed(3), [[[0, 0, 2, 4, 0, 1]]])
        assert masks.in_words(CLASSES) == "3 voxels differ: large organ +1 -1, small organ +1 -1."

    def test_the_same_masks(self):
        same = np.ones((1, 2, 2), np.uint8)
        assert not Masks(same, same).changed(3).any()
        assert Masks(same, same).in_words(CLASSES) == "Both masks are the same."


class TestSideBySide:
    @pytest.fixture
    def compared(self, line, viewer, qtbot):
        """With the masks of two versions in view, beside the mask that is worked on."""
        segment(line, qtbot)
        correct(line)
        self.before = line.session.case.mask.data.copy()
        select(line, "grandchild")
        line.learn.versions.actions["Compare with the version in use"].trigger()
        self.show(line, qtbot)
        return line

    def show(self, dock, qtbot):
        dock.learn.beside.button.click()
        qtbot.waitUntil(lambda: dock.learn.beside.shown, timeout=PATIENCE)

    def test_three_layers_and_the_persons_mask_as_it_was(self, compared):
        names = [layer.name for layer in compared.learn.beside.layers]
        assert names == ["scan mask by child", "scan mask by grandchild", "scan child to grandchild"]
        np.testing.assert_array_equal(compared.session.case.mask.data, self.before)
        assert len(compared.session.case.masks) == 1

    def test_they_go_by_the_same_button(self, compared, viewer, qtbot):
        compared.learn.beside.button.click()
        qtbot.waitUntil(lambda: len(viewer.layers) == 2, timeout=PATIENCE)
        assert compared.learn.beside.button.text() == "Side by side"
        assert compared.session.case.mask in viewer.layers

    def test_they_go_with_the_scan(self, compared, viewer, qtbot):
        viewer.layers.selection = {compared.session.case.image, compared.session.case.mask}
        viewer.layers.remove_selected()
        qtbot.waitUntil(lambda: not viewer.layers, timeout=PATIENCE)

    def test_removed_by_hand_they_can_be_shown_again(self, compared, viewer, qtbot):
        for layer in list(compared.learn.beside.layers):
            viewer.layers.remove(layer)
        assert compared.learn.beside.button.text() == "Side by side"
        self.show(compared, qtbot)
        assert len(viewer.layers) == 5

    def test_nobody_paints_into_them(self, compared):
        assert not any(layer.editable for layer in compared.learn.beside.layers)
