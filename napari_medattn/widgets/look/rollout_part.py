"""Attention rollout in the window: of a voxel at the sliders, of one that is clicked, or the mean of all."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QComboBox, QLabel, QWidget

from napari_medattn.widgets.case import Case
from napari_medattn.widgets.look.clicks import Clicks
from napari_medattn.widgets.look.overlays import Overlays, made_from
from napari_medattn.widgets.look.view import Voxel, voxel_in_view
from napari_medattn.widgets.look.work import Work
from napari_medattn.widgets.parts import button, column, row
from napari_medattn.widgets.session import Session

if TYPE_CHECKING:
    from napari_medattn.look import Scene
    from napari_medattn.look.rolling import Rollout


class RolloutPart(QWidget):
    """Chooses the blocks and the voxel, shows the rollout as a layer, and says where it is not defined.

    Args:
        session: The dock's session.
        work: What the window is doing.
    """

    def __init__(self, session: Session, work: Work) -> None:
        super().__init__()
        self.session, self.work, self.overlays = session, work, Overlays()
        self.stream = QComboBox()
        self.stream.setAccessibleName("blocks to roll out through")
        self.stream.setToolTip("Successive blocks on one grid with residuals, which is where rollout is defined.")
        self.here = button("Slider voxel", "Roll out from the voxel at the viewer's sliders, and show it as a layer.")
        self.pick = button("Click a voxel", "While this is down, a click in the image rolls out from that voxel.")
        self.pick.setCheckable(True)
        self.mean = button("Mean of all", "Show what all voxels in view take from where, on average.")
        self.limits = QLabel()
        self.limits.setWordWrap(True)
        self.clicks = Clicks(session, self._roll)
        title = QLabel("Attention rollout")
        title.setStyleSheet("font-weight: bold;")
        layout = column(
            self,
            title,
            row(QLabel("through"), self.stream, stretch=1),
            row(self.here, self.pick, self.mean),
            self.limits,
        )
        layout.setContentsMargins(0, 0, 0, 0)
        self.here.clicked.connect(self._roll_here)
        self.pick.toggled.connect(self.clicks.turn)
        self.mean.clicked.connect(lambda: self._roll(None))

    def list_streams(self) -> None:
        """List the places of the network where rollout is defined, and say where it is not."""
        self.stream.clear()
        self.limits.setText("")
        predictor = self.work.predictor
        if predictor is None:
            return
        from napari_medattn.attention.rollout import streams, why_no_rollout

        sites = list(predictor.sites.values())
        for stream in streams(sites):
            count = len(stream.blocks)
            self.stream.addItem(f"{stream.name}, {count} block{'s' if count > 1 else ''}", stream.name)
        self.limits.setText(_undefined(sites, why_no_rollout(sites)))

    def choose(self, site_key: str) -> None:
        """Choose the blocks that a site belongs to."""
        predictor = self.work.predictor
        site = predictor.sites.get(site_key) if predictor is not None else None
        if site is not None and site.stream:
            self.stream.setCurrentIndex(self.stream.findData(site.stream))

    def enable(self, ready: bool) -> None:
        """Turn the controls on where there is something to roll out."""
        rolls = self.stream.count() > 0
        for made in (self.here, self.pick, self.mean, self.stream):
            made.setEnabled(ready and rolls)
        if not rolls:
            self.pick.setChecked(False)

    def _roll_here(self) -> None:
        case = self.session.case
        if case is not None:
            self._roll(voxel_in_view(self.session.viewer, case.image))

    def _roll(self, voxel: Voxel | None) -> None:
        """Roll out from a voxel (Z, Y, X) of the scan, or from all in view."""
        case, name = self.session.case, self.stream.currentData()
        if case is None or name is None:
            return
        in_view = voxel_in_view(self.session.viewer, case.image)

        def make(scene: Scene) -> Generator[Any, None, Any]:
            from napari_medattn.look.rolling import rollout_steps

            found = yield from rollout_steps(scene, name, voxel=voxel, frame=scene.locate(in_view).frame)
            return found, found.part.on_image()

        self.work.start(f"rollout through {name}", make, self._show_rollout)

    def _show_rollout(self, case: Case, result: Any) -> None:
        from napari_medattn.inference.prediction import display_limits

        found, on_image = result
        card = found.part.scene.predictor.card
        at = "mean of all"
        if found.voxel is not None:
            at = "at " + ", ".join(str(round(where)) for where in found.voxel)
        meta = {
            "kind": "rollout",
            "legend": found.legend,
            "sites": list(found.stream.keys),
            "voxel": found.voxel,
            "comparable_across_tiles": False,
            "record": made_from(case, card),
        }
        limits = display_limits(found.stream.site, found.part.values)
        title = f"rollout {found.stream.name}, {at}"
        self.overlays.put(case, f"rollout {found.stream.name}", title, on_image, limits, meta)
        self.work.message.say(f"Shown: {title}, in multiples of an even share. {_highest(found)}")


def _undefined(sites: Sequence[Any], reasons: dict[str, str]) -> str:
    """Where rollout is not defined and why, in words."""
    grouped: dict[str, list[str]] = {}
    for site in sites:
        if site.key in reasons:
            grouped.setdefault(reasons[site.key], []).append(site.title)
    parts = [
        f"{titles[0]}{f' and {len(titles) - 1} more' if titles[1:] else ''}: {why}" for why, titles in grouped.items()
    ]
    start = "An approximation: heads averaged, half of each block kept as it is, feed-forward parts left out. "
    return (start if len(reasons) < len(sites) else "") + (f"Not defined for {'; '.join(parts)}." if parts else "")


def _highest(found: Rollout) -> str:
    highest = float(found.part.values.max())
    return f"Up to {highest:.{0 if highest >= 10 else 1}f} times."
