"""`Versions`: the checkpoints as a tree, and what a person does with them.

Shipped checkpoints are part of the tree and stay as they are. Changes are made by one window at a time, each in one
step, and never touch the weights.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

from napari_medattn.errors import CheckpointError
from napari_medattn.files import atomic_write, make_folder, trouble
from napari_medattn.store.card import Card
from napari_medattn.store.card_file import copy_with_card
from napari_medattn.store.checkpoints import (
    SHIPPED,
    SUFFIX,
    Checkpoint,
    check_name,
    free_name,
    list_checkpoints,
    load_checkpoint,
    user_folder,
)
from napari_medattn.store.current import chosen, mark_of, read_marks, write_marks
from napari_medattn.store.lineage import Tree, Version
from napari_medattn.store.locks import one_at_a_time

__all__ = ["Version", "Versions"]


class Versions:
    """The checkpoints in a folder and the shipped ones.

    Args:
        folder: A person's own checkpoints; the user's folder if None.
    """

    def __init__(self, folder: Path | str | None = None) -> None:
        self.folder = Path(folder) if folder is not None else user_folder()

    # -- the tree

    def tree(self, problems: list[CheckpointError] | None = None) -> list[Version]:
        """All versions depth first: each root, shipped ones first, followed by all that descends from it.

        Args:
            problems: Damaged files do not spoil the tree; what is wrong with them is appended here.
        """
        tree = self._tree(problems)
        return [version for root in tree.roots() for version in self._line(tree, root)]

    def line(self, checkpoint: Checkpoint) -> list[Version]:
        """All versions that share a root with this one, depth first."""
        tree = self._tree()
        return self._line(tree, tree.root(checkpoint))

    def roots(self) -> list[Checkpoint]:
        """The checkpoints whose parent is not here, shipped ones first."""
        return self._tree().roots()

    def children(self, checkpoint: Checkpoint) -> list[Checkpoint]:
        """The checkpoints that were fine-tuned from this one, oldest first."""
        return self._tree().children(checkpoint)

    def parent(self, checkpoint: Checkpoint) -> Checkpoint | None:
        """The checkpoint that this one was fine-tuned from; None if it is not here, or there was none."""
        return self._tree().parent(checkpoint)

    def find(self, name: str) -> Checkpoint:
        """The checkpoint of a name.

        Raises:
            CheckpointError: If there is none.
        """
        found = {one.name: one for one in list_checkpoints([], self.folder)}
        if name not in found:
            raise CheckpointError(
                f"There is no checkpoint called {name!r}.", f"There are: {', '.join(found) or 'none'}."
            )
        return found[name]

    # -- which one is in use

    def current(self, checkpoint: Checkpoint) -> Checkpoint:
        """The version in use of the line that a checkpoint belongs to; the root as long as none was chosen."""
        return next(version.checkpoint for version in self.line(checkpoint) if version.current)

    def make_current(self, checkpoint: Checkpoint) -> Checkpoint:
        """Make a checkpoint the version in use of its line.

        Raises:
            CheckpointError: If it is not here any more.
            SaveError: If that cannot be kept.
        """
        with one_at_a_time(self.folder):
            checkpoint = self._fresh(checkpoint)
            others = {version.checkpoint.card.weights_sha256 for version in self.line(checkpoint)}
            marks = [mark for mark in read_marks(self.folder) if mark[0] not in others]
            write_marks(self.folder, [*marks, mark_of(checkpoint)])
        return checkpoint

    def roll_back(self, checkpoint: Checkpoint) -> Checkpoint:
        """Make the parent of a checkpoint the version in use; returns the parent.

        Raises:
            CheckpointError: If the parent is not here.
            SaveError: If that cannot be kept.
        """
        parent = self.parent(checkpoint)
        if parent is None:
            lost = checkpoint.card.parent_name
            problem = f"its parent {lost} is gone" if lost else "it was not fine-tuned from another one"
            raise CheckpointError(
                f"{checkpoint.name} cannot be rolled back: {problem}.", "Make another version current."
            )
        return self.make_current(parent)

    # -- changing

    def rename(self, checkpoint: Checkpoint, name: str) -> Checkpoint:
        """Give a checkpoint another name; its weights, its children and whether it is in use stay as they are.

        Raises:
            CheckpointError: If the name is taken or no file name, or the checkpoint is a shipped one or gone.
            SaveError: If it cannot be written; the old name then stays.
        """
        check_name(name)
        with one_at_a_time(self.folder):
            old = self._own(checkpoint, "renamed")
            if name == old.name:
                return old
            if free_name(name, self.folder) != name:
                raise CheckpointError(f"There is a checkpoint called {name} already.", "Choose another name.")
            path = old.path.with_name(f"{name}{SUFFIX}")
            # What counts is the name of the file, so it changes last, and in one step.
            _put(old.path, old.path, replace(old.card, name=name))
            try:
                old.path.replace(path)
                _beside(old.path).replace(_beside(path))
            except OSError as error:
                raise trouble(path, error) from error
            new, marks = load_checkpoint(path), read_marks(self.folder)
            if mark_of(old) in marks:
                write_marks(self.folder, [mark_of(new) if mark == mark_of(old) else mark for mark in marks])
        return new

    def note(self, checkpoint: Checkpoint, text: str) -> Checkpoint:
        """Write a note of one's own into a checkpoint's card, in place of the one before.

        Raises:
            CheckpointError: If it is a shipped one or gone.
            SaveError: If it cannot be written; the old note then stays.
        """
        with one_at_a_time(self.folder):
            old = self._own(checkpoint, "changed")
            _put(old.path, old.path, replace(old.card, note=text))
        return load_checkpoint(old.path)

    def export(self, checkpoint: Checkpoint, path: Path | str, *, overwrite: bool = False) -> Path:
        """Write a checkpoint, weights and card, as one file for others.

        Args:
            checkpoint: Which.
            path: A file that ends with ``.safetensors``, or a folder.
            overwrite: Replace a file that is there.

        Returns:
            The file.

        Raises:
            CheckpointError: If the checkpoint is damaged, or the file's name does not fit or is taken.
            SaveError: If it cannot be written.
        """
        path = Path(path)
        if path.is_dir():
            path /= f"{checkpoint.name}{SUFFIX}"
        if path.suffix != SUFFIX:
            raise CheckpointError(f"{path.name} does not end with {SUFFIX}.", "Give such a name, or a folder.")
        if path.exists() and (not overwrite or path.samefile(checkpoint.path)):
            raise CheckpointError(f"{path} exists already.", "Choose another name.")
        checkpoint.state()  # what is passed on must be whole
        with atomic_write(path) as temporary:
            shutil.copyfile(checkpoint.path, temporary)
        return path

    def import_(self, path: Path | str) -> tuple[Checkpoint, bool]:
        """Take in a checkpoint file; a name that is taken gets a number.

        Returns:
            The checkpoint, and whether it is new: if its weights are here already, it is the one that has them.

        Raises:
            CheckpointError: If the file is no whole checkpoint, or of a network that is not known here.
            SaveError: If it cannot be written.
        """
        given = load_checkpoint(Path(path))
        given.build()
        check_name(given.name)
        with one_at_a_time(make_folder(self.folder)):
            sha = given.card.weights_sha256
            there = [one for one in list_checkpoints([], self.folder) if one.card.weights_sha256 == sha]
            if there:
                return there[0], False
            card = replace(given.card, name=free_name(given.name, self.folder))
            target = self.folder / f"{card.name}{SUFFIX}"
            _put(given.path, target, card)
        return load_checkpoint(target), True

    # -- deleting

    def why_kept(self, checkpoint: Checkpoint) -> CheckpointError | None:
        """Why a checkpoint cannot be deleted; None if it can.

        The version in use can be deleted only where it is all that is left of its line.
        """
        name, tree = checkpoint.name, self._tree()
        if _is_shipped(checkpoint):
            return CheckpointError(f"{name} came with the program and cannot be deleted.", "Delete one of your own.")
        children = ", ".join(child.name for child in tree.children(checkpoint))
        if children:
            return CheckpointError(f"{name} cannot be deleted: {children} came from it.", "Delete that first.")
        line = self._line(tree, tree.root(checkpoint))
        if len(line) > 1 and any(one.current and one.checkpoint.path == checkpoint.path for one in line):
            return CheckpointError(f"{name} is the current version and cannot be deleted.", "Use another one first.")
        return None

    def delete(self, checkpoint: Checkpoint) -> None:
        """Delete a checkpoint's files.

        Raises:
            CheckpointError: If others descend from it, it is in use, a shipped one, or gone; see `why_kept`.
            SaveError: If the file cannot be deleted.
        """
        with one_at_a_time(self.folder):
            reason = self.why_kept(checkpoint)
            if reason is not None:
                raise reason
            checkpoint = self._fresh(checkpoint)
            try:
                checkpoint.path.unlink()
                _beside(checkpoint.path).unlink(missing_ok=True)
            except OSError as error:
                raise trouble(checkpoint.path, error) from error
            marks = read_marks(self.folder)
            if mark_of(checkpoint) in marks:
                write_marks(self.folder, [mark for mark in marks if mark != mark_of(checkpoint)])

    # -- parts

    def _tree(self, problems: list[CheckpointError] | None = None) -> Tree:
        return Tree.of(list_checkpoints(problems, self.folder))

    def _line(self, tree: Tree, root: Checkpoint) -> list[Version]:
        members = tree.line(root)
        used = chosen([one for one, _ in members], read_marks(self.folder))
        return [
            Version(one, tree.parent(one), depth, one.path in tree.by_name, one.path == used.path, _is_shipped(one))
            for one, depth in members
        ]

    def _own(self, checkpoint: Checkpoint, what: str) -> Checkpoint:
        """The checkpoint as it is now, if it may be changed."""
        if _is_shipped(checkpoint):
            raise CheckpointError(
                f"{checkpoint.name} came with the program and cannot be {what}.",
                "Fine-tune it: what comes of that is your own.",
            )
        return self._fresh(checkpoint)

    def _fresh(self, checkpoint: Checkpoint) -> Checkpoint:
        """The checkpoint as it is now on disk."""
        if not checkpoint.path.is_file():
            raise CheckpointError(
                f"{checkpoint.name} is gone: it was renamed or deleted elsewhere.", "Look at the list again."
            )
        found = load_checkpoint(checkpoint.path)
        if found.card.weights_sha256 != checkpoint.card.weights_sha256:
            raise CheckpointError(f"{checkpoint.name} was replaced elsewhere.", "Look at the list again.")
        return found


def _is_shipped(checkpoint: Checkpoint) -> bool:
    return checkpoint.path.parent == SHIPPED


def _beside(path: Path) -> Path:
    """The readable copy of the card."""
    return path.with_suffix(".json")


def _put(source: Path, target: Path, card: Card) -> None:
    """Write a file's weights with a card, and the readable copy of the card, in place of what is there."""
    # Both are written in full before either takes its place; the file that counts comes last.
    with atomic_write(target) as whole, atomic_write(_beside(target)) as readable:
        readable.write_text(card.to_json() + "\n", encoding="utf-8")
        copy_with_card(source, whole, card.to_json())
