"""What napari remembers for this plugin from window to window, in its Preferences too."""

from __future__ import annotations

from typing import Any

from napari.settings import get_plugin_settings

PLUGIN = "napari-medattn"


def remembered(part: str) -> Any:
    """The settings of a part of the dock, attributes to read and to set; None where napari does not know the plugin."""
    try:
        return getattr(get_plugin_settings(PLUGIN), part)
    except KeyError:
        return None


def remember(part: str, name: str, value: Any) -> None:
    """Keep one setting of a part, if there is somewhere to keep it."""
    kept = remembered(part)
    if kept is not None and value is not None:
        setattr(kept, name, value)
