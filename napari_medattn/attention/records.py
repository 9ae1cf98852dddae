"""What is kept of one site's attention after a forward pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn

from torch import Tensor

from napari_medattn.errors import InputError
from napari_medattn.models import AttentionSite


@dataclass(frozen=True, eq=False)
class GateRecord:
    """The attention gate's map.

    Attributes:
        site: The site that it was captured at.
        gate: (B, 1, [Z,] Y, X) on the site's grid, detached, on the network's device.
    """

    site: AttentionSite
    gate: Tensor

    def maps(self) -> Tensor:
        """The map (B, heads, [Z,] Y, X): the factor that each position of the skip was multiplied with."""
        return self.gate

    def query(self, position: tuple[int, ...]) -> NoReturn:
        """A gate has no queries.

        Raises:
            InputError: Always.
        """
        raise InputError(
            f"{self.site.title} is a gate: it weighs each position by itself, so {position} attends to nothing.",
            "Read the map itself, or query a pairwise, axial or factored site.",
        )
