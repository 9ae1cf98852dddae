"""`SegmentMore`: what is seldom changed about segmenting, remembered from window to window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from qtpy.QtWidgets import QCheckBox, QFormLayout, QLabel, QLineEdit, QWidget

from napari_medattn.widgets.parts import choice, number, row, select
from napari_medattn.widgets.remembered import remember, remembered

_PART = "segment"
_AXES = "xyz"
_MEASURES = {"none": "none", "entropy": "entropy", "margin": "margin"}
_INTENSITY = 1e6  # beyond what scans hold
_FLIPS_TIP = "The mean over copies of the scan mirrored along these axes is surer; each axis doubles the time."
_SKIP_TIP = (
    "Tiles without a voxel brighter than this, in the scan's own intensities, become background without asking the "
    "network."
)


@dataclass(frozen=True)
class Chosen:
    """What was chosen when Segment was pressed.

    Attributes:
        overlap: Share of a tile that neighbouring tiles have in common.
        flips: Letters of the axes to mirror along.
        skip_below: Intensity up to which tiles are background; None to skip none.
        tidy: Steps of tidying.
        uncertainty: ``"none"``, ``"entropy"`` or ``"margin"``.
    """

    overlap: float
    flips: str
    skip_below: float | None
    tidy: tuple[str, ...]
    uncertainty: str

    def arguments(self) -> dict[str, Any]:
        """As arguments of `segment_steps`; imports torch."""
        from napari_medattn.inference import RunSettings

        return {
            "settings": RunSettings(self.overlap, self.flips, self.skip_below),
            "tidy": self.tidy,
            "uncertainty": False if self.uncertainty == "none" else self.uncertainty,
        }


class SegmentMore(QWidget):
    """Overlap, mirrored passes, tidying, skipped background, uncertainty."""

    def __init__(self) -> None:
        super().__init__()
        self.overlap = number(
            "tile overlap",
            "Share of a tile that its neighbours have in common: more hides seams better and takes longer.",
            (0.0, 0.75, 0.05),
            0.25,
        )
        self.flips = {axis: _tick(axis, f"mirrored along {axis}", _FLIPS_TIP) for axis in _AXES}
        self.tidy = QLineEdit()
        self.tidy.setPlaceholderText("largest small:50 holes")
        self.tidy.setAccessibleName("tidy up")
        self.tidy.setToolTip(
            "What to do to the mask afterwards, in this order: largest (part of each class), small:50 and holes:50 (up "
            "to so many mm3), holes, smooth:1 (mm). largest@2 is for class 2 alone."
        )
        self.skip = _tick("below", "skip background", _SKIP_TIP)
        self.skip_below = number("skip below", _SKIP_TIP, (-_INTENSITY, _INTENSITY, 1.0), 0.0)
        self.uncertainty = choice(
            "uncertainty",
            "Add a layer that says how undecided the network is, 0 to 1. Entropy: over all classes. Margin: between "
            "the two most probable ones.",
            _MEASURES,
        )
        form = QFormLayout(self)
        form.setContentsMargins(6, 0, 0, 0)
        for text, widget, tip in (
            ("tile overlap", self.overlap, self.overlap.toolTip()),
            ("mirrored along", row(*self.flips.values(), QWidget(), stretch=len(_AXES)), _FLIPS_TIP),
            ("tidy up", self.tidy, self.tidy.toolTip()),
            ("skip tiles", row(self.skip, self.skip_below, stretch=1), _SKIP_TIP),
            ("uncertainty", self.uncertainty, self.uncertainty.toolTip()),
        ):
            label = QLabel(text)
            label.setToolTip(tip)
            form.addRow(label, widget)
        self._recall()
        self.overlap.valueChanged.connect(lambda value: remember(_PART, "overlap", value))
        for tick in self.flips.values():
            tick.toggled.connect(lambda _: remember(_PART, "flips", self._mirrored()))
        self.tidy.editingFinished.connect(lambda: remember(_PART, "tidy", self.tidy.text()))
        self.skip.toggled.connect(lambda on: remember(_PART, "skip", on))
        self.skip.toggled.connect(self.skip_below.setEnabled)
        self.skip_below.valueChanged.connect(lambda value: remember(_PART, "skip_below", value))
        self.uncertainty.currentIndexChanged.connect(
            lambda _: remember(_PART, "uncertainty", self.uncertainty.currentData())
        )

    def _recall(self) -> None:
        """Choose what was chosen last, before anybody listens."""
        kept = remembered(_PART)
        if kept is not None:
            self.overlap.setValue(kept.overlap)
            self.tidy.setText(kept.tidy)
            self.skip.setChecked(kept.skip)
            self.skip_below.setValue(kept.skip_below)
            select(self.uncertainty, kept.uncertainty)
            for axis, tick in self.flips.items():
                tick.setChecked(axis in kept.flips)
        self.skip_below.setEnabled(self.skip.isChecked())

    def chosen(self) -> Chosen:
        """What is chosen now."""
        below = self.skip_below.value() if self.skip.isChecked() else None
        tidy = tuple(self.tidy.text().split())
        return Chosen(self.overlap.value(), self._mirrored(), below, tidy, self.uncertainty.currentData())

    def _mirrored(self) -> str:
        return "".join(axis for axis, tick in self.flips.items() if tick.isChecked())


def _tick(text: str, name: str, tip: str) -> QCheckBox:
    made = QCheckBox(text)
    made.setAccessibleName(name)
    made.setToolTip(tip)
    return made
