"""Work that was never saved, offered back."""

from __future__ import annotations

from qtpy.QtWidgets import QLabel, QWidget

from napari_medattn.widgets.correct.keeping import Keeper, describe
from napari_medattn.widgets.parts import button, column, row


class OfferLine(QWidget):
    """The newest offer with two buttons; away while there is none.

    Args:
        keeper: Who knows of unsaved work.
    """

    def __init__(self, keeper: Keeper) -> None:
        super().__init__()
        self.keeper = keeper
        self.label = QLabel()
        self.label.setWordWrap(True)
        self.yes = button("Bring back", "Show the mask as it was, with its undo steps, and go on with it.")
        self.no = button("Forget", "Do not offer these edits again; they are deleted after 30 days.")
        column(self, self.label, row(self.yes, self.no)).setContentsMargins(0, 0, 0, 0)
        self.yes.clicked.connect(self._bring_back)
        self.no.clicked.connect(self._forget)
        keeper.changed.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """Show what is on offer."""
        offers = self.keeper.offers
        self.setVisible(bool(offers))
        if not offers:
            return
        classes = ", ".join(offers[0].class_names[1:])
        more = f" ({len(offers) - 1} more)" if len(offers) > 1 else ""
        verb = "was" if offers[0].edits + offers[0].confirmations == 1 else "were"
        self.label.setText(f"{describe(offers[0])} ({classes}) {verb} not saved{more}.")

    def _bring_back(self) -> None:
        if self.keeper.offers:
            self.keeper.bring_back(self.keeper.offers[0])

    def _forget(self) -> None:
        if self.keeper.offers:
            self.keeper.forget(self.keeper.offers[0])
