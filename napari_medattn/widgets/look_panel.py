"""Look: every attention site of the network, shown or hidden on the image."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QSignalBlocker, Qt
from qtpy.QtWidgets import QHeaderView, QLabel, QTreeWidget, QTreeWidgetItem, QWidget

from napari_medattn.widgets.case import Case
from napari_medattn.widgets.jobs import Jobs, Steps
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
        self._wanted: set[tuple[Case, str]] = set()  # ticked, and not yet here
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
        for key, layer in list(case.maps.items()):
            if layer.visible and case.prediction is not None and key in {site.key for site in case.prediction.sites}:
                self.show_site(key, case)
            else:
                self.session.viewer.layers.remove(layer)
        self.refresh()

    def show_site(self, key: str, case: Case | None = None) -> None:
        """Put a site's map on its image; it is made in the background, with a run of the network if need be."""
        case = case or self.session.case
        if case is None or case.prediction is None or case.predictor is None:
            return
        prediction, predictor = case.prediction, case.predictor
        site = predictor.sites[key]
        self._wanted.add((case, key))

        def steps() -> Steps:
            from napari_medattn.inference import segment_steps

            found = prediction.attention.get(key)
            if found is None:
                again = yield from segment_steps(
                    prediction.volume, predictor, attention=[key], overlap=prediction.record["overlap"]
                )
                found = again.attention[key]
            return found, found.on_image()

        def event(progress: Any) -> None:
            if (case, key) not in self._wanted:
                job.cancel()
            elif prediction.attention.get(key) is None:
                self.message.say(f"Making the map of {site.title}: {progress.done} of {progress.total} tiles ...")

        def done(result: Any) -> None:
            found, on_image = result
            self.message.say("")
            if case.prediction is None or case.prediction.record is not prediction.record:
                return  # a newer map is on its way
            wanted = (case, key) in self._wanted
            self._wanted.discard((case, key))
            case.add_map(found)
            if wanted and case.image in self.session.viewer.layers:
                case.show_map(key, on_image)

        quiet = key in prediction.attention
        job = self.jobs.start(
            f"the map of {site.title}",
            steps,
            on_event=event,
            on_done=done,
            on_error=self.message.fail,
            on_cancelled=lambda: self.message.say(""),
            quiet=quiet,
        )

    def _follow_layers(self) -> None:
        """Ticks show which maps are in view, also where somebody used the eye in napari's layer list."""
        with QSignalBlocker(self.tree):
            for row in range(self.tree.topLevelItemCount()):
                item = self.tree.topLevelItem(row)
                item.setCheckState(0, self._state(item.data(0, _KEY)))

    def _state(self, key: str) -> Qt.CheckState:
        layer = self.session.case.maps.get(key) if self.session.case is not None else None
        shown = layer is not None and layer.visible
        return Qt.CheckState.Checked if shown else Qt.CheckState.Unchecked

    def _ticked(self, item: QTreeWidgetItem, column_: int) -> None:
        key = item.data(0, _KEY)
        if item.checkState(0) == Qt.CheckState.Checked:
            self.show_site(key)
        elif self.session.case is not None:
            self._wanted.discard((self.session.case, key))
            self.session.case.hide_map(key)
