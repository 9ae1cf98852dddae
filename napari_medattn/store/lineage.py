"""Which checkpoint came from which: a tree, told by the cards alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from napari_medattn.store.checkpoints import Checkpoint


@dataclass(frozen=True)
class Version:
    """A checkpoint at its place in the tree.

    Attributes:
        checkpoint: The checkpoint.
        parent: The one it was fine-tuned from, if it is here.
        depth: Steps from the root of its line, which has 0.
        by_name: Whether the parent has other weights by now than those it was fine-tuned from, or it is not known
            which; it was found by its name.
        current: Whether it is the one of its line that is in use.
        shipped: Whether it came with the program, and so stays as it is.
    """

    checkpoint: Checkpoint
    parent: Checkpoint | None = None
    depth: int = 0
    by_name: bool = False
    current: bool = False
    shipped: bool = False

    @property
    def name(self) -> str:
        """The checkpoint's name."""
        return self.checkpoint.name

    @property
    def lost_parent(self) -> str:
        """Name of the parent where that is not here any more, else empty."""
        card = self.checkpoint.card
        return card.parent_name or (card.parent or "")[:12] if self.parent is None else ""


@dataclass(frozen=True)
class Tree:
    """Checkpoints with their parents.

    Attributes:
        checkpoints: All of them, in the order in which roots are shown.
        parents: The parent of each that has one here, by file.
        by_name: Files of those whose parent was found by its name only.
    """

    checkpoints: tuple[Checkpoint, ...]
    parents: Mapping[Path, Checkpoint]
    by_name: frozenset[Path]

    @classmethod
    def of(cls, checkpoints: Sequence[Checkpoint]) -> Tree:
        """Find each one's parent: by the hash of its weights, else by its name."""
        parents: dict[Path, Checkpoint] = {}
        named = set()
        ordered = sorted(checkpoints, key=_age)
        for child in ordered:
            by_hash = _of_hash(child, ordered)
            same_name = [one for one in ordered if one.name == child.card.parent_name and one.path != child.path]
            for parent in (*by_hash, *same_name):
                if not _descends(parent, child, parents):
                    parents[child.path] = parent
                    if parent not in by_hash:
                        named.add(child.path)
                    break
        return cls(tuple(checkpoints), parents, frozenset(named))

    def parent(self, checkpoint: Checkpoint) -> Checkpoint | None:
        """The checkpoint that this one was fine-tuned from, if it is here."""
        return self.parents.get(checkpoint.path)

    def root(self, checkpoint: Checkpoint) -> Checkpoint:
        """Where its line begins."""
        while (parent := self.parent(checkpoint)) is not None:
            checkpoint = parent
        return checkpoint

    def roots(self) -> list[Checkpoint]:
        """Those without a parent here."""
        return [one for one in self.checkpoints if one.path not in self.parents]

    def children(self, checkpoint: Checkpoint) -> list[Checkpoint]:
        """Those that were fine-tuned from it, oldest first."""
        found = [one for one in self.checkpoints if (up := self.parent(one)) is not None and up.path == checkpoint.path]
        return sorted(found, key=_age)

    def line(self, checkpoint: Checkpoint) -> list[tuple[Checkpoint, int]]:
        """A checkpoint and all that descend from it with their depth below it, depth first."""
        found, waiting = [], [(checkpoint, 0)]
        while waiting:
            one, depth = waiting.pop()
            found.append((one, depth))
            waiting += [(child, depth + 1) for child in reversed(self.children(one))]
        return found


def _age(checkpoint: Checkpoint) -> tuple[str, str]:
    return checkpoint.card.created, checkpoint.name


def _of_hash(child: Checkpoint, ordered: Iterable[Checkpoint]) -> list[Checkpoint]:
    """Those with the weights that a checkpoint came from, the one of the parent's name first."""
    card = child.card
    same = [one for one in ordered if one.card.weights_sha256 == card.parent and one.path != child.path]
    if card.parent == card.weights_sha256:  # not trained at all: only an older one can be its parent
        same = [one for one in same if _age(one) < _age(child)]
    return sorted(same, key=lambda one: one.name != card.parent_name)


def _descends(checkpoint: Checkpoint, ancestor: Checkpoint, parents: Mapping[Path, Checkpoint]) -> bool:
    """Whether a checkpoint is another one, or came from it as far as is known by now."""
    one: Checkpoint | None = checkpoint
    while one is not None:
        if one.path == ancestor.path:
            return True
        one = parents.get(one.path)
    return False
