"""`Session`: which scan, which checkpoint and which device one viewer's dock is working with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from napari.components import ViewerModel
from napari.layers import Image, Labels
from psygnal import Signal

from napari_medattn.errors import CheckpointError
from napari_medattn.layerdata import KEY
from napari_medattn.store.checkpoints import Checkpoint, list_checkpoints, user_folder
from napari_medattn.store.current import chosen, read_marks
from napari_medattn.widgets.case import Case, belongs, lend_geometry

if TYPE_CHECKING:
    from napari_medattn.inference import Predictor


class Session:
    """The state of one dock; there is no other place where it is kept.

    Args:
        viewer: The viewer that the dock belongs to.
    """

    images_changed = Signal()
    image_changed = Signal()
    checkpoints_changed = Signal()
    checkpoint_changed = Signal()
    predictor_changed = Signal()
    mask_changed = Signal()
    edits_changed = Signal()
    maps_changed = Signal()
    notice = Signal(str)

    def __init__(self, viewer: ViewerModel) -> None:
        self.viewer = viewer
        self.device = "auto"
        self.checkpoints: list[Checkpoint] = []
        self.damaged: list[CheckpointError] = []
        self._checkpoint: Checkpoint | None = None
        self._image: Image | None = None
        self._cases: dict[Image, Case] = {}
        self._predictor: Predictor | None = None
        self._tried: tuple[str, str] | None = None
        viewer.layers.events.inserted.connect(self._layers_changed)
        viewer.layers.events.removed.connect(self._layers_changed)
        viewer.layers.selection.events.active.connect(self._selected)
        self.refresh_checkpoints()
        self._layers_changed()
        for image in self.images:
            image.events.name.connect(self._renamed)

    def close(self) -> None:
        """Stop listening to the viewer."""
        self.viewer.layers.events.inserted.disconnect(self._layers_changed)
        self.viewer.layers.events.removed.disconnect(self._layers_changed)
        self.viewer.layers.selection.events.active.disconnect(self._selected)
        for case in self._cases.values():
            case.close()

    @property
    def images(self) -> list[Image]:
        """Image layers that are scans, not maps that we made."""
        return [layer for layer in self.viewer.layers if _is_scan(layer)]

    @property
    def image(self) -> Image | None:
        """The scan that is worked on."""
        return self._image

    @image.setter
    def image(self, layer: Image | None) -> None:
        if layer != self._image:
            self._image = layer
            self.image_changed.emit()

    @property
    def case(self) -> Case | None:
        """What has been made of the current scan."""
        if self._image is None:
            return None
        if self._image not in self._cases:
            self._begin_case(self._image)
        return self._cases[self._image]

    def _begin_case(self, image: Image) -> None:
        """A case whose changes are heard as the session's own, so that panels need not follow it."""
        case = self._cases[image] = Case(self.viewer, image)
        # psygnal cannot tell how many arguments its own emitters take, hence the lambdas.
        case.mask_changed.connect(lambda: self.mask_changed.emit())  # noqa: PLW0108
        case.edits_changed.connect(lambda: self.edits_changed.emit())  # noqa: PLW0108
        case.maps_changed.connect(lambda: self.maps_changed.emit())  # noqa: PLW0108
        case.notice.connect(lambda text: self.notice.emit(text))  # noqa: PLW0108
        for mask in self.viewer.layers:
            if isinstance(mask, Labels) and belongs(mask, image):
                case.adopt(mask)

    @property
    def checkpoint(self) -> Checkpoint | None:
        """The checkpoint that Segment uses."""
        return self._checkpoint

    @checkpoint.setter
    def checkpoint(self, checkpoint: Checkpoint | None) -> None:
        if checkpoint != self._checkpoint:
            self._checkpoint = checkpoint
            self.checkpoint_changed.emit()

    @property
    def predictor(self) -> Predictor | None:
        """The loaded network of the current checkpoint and device, once there is one."""
        return self._predictor if self._tried == self._wanted else None

    @property
    def failed(self) -> bool:
        """Whether loading the network of the current checkpoint on the current device was tried in vain."""
        return self._predictor is None and self._tried == self._wanted

    def use(self, predictor: Predictor | None, checkpoint: Checkpoint, device: str) -> None:
        """Take a loaded network into use, None if it could not be loaded, for a device as it was asked for."""
        self._predictor, self._tried = predictor, (checkpoint.card.weights_sha256, device)
        self.predictor_changed.emit()

    @property
    def _wanted(self) -> tuple[str, str]:
        return (self._checkpoint.card.weights_sha256 if self._checkpoint else "", self.device)

    def refresh_checkpoints(self, choose: str | None = None) -> None:
        """Look for checkpoints again, and choose one by name; else keep the choice, or take the version in use."""
        self.damaged = []
        self.checkpoints = list_checkpoints(self.damaged)
        wanted = choose or (self._checkpoint.name if self._checkpoint else None)
        self.checkpoints_changed.emit()
        named = next((found for found in self.checkpoints if found.name == wanted), None)
        self.checkpoint = named or (chosen(self.checkpoints, read_marks(user_folder())) if self.checkpoints else None)

    def _layers_changed(self, event: Any = None) -> None:
        present = set(self.images)
        for image in [image for image in self._cases if image not in present]:
            self._cases.pop(image).close()
        before = self._image
        if before not in present:
            self._image = self.images[-1] if present else None
        self.images_changed.emit()
        if self._image != before:
            self.image_changed.emit()
        if event is not None and event.type == "inserted":
            self._welcome(event.value)

    def _welcome(self, layer: Any) -> None:
        """A new scan becomes the current one; labels of the scan's shape get its geometry, a saved mask its place."""
        if _is_scan(layer):
            layer.events.name.connect(self._renamed)
            self.image = layer
            return
        case = self.case
        if not isinstance(layer, Labels) or case is None or "record" in layer.metadata.get(KEY, {}):
            return
        if KEY not in layer.metadata:
            lend_geometry(layer, case.image)
        elif case.mask is None and belongs(layer, case.image):
            case.adopt(layer)

    def _renamed(self, event: Any = None) -> None:
        self.images_changed.emit()

    def _selected(self, event: Any = None) -> None:
        active = self.viewer.layers.selection.active
        if active is not None and _is_scan(active):
            self.image = active


def _is_scan(layer: Any) -> bool:
    return isinstance(layer, Image) and "record" not in layer.metadata.get(KEY, {})
