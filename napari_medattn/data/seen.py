"""How a scan lies on the screen when its voxels are drawn as they are stored, in words."""

from __future__ import annotations

from napari_medattn.geometry import Grid

_WORDS = {"R": "right", "L": "left", "A": "front", "P": "back", "S": "head", "I": "feet"}
_AGAINST = dict(zip("RLAPSI", "LRPAIS", strict=True))
# The patient's right on the left and the front or the head on top; of a sagittal slice, the front on the left.
_USUAL = ("LP", "LI", "PI")


def axes_in_words(grid: Grid) -> str:
    """Where the axes of a volume run to: ``"x runs to the patient's left, y to the back, z to the head."``."""
    x, y, z = (_WORDS[code] for code in grid.orientation)
    about = " about" if grid.is_oblique else ""
    return f"x runs{about} to the patient's {x}, y to the {y}, z to the {z}."


def sides_on_screen(grid: Grid) -> str:
    """What is on the left and on top where x runs to the right and y down, as napari draws slices along z."""
    x, y, _ = (_WORDS[_AGAINST[code]] for code in grid.orientation)
    return f"the patient's {x} is on the left, the {y} on top"


def seen_as_usual(grid: Grid) -> bool:
    """Whether that is how radiologists hang such slices."""
    return grid.orientation[:2] in _USUAL
