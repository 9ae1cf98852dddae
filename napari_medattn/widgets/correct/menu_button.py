"""A flat button that opens a menu, with room for its arrow."""

from __future__ import annotations

from qtpy.QtWidgets import QMenu, QToolButton


def menu_button(text: str, name: str, tip: str) -> QToolButton:
    """A button with an empty menu.

    Args:
        text: What it says.
        name: Its accessible name.
        tip: What its menu changes.
    """
    made = QToolButton()
    made.setText(text)
    made.setAccessibleName(name)
    made.setToolTip(tip)
    made.setPopupMode(QToolButton.ToolButtonPopupMode.InstantPopup)
    made.setStyleSheet("QToolButton { padding: 2px 14px 2px 4px; }")
    made.setMenu(QMenu(made))
    return made
