"""`Row`: one measured figure beside what it should be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """A line of a benchmark's table.

    Attributes:
        name: What was measured.
        value: The figure.
        target: What it should be at least (or at most, see `at_most`); None where nothing is asked of it.
        unit: Unit of the figure; "x" for a ratio.
        at_most: Whether the target is an upper limit.
        note: What else a reader should know.
    """

    name: str
    value: float
    target: float | None = None
    unit: str = "x"
    at_most: bool = False
    note: str = ""

    @property
    def ok(self) -> bool:
        """Whether the target is met, also where there is none."""
        if self.target is None:
            return True
        return bool(self.value <= self.target if self.at_most else self.value >= self.target)

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "name": self.name,
            "value": round(float(self.value), 4),
            "target": self.target,
            "at_most": self.at_most,
            "ok": self.ok,
            "unit": self.unit,
            "note": self.note,
        }
