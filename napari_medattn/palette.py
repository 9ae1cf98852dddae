"""Colours that colour-blind people tell apart too: of classes (Okabe and Ito), and of attention maps."""

RGBA = tuple[float, float, float, float]

CLASS_COLOURS = ("#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#f0e442", "#d55e00", "#0072b2", "#999999")


def class_colour(number: int) -> str:
    """The colour of class ``number`` >= 1; they come round again after eight."""
    return CLASS_COLOURS[(number - 1) % len(CLASS_COLOURS)]


def map_colours(*, signed: bool = False, steps: int = 64) -> list[RGBA]:
    """Colours of an attention map: clear where there is none, so that the scan is seen below it.

    Without sign from clear violet over green to yellow (viridis); with sign blue and red around a clear middle.

    Args:
        signed: Whether values run from negative to positive.
        steps: Number of colours.
    """
    from matplotlib import colormaps

    ramp = [index / (steps - 1) for index in range(steps)]
    scheme = colormaps["RdBu_r" if signed else "viridis"]
    strength = [abs(2 * at - 1) if signed else at for at in ramp]
    return [(*scheme(at)[:3], min(1.0, 1.2 * much**1.5)) for at, much in zip(ramp, strength, strict=True)]
