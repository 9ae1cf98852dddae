"""Does the map show what was learned: how far it moves when weights are untrained ones."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtWidgets import QLabel, QWidget

from napari_medattn.errors import InputError
from napari_medattn.models import AttentionSite
from napari_medattn.widgets.look.table import Column, RowTable
from napari_medattn.widgets.parts import column

if TYPE_CHECKING:
    from napari_medattn.look import Scene
    from napari_medattn.look.randomising import Randomised
    from napari_medattn.store import Checkpoint
    from napari_medattn.widgets.session import Session


@dataclass(frozen=True)
class _Row:
    weights: str
    head: int
    correlation: float | None
    difference: float
    divergence: float
    means: str


class RandomiseView(QWidget):
    """Lists how far a map moves."""

    action = "Randomise"
    honest = (
        "If the map stays as it was (correlation near 1) or turns upside down (near -1), it shows the image or how the "
        "network is built, not what was learned. The network in use is not touched: copies get the untrained weights."
    )

    def __init__(self) -> None:
        super().__init__()
        self.options = QWidget()
        self.table = RowTable(_columns(), lambda found: found.means, "how far the map moves")
        self.words = QLabel()
        self.words.setWordWrap(True)
        column(self, self.words, self.table).setContentsMargins(0, 0, 0, 0)
        self.forget()

    def why_not(self, site: AttentionSite) -> str:
        """Every site can be randomised."""
        return ""

    def make(
        self,
        scene: Scene,
        frame: int,
        site: AttentionSite,
        head: int | None,
        reference: NDArray[Any] | None,
        asked: Any,
    ) -> Generator[Any, None, tuple[Randomised, ...]]:
        """The work; on the worker thread."""
        from napari_medattn.look.randomising import randomising_steps

        card = scene.predictor.card
        mine = next((one for one in asked if one.card.weights_sha256 == card.weights_sha256), None)
        if mine is None:
            raise InputError(
                f"The checkpoint {card.name}, which made this mask, is no longer there.", "Segment with another one."
            )
        return randomising_steps(scene, [frame], mine, [site.key])

    def asked(self, session: Session) -> list[Checkpoint]:
        """The checkpoints that there are."""
        return list(session.checkpoints)

    def show_result(self, found: Sequence[Randomised]) -> None:
        """Fill the table: for each head, its own block untrained, then the whole network."""
        from napari_medattn.attention.divergence import MEANS
        from napari_medattn.look.randomising import SCOPES

        rows = [
            _Row(
                SCOPES[one.scope],
                head,
                float(one.correlation[head]) if np.isfinite(one.correlation[head]) else None,
                float(one.difference[head]),
                float(one.divergence[head]),
                f"rank correlations: {', '.join(f'{draw:+.2f}' for draw in one.correlations[:, head])}\n"
                f"apart: {MEANS[one.measure]}",
            )
            for one in found
            for head in range(one.site.heads)
        ]
        own = found[0].correlations[np.isfinite(found[0].correlations)]
        told = (
            f"{own.mean():+.2f} (from {own.min():+.2f} to {own.max():+.2f} over {len(found[0].correlations)} sets of "
            f"untrained weights). 1: did not move, 0: unrelated"
            if own.size
            else "not defined, as the map is the same everywhere"
        )
        self.words.setText(f"{found[0].site.title}, {SCOPES[found[0].scope]} untrained: rank correlation {told}.")
        self.table.fill(rows)
        self._show(True)

    def forget(self) -> None:
        """Show nothing."""
        self.table.fill([])
        self._show(False)

    def _show(self, shown: bool) -> None:
        self.table.setVisible(shown)
        self.words.setVisible(shown)


def _columns() -> Sequence[Column]:
    return [
        Column("untrained", "Whose weights were replaced.", lambda found: found.weights, lambda found: found.weights),
        Column("head", "The head.", lambda found: found.head, lambda found: str(found.head + 1), 44),
        Column(
            "rank corr.",
            "Spearman's rank correlation of the map before and after: 1 did not move, 0 unrelated.",
            lambda found: found.correlation,
            lambda found: "-" if found.correlation is None else f"{found.correlation:+.2f}",
            72,
        ),
        Column(
            "differs",
            "Mean absolute difference; softmax maps in multiples of the even share.",
            lambda found: found.difference,
            lambda found: f"{found.difference:.3f}",
            58,
        ),
        Column(
            "apart",
            "How far the attention lies apart, 0 to 1; the row's tooltip says how that is measured.",
            lambda found: found.divergence,
            lambda found: f"{found.divergence:.3f}",
            54,
        ),
    ]
