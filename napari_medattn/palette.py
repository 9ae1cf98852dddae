"""Colours of classes, told apart by colour-blind people too (Okabe and Ito); class 1 first."""

CLASS_COLOURS = ("#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#f0e442", "#d55e00", "#0072b2", "#999999")


def class_colour(number: int) -> str:
    """The colour of class ``number`` >= 1; they come round again after eight."""
    return CLASS_COLOURS[(number - 1) % len(CLASS_COLOURS)]
