"""`VersionsPanel`: the versions of the chosen network, and what a person does with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from qtpy.QtCore import Signal
from qtpy.QtWidgets import QFileDialog, QInputDialog, QMenu, QMessageBox, QWidget

from napari_medattn.store.checkpoints import SUFFIX, Checkpoint
from napari_medattn.store.lineage import Version
from napari_medattn.store.versions import Versions
from napari_medattn.widgets.jobs import Jobs, Steps
from napari_medattn.widgets.learn.tree import VersionTree
from napari_medattn.widgets.parts import MessageLine, button, column, row
from napari_medattn.widgets.session import Session

_FILES = f"Checkpoints (*{SUFFIX})"


class VersionsPanel(QWidget):
    """The tree, and below it what can be done with the version that is selected.

    Args:
        session: The dock's session.
        jobs: The dock's jobs.
        message: Where to say what happened.
    """

    wants_comparison = Signal(object, object)  # the checkpoints before and after

    def __init__(self, session: Session, jobs: Jobs, message: MessageLine) -> None:
        super().__init__()
        self.session, self.jobs, self.message = session, jobs, message
        self.versions = Versions()
        self.tree = VersionTree()
        self.use = button("Make current", "Segment with the selected version from now on, here and in new windows.")
        self.back = button("Roll back", "")
        self.more = button("More", "Rename, note, compare, export, import or delete.")
        menu = QMenu(self.more)
        menu.setToolTipsVisible(True)
        self.actions = {
            text: menu.addAction(text, action)
            for text, action in (
                ("Rename ...", self._ask_name),
                ("Note ...", self._ask_note),
                ("Compare with the version in use", self._compare),
                ("Export ...", self._ask_export),
                ("Import ...", self._ask_import),
                ("Delete ...", self._ask_delete),
            )
        }
        self.more.setMenu(menu)
        column(self, self.tree, row(self.use, self.back, self.more)).setContentsMargins(0, 0, 0, 0)
        self._reading = self._again = False
        self.use.clicked.connect(self.make_current)
        self.back.clicked.connect(self.roll_back)
        self.tree.version_activated.connect(lambda version: self.make_current())
        self.tree.chosen.connect(self._enable)
        session.checkpoints_changed.connect(self.read)
        session.checkpoint_changed.connect(self.read)
        self.read()

    @property
    def reading(self) -> bool:
        """Whether the tree is being read."""
        return self._reading

    @property
    def in_use(self) -> Version | None:
        """The version of this line that is in use."""
        return next((version for version in self.tree.versions if version.current), None)

    def read(self) -> None:
        """Read the line of the chosen network again, in the background."""
        checkpoint = self.session.checkpoint
        if self._reading or checkpoint is None:
            self._again = self._reading
            return

        def done(line: list[Version]) -> None:
            self._reading = False
            self.tree.fill(line)
            if self._again:
                self._again = False
                self.read()

        def failed(error: BaseException) -> None:
            done([])
            self.message.fail(error)

        self._reading = True
        self._run("reading the versions", lambda: self.versions.line(checkpoint), done, failed, quiet=True)

    def make_current(self) -> None:
        """Use the selected version from now on."""
        version = self.tree.current
        if version is not None:
            self._change("choosing a version", lambda: self.versions.make_current(version.checkpoint), "{} is in use.")

    def roll_back(self) -> None:
        """Use the parent of the version in use from now on."""
        version = self.in_use
        if version is not None:
            said = f"Rolled back from {version.name} to {{}}."
            self._change("rolling back", lambda: self.versions.roll_back(version.checkpoint), said)

    def rename(self, version: Version, name: str) -> None:
        """Give a version another name."""
        chosen = self.session.checkpoint is not None and self.session.checkpoint.path == version.checkpoint.path
        said = f"{version.name} is called {{}} now."
        self._change("renaming", lambda: self.versions.rename(version.checkpoint, name), said, choose=chosen)

    def note(self, version: Version, text: str) -> None:
        """Write a note into a version's card."""
        self._change("noting", lambda: self.versions.note(version.checkpoint, text), "Noted in {}.", choose=False)

    def export(self, version: Version, path: Path | str, *, overwrite: bool = False) -> None:
        """Write a version as one file for others."""
        self._run(
            f"exporting {version.name}",
            lambda: self.versions.export(version.checkpoint, path, overwrite=overwrite),
            lambda written: self.message.say(f"Exported {written}."),
        )

    def import_(self, path: Path | str) -> None:
        """Take in a checkpoint file, and choose it in this window."""

        def done(found: tuple[Checkpoint, bool]) -> None:
            checkpoint, new = found
            self.session.refresh_checkpoints(choose=checkpoint.name)
            self.message.say(f"Imported {checkpoint.name}." if new else f"{checkpoint.name} has these weights already.")

        self._run("importing a checkpoint", lambda: self.versions.import_(path), done)

    def delete(self, version: Version) -> None:
        """Delete a version that no other descends from."""

        def work() -> str:
            self.versions.delete(version.checkpoint)
            return self.versions.current(version.parent).name if version.parent is not None else ""

        def done(instead: str) -> None:
            gone = self.session.checkpoint is not None and self.session.checkpoint.path == version.checkpoint.path
            self.session.refresh_checkpoints(choose=instead if gone and instead else None)
            self.message.say(f"Deleted {version.name}.")

        self._run(f"deleting {version.name}", work, done)

    def _change(self, title: str, work: Callable[[], Checkpoint], said: str, *, choose: bool = True) -> None:
        """Do something that gives a checkpoint, choose it in this window, and say so."""

        def done(checkpoint: Checkpoint) -> None:
            self.session.refresh_checkpoints(choose=checkpoint.name if choose else None)
            self.message.say(said.format(checkpoint.name))

        self._run(title, work, done)

    def _run(
        self,
        title: str,
        work: Callable[[], Any],
        done: Callable[[Any], None],
        failed: Callable[[BaseException], None] | None = None,
        *,
        quiet: bool = False,
    ) -> None:
        def steps() -> Steps:
            yield
            return work()

        def refused(error: BaseException) -> None:
            self.message.fail(error)
            self.session.refresh_checkpoints()  # perhaps it was changed elsewhere

        self.jobs.start(title, steps, on_done=done, on_error=failed or refused, quiet=quiet)

    def _enable(self, version: Version | None) -> None:
        used = self.in_use
        self.use.setEnabled(version is not None)
        parent = used.parent.name if used is not None and used.parent is not None else ""
        self.back.setEnabled(bool(parent))
        self.back.setToolTip(
            f"Segment with {parent} again; {used.name} stays in the tree."
            if parent and used is not None
            else "The version in use was not fine-tuned from another one that is here."
        )
        own = version is not None and not version.shipped
        for text, tip in (
            ("Rename ...", "Give the selected version another name."),
            ("Note ...", "Write a note into the selected version's card."),
            ("Delete ...", "Delete the selected version's files, unless others descend from it."),
        ):
            self.actions[text].setEnabled(own)
            self.actions[text].setToolTip(tip if own else "A network that came with the program stays as it is.")
        self.actions["Export ..."].setEnabled(version is not None)
        self.actions["Export ..."].setToolTip("Write the selected version, weights and card, as one file.")
        self.actions["Import ..."].setToolTip("Take in a checkpoint file.")
        compare = self.actions["Compare with the version in use"]
        compare.setEnabled(version is not None and used is not None and version.name != used.name)
        compare.setToolTip("Offer the masks of both on the open scan, side by side.")

    def _compare(self) -> None:
        version, used = self.tree.current, self.in_use
        if version is not None and used is not None:
            one, other = sorted((version, used), key=lambda found: found.checkpoint.card.created)
            self.wants_comparison.emit(one.checkpoint, other.checkpoint)

    def _ask_name(self) -> None:
        version = self.tree.current
        if version is not None:
            name, ok = QInputDialog.getText(self, "Rename", f"New name of {version.name}:", text=version.name)
            if ok and name.strip():
                self.rename(version, name.strip())

    def _ask_note(self) -> None:
        version = self.tree.current
        if version is not None:
            old = version.checkpoint.card.note
            text, ok = QInputDialog.getMultiLineText(self, "Note", f"Note on {version.name}:", old)
            if ok:
                self.note(version, text.strip())

    def _ask_export(self) -> None:
        version = self.tree.current
        if version is not None:
            start = str(Path.home() / f"{version.name}{SUFFIX}")
            path, _ = QFileDialog.getSaveFileName(self, "Export", start, _FILES)
            if path.endswith(SUFFIX):  # the dialog has asked whether a file of that name may be replaced
                self.export(version, path, overwrite=True)
            elif path:
                self.export(version, f"{path}{SUFFIX}")

    def _ask_import(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self, "Import", str(Path.home()), _FILES)
        if path:
            self.import_(path)

    def _ask_delete(self) -> None:
        version = self.tree.current
        if version is None:
            return
        reason = self.versions.why_kept(version.checkpoint)
        if reason is not None:
            self.message.fail(reason)
            return
        asked = f"Delete {version.name}? Its weights cannot be brought back."
        if QMessageBox.question(self, "Delete", asked) == QMessageBox.StandardButton.Yes:
            self.delete(version)
