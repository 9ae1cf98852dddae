"""Look: every attention site of the network, shown or hidden on the image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qtpy.QtCore import QSignalBlocker, Qt
from qtpy.QtWidgets import QHeaderView, QLabel, QTreeWidget, QTreeWidgetItem, QWidget

from napari_medattn.widgets.case import Case
from napari_medattn.widgets.jobs import Job, Jobs, Steps
from napari_medattn.widgets.parts import MessageLine, column, fit_rows
from napari_medattn.widgets.session import Session

_KEY = int(Qt.ItemDataRole.UserRole)


class LookPanel(QWidget):
    """Lists the sites; ticking one puts its map on the image.

    Args:
        session: The dock's session.
        jobs: The dock's jobs.
    """

    def __init__(self, session: Session, jobs: Jobs) -> None:
        super().__init__()
        self.session, self.jobs = session, jobs
        self._wanted: dict[Case, list[str]] = {}  # ticked, and not yet here
        self._making: dict[Case, Job] = {}
        self.tree = QTreeWidget()
        self.tree.setHeaderLabels(["site", "kind", "grid"])
        self.tree.setRootIsDecorated(False)
        self.tree.setAccessibleName("attention sites")
        header = self.tree.header()
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        header.setSectionResizeMode(1, QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(2, QHeaderView.ResizeMode.ResizeToContents)
        header.setStretchLastSection(False)
        self.message = MessageLine()
        self.honest = QLabel("Where the block looks, not why.")
        column(self, self.tree, self.message, self.honest)
        self.tree.itemChanged.connect(self._ticked)
        session.image_changed.connect(self.refresh)
        session.maps_changed.connect(self._follow_layers)
        session.predictor_changed.connect(self.refresh)
        session.checkpoint_changed.connect(self.refresh)
        self.refresh()

    def refresh(self) -> None:
        """List the sites of the mask's network, or of the chosen one before there is a mask."""
        case, predictor = self.session.case, self.session.predictor
        prediction = case.prediction if case is not None else None
        if prediction is not None:
            sites = list(prediction.sites)
        else:
            sites = list(predictor.sites.values()) if predictor is not None else []
        with QSignalBlocker(self.tree):
            self.tree.clear()
            for site in sites:
                stride = " x ".join(str(step) for step in site.stride)
                grid = f"1 per {stride}" if site.spatial else "no place"
                item = QTreeWidgetItem([site.title, f"{site.normalisation} {site.kind}", grid])
                item.setData(0, _KEY, site.key)
                for part in range(3):
                    item.setToolTip(part, site.legend)
                item.setFlags(item.flags() | Qt.ItemFlag.ItemIsUserCheckable)
                item.setCheckState(0, self._state(site.key))
                item.setDisabled(prediction is None or not site.spatial)
                self.tree.addTopLevelItem(item)
        fit_rows(self.tree, self.tree.header(), self.tree.sizeHintForRow(0) if sites else 18, len(sites))
        if prediction is None:
            self.message.say("Press Segment first; the maps come with the mask.")
        elif not sites:
            self.message.say("This network has no attention to show.")
        else:
            self.message.say("")

    def refresh_maps(self, case: Case) -> None:
        """After a new prediction: bring the maps that are shown up to date, and take hidden ones away."""
        sites = {site.key for site in case.prediction.sites} if case.prediction is not None else set()
        for key, layer in list(case.maps.items()):
            if layer.visible and key in sites:
                self._want(case, key)
            else:
                self.session.viewer.layers.remove(layer)
        self._wanted[case] = [key for key in self._wanted.get(case, []) if key in sites]
        self._make(case)
        self.refresh()

    def show_site(self, key: str, case: Case | None = None) -> None:
        """Put a site's map on its image; it is made in the background, with a run of the network if need be."""
        case = case or self.session.case
        if case is not None and case.prediction is not None:
            self._want(case, key)
            self._make(case)

    def _want(self, case: Case, key: str) -> None:
        wanted = self._wanted.setdefault(case, [])
        if key not in wanted:
            wanted.append(key)

    def _make(self, case: Case) -> None:
        """Start one run for all maps that are wanted, unless one is under way; its end starts the next."""
        keys = list(self._wanted.get(case, []))
        prediction, predictor = case.prediction, case.predictor
        if not keys or prediction is None or predictor is None or case in self._making:
            return
        here = {key: prediction.attention[key] for key in keys if key in prediction.attention}
        missing = [key for key in keys if key not in here]
        titles = predictor.sites[keys[0]].title + (f" and {len(keys) - 1} more" if len(keys) > 1 else "")

        def steps() -> Steps:
            from napari_medattn.inference import segment_steps

            found = dict(here)
            if missing:
                again = yield from segment_steps(
                    prediction.volume, predictor, attention=missing, overlap=prediction.record["overlap"]
                )
                found.update(again.attention)
            return [(found[key], found[key].on_image()) for key in keys]

        def outdated() -> bool:
            newer = case.prediction is None or case.prediction.record is not prediction.record
            return newer or case.image not in self.session.viewer.layers

        def event(progress: Any) -> None:
            if outdated() or not set(keys) & set(self._wanted.get(case, [])):
                self._making[case].cancel()
            elif missing:
                self.message.say(f"Making the map of {titles}: {progress.done} of {progress.total} tiles ...")

        def done(made: Any) -> None:
            ended()
            if outdated():
                return
            for found, on_image in made:
                case.add_map(found)
                if found.site.key in self._wanted.get(case, []):
                    self._wanted[case].remove(found.site.key)
                    case.show_map(found.site.key, on_image)

        def failed(error: BaseException) -> None:
            self._wanted[case] = [key for key in self._wanted.get(case, []) if key not in keys]
            ended()
            self._follow_layers()
            self.message.fail(error)

        def ended() -> None:
            self._making.pop(case, None)
            self.message.say("")

        def go_on(finish: Callable[..., None]) -> Callable[..., None]:
            """The end of one run is the beginning of the next, if more was ticked meanwhile."""

            def both(*result: Any) -> None:
                finish(*result)
                if case.image in self.session.viewer.layers:
                    self._make(case)
                else:
                    self._wanted.pop(case, None)

            return both

        self._making[case] = self.jobs.start(
            f"the map of {titles}",
            steps,
            on_event=event,
            on_done=go_on(done),
            on_error=go_on(failed),
            on_cancelled=go_on(ended),
            quiet=not missing,
        )

    def _follow_layers(self) -> None:
        """Ticks show which maps are in view, also where somebody used the eye in napari's layer list."""
        with QSignalBlocker(self.tree):
            for row in range(self.tree.topLevelItemCount()):
                item = self.tree.topLevelItem(row)
                item.setCheckState(0, self._state(item.data(0, _KEY)))

    def _state(self, key: str) -> Qt.CheckState:
        case = self.session.case
        layer = case.maps.get(key) if case is not None else None
        shown = (layer is not None and layer.visible) or (case is not None and key in self._wanted.get(case, []))
        return Qt.CheckState.Checked if shown else Qt.CheckState.Unchecked

    def _ticked(self, item: QTreeWidgetItem, column_: int) -> None:
        key = item.data(0, _KEY)
        if item.checkState(0) == Qt.CheckState.Checked:
            self.show_site(key)
        elif self.session.case is not None:
            wanted = self._wanted.get(self.session.case, [])
            if key in wanted:
                wanted.remove(key)
            self.session.case.hide_map(key)
