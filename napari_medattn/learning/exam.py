"""The same questions for a network before and after learning."""

from __future__ import annotations

import math
import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass, field

import torch
from torch import nn

from napari_medattn.device import is_out_of_memory
from napari_medattn.events import Progress
from napari_medattn.inference import Predictor
from napari_medattn.learning.adapters import plain
from napari_medattn.learning.regions import region_labels
from napari_medattn.learning.scoring import Reference, Scores, Tally
from napari_medattn.store import Card


@dataclass(frozen=True)
class Marks:
    """Scores of one network.

    Attributes:
        learned: On the voxels that were learned from; no proof of anything.
        held_out: On held-out examples; None if there are none.
        earlier: On earlier examples; None if there are none.
    """

    learned: Scores
    held_out: Scores | None = None
    earlier: Scores | None = None


@dataclass
class Exam:
    """What a network is asked.

    Attributes:
        card: The parent's card.
        device: Where to compute; the CPU once memory ran out.
        learned: What is learned from.
        held_out: What is held out.
        earlier: Earlier examples; those that are left out because of `limit` are dropped for good.
        limit: Seconds that earlier examples may take.
        seconds: How long it took the last time.
        learned_seconds: How long that of `learned` did.
        notes: What had to be changed.
    """

    card: Card
    device: torch.device
    learned: Sequence[Reference]
    held_out: Sequence[Reference] = ()
    earlier: Sequence[Reference] = ()
    limit: float = math.inf
    seconds: float = 0.0
    learned_seconds: float = 0.0
    notes: list[str] = field(default_factory=list)

    def steps(self, model: nn.Module) -> Generator[Progress, None, Marks]:
        """Ask a network everything."""
        began = time.monotonic()
        learned = yield from self.score_steps(model, self.learned)
        self.learned_seconds = time.monotonic() - began
        held_out = (yield from self.score_steps(model, self.held_out)) if self.held_out else None
        earlier = (yield from self._earlier_steps(model)) if self.earlier else None
        self.seconds = time.monotonic() - began
        return Marks(learned, held_out, earlier)

    def score_steps(self, model: nn.Module, references: Sequence[Reference]) -> Generator[Progress, None, Scores]:
        """Ask a network some of it; its place and mode stay as they are."""
        tally = Tally(self.card.class_names)
        yield from self.tally_steps(model, references, tally)
        return tally.scores()

    def tally_steps(
        self, model: nn.Module, references: Sequence[Reference], tally: Tally, limit: float = math.inf
    ) -> Generator[Progress, None, int]:
        """`score_steps` that adds to what was counted before, beginning with no other after ``limit`` seconds.

        Returns:
            How many references were counted.
        """
        began, predictor = time.monotonic(), self.predictor(model)
        for count, reference in enumerate(references):
            if count and time.monotonic() - began > limit:
                return count
            try:
                masks = yield from region_labels(predictor, reference.prepared, reference.regions)
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or self.device.type == "cpu":
                    raise
                self.device = torch.device("cpu")
                self.notes.append("Memory ran out: scoring on the CPU.")
                yield Progress("memory ran out: scoring on the CPU", 0, 0)
                predictor = self.predictor(model)
                masks = yield from region_labels(predictor, reference.prepared, reference.regions)
            tally.add(reference, masks)
        return len(references)

    def _earlier_steps(self, model: nn.Module) -> Generator[Progress, None, Scores]:
        """As many earlier examples as there is time for, at least one."""
        tally = Tally(self.card.class_names)
        count = yield from self.tally_steps(model, self.earlier, tally, self.limit)
        if count < len(self.earlier):
            self.notes.append(f"{count} of {len(self.earlier)} earlier examples were scored, to save time.")
            self.earlier = self.earlier[:count]
        self.limit = math.inf
        return tally.scores()

    def predictor(self, model: nn.Module) -> Predictor:
        """A copy of a network that is ready for inference."""
        return Predictor(plain(model), self.card, self.device)
