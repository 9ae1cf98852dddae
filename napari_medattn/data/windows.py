"""Windows of Hounsfield units in which radiologists look at CT.

Width W and level L as radiology teaching gives them (https://radiopaedia.org/articles/windowing-ct); a window shows
L - W/2 to L + W/2.
"""

from __future__ import annotations

from napari_medattn.errors import InputError

_WIDTH_LEVEL = {
    "soft tissue": (400, 50),
    "lung": (1500, -600),
    "bone": (1800, 400),
    "mediastinum": (350, 50),
    "liver": (150, 30),
    "brain": (80, 40),
    "stroke": (40, 40),
    "subdural": (200, 75),
    "angiography": (600, 300),
}
CT_WINDOWS = {name: (level - width / 2, level + width / 2) for name, (width, level) in _WIDTH_LEVEL.items()}


def ct_window(name: str) -> tuple[float, float]:
    """Lowest and highest Hounsfield unit of a window, for showing and for `Preparation(window=...)`.

    Raises:
        InputError: Naming the windows there are.
    """
    if name not in CT_WINDOWS:
        raise InputError(f"There is no CT window {name!r}.", f"Use one of {', '.join(CT_WINDOWS)}.")
    return CT_WINDOWS[name]
