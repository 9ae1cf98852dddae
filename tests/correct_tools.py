"""What tests of the correcting tools share."""

from __future__ import annotations

import numpy as np


def applied(labels, proposal):
    """The mask as it would be with a proposal."""
    after = labels.copy()
    after[proposal.box][proposal.changes] = proposal.labels[proposal.changes]
    return after


def drawn(text):
    """A (Y, X) mask from rows of digits; a dot is background."""
    rows = text.split()
    return np.array([[0 if sign == "." else int(sign) for sign in row] for row in rows], np.uint8)


def disk(shape, centre, radius):
    """(Y, X) bool."""
    y, x = np.ogrid[: shape[0], : shape[1]]
    return (y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2


def ball(shape, centre, radius):
    """(Z, Y, X) bool."""
    z, y, x = np.ogrid[: shape[0], : shape[1], : shape[2]]
    return (z - centre[0]) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2 <= radius**2
