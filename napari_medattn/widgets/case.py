"""`Case`: an image layer with the mask, the edits and the attention maps that belong to it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from app_model.types import KeyCode, KeyMod
from napari.components import ViewerModel
from napari.layers import Image, Labels, Layer
from numpy.typing import NDArray
from psygnal import Signal

from napari_medattn.correct.apply import Admitted, admit
from napari_medattn.correct.proposal import Box, Proposal
from napari_medattn.errors import GeometryError, InputError
from napari_medattn.layerdata import (
    KEY,
    LayerData,
    Place,
    layer_place,
    layer_to_volume,
    lying_on,
    mask_to_layer,
)
from napari_medattn.store.edits import Edit
from napari_medattn.training.examples import Example
from napari_medattn.widgets.edit_watch import EditWatch

if TYPE_CHECKING:
    from napari_medattn.inference import Prediction, Predictor
    from napari_medattn.look import Scene

_UNDO, _REDO = KeyMod.CtrlCmd | KeyCode.KeyZ, KeyMod.CtrlCmd | KeyMod.Shift | KeyCode.KeyZ


class Case:
    """What has been made of one image layer in a viewer.

    Args:
        viewer: The viewer that the layers are added to.
        image: The image layer.
    """

    mask_changed = Signal()
    notice = Signal(str)  # a sentence for the person
    edits_changed = Signal()
    maps_changed = Signal()
    image_swapped = Signal()  # the layer shows another image

    def __init__(self, viewer: ViewerModel, image: Image) -> None:
        self.viewer, self.image = viewer, image
        self.mask: Labels | None = None
        self.watch: EditWatch | None = None
        self.uncertainty: Image | None = None
        self._masks: dict[tuple[str, ...], tuple[Labels, EditWatch]] = {}
        self.prediction: Prediction | None = None
        self.predictor: Predictor | None = None
        self.scene: Scene | None = None  # the scan before the network that is looked into, see `look.scenes`
        self.maps: dict[str, Image] = {}
        viewer.layers.events.removed.connect(self._removed)
        image.events.data.connect(self._swapped)

    def close(self) -> None:
        """Let go of the layers."""
        self.viewer.layers.events.removed.disconnect(self._removed)
        self.image.events.data.disconnect(self._swapped)
        for names in list(self._masks):
            self._let_go(names)

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the mask's classes."""
        return tuple(self.mask.metadata[KEY]["class_names"]) if self.mask is not None else ()

    @property
    def scheme(self) -> tuple[str, ...]:
        """Names by which networks know the mask's classes, whatever a person calls them and adds to them."""
        return _scheme(self.mask) if self.mask is not None else ()

    @property
    def masks(self) -> dict[tuple[str, ...], tuple[Labels, EditWatch]]:
        """All masks of the image with their watches, by their classes as networks know them."""
        return dict(self._masks)

    @property
    def edited(self) -> int:
        """Voxels that a person edited."""
        return self.watch.log.edited_count if self.watch else 0

    def show(self, prediction: Prediction, predictor: Predictor, *, keep_edits: bool = True) -> int:
        """Show a new prediction, as one undo step where there is a mask already.

        There is one mask per list of classes: a checkpoint of other classes does not touch what was corrected
        with this one, and finds its own mask again later.

        Args:
            prediction: What the network says.
            predictor: The network.
            keep_edits: Leave voxels alone that a person edited or confirmed.

        Returns:
            Number of voxels that were kept as the person had them although the network disagrees.
        """
        self.prediction, self.predictor = prediction, predictor
        data, kwargs, _ = mask_to_layer(prediction, self.image)
        names = tuple(prediction.class_names)
        if names in self._masks and self._masks[names][0].data.shape == data.shape:
            self._choose(names)
            return self._rewrite(prediction, keep_edits)
        layer = self.viewer.add_labels(data, **kwargs)
        layer.contour = 1
        self.adopt(layer)
        return 0

    def _rewrite(self, prediction: Prediction, keep_edits: bool) -> int:
        assert self.mask is not None
        new = prediction.labels if prediction.volume.spatial_dims == 3 else prediction.labels[0]
        box = (slice(None),) * new.ndim if prediction.box is None else prediction.box[-new.ndim :]
        everywhere = np.broadcast_to(np.True_, new[box].shape)
        admitted = self.apply(Proposal(box, new[box], everywhere, "segment"), over_trusted=not keep_edits)
        self.mask.metadata[KEY] = {**self.mask.metadata[KEY], "record": dict(prediction.record)}
        self.mask_changed.emit()
        return admitted.kept

    def apply(self, proposal: Proposal, *, over_trusted: bool = False) -> Admitted:
        """Change the mask as a tool proposes, as one undo step.

        Args:
            proposal: What the tool would change.
            over_trusted: Also change what a person edited or confirmed, because it was asked for.

        Returns:
            What was changed, and how many voxels were left alone and why.

        Raises:
            GeometryError: If there is no mask, or the proposal does not lie in it.
            InputError: If the mask's type cannot hold its labels.
        """
        if self.mask is None or self.watch is None:
            raise GeometryError(f"{self.image.name} has no mask yet.", "Press Segment first.")
        self.watch.flush()
        log, labels = self.watch.log, self.watch.labels
        log.reconcile(labels)
        admitted = admit(proposal, labels, log, over_trusted=over_trusted)
        if admitted.edit is not None:
            self.watch.write(admitted.edit)
        return admitted

    def undo(self) -> None:
        """Take the mask's newest step back, and say which one it was."""
        self._step_back(lambda watch: watch.undo(), "Undone")

    def redo(self) -> None:
        """Bring the step undone last again, and say which one it was."""
        self._step_back(lambda watch: watch.redo(), "Done again")

    def _step_back(self, move: Callable[[EditWatch], Edit | None], word: str) -> None:
        if self.watch is None:
            return
        try:
            edit = move(self.watch)
        except InputError as error:
            self.notice.emit(str(error))
            return
        if edit is not None:
            self.notice.emit(f"{word}: {edit.tool}, {edit.count:,} voxel{'' if edit.count == 1 else 's'}.")

    def lock(self, classes: Iterable[int]) -> None:
        """Lock these classes of the mask and no others: their voxels stay what they are, whoever paints or runs."""
        if self.watch is not None:
            self.watch.log.lock(classes)
            self.edits_changed.emit()

    @property
    def locked(self) -> frozenset[int]:
        """The locked classes."""
        return self.watch.log.locked_classes if self.watch else frozenset()

    def _refused(self, count: int) -> None:
        self.notice.emit(f"{count:,} voxel{'' if count == 1 else 's'} left alone: their class is locked.")

    def put_map(self, key: str, layer_data: LayerData) -> Image:
        """Show one site's map in a new layer below the mask."""
        data, kwargs, _ = layer_data
        active = self.viewer.layers.selection.active
        self.maps[key] = layer = self.viewer.add_image(data, **kwargs)
        layer.events.visible.connect(self._map_toggled)
        self._keep_mask_on_top()
        self.viewer.layers.selection.active = active
        self.maps_changed.emit()
        return layer

    def _map_toggled(self, event: Any = None) -> None:
        self.maps_changed.emit()

    def _keep_mask_on_top(self) -> None:
        """A mask that lies below a map is hard to see, and to paint on."""
        layers = self.viewer.layers
        if self.mask is not None and self.mask in layers:
            layers.move(layers.index(self.mask), len(layers))

    def hide_map(self, key: str) -> None:
        """Hide one site's map."""
        if key in self.maps:
            self.maps[key].visible = False

    def show_uncertainty(self) -> None:
        """Show the prediction's uncertainty, if it has one, in the place of an earlier one."""
        if self.prediction is None or self.prediction.uncertainty is None:
            return
        values = self.prediction.uncertainty
        data = values if self.prediction.volume.spatial_dims == 3 else values[0]
        meta = {"kind": "uncertainty", "record": dict(self.prediction.record)}
        if self.uncertainty is not None:
            self.uncertainty.data = data
            self.uncertainty.metadata[KEY] = meta
            return
        active = self.viewer.layers.selection.active
        self.uncertainty = self.viewer.add_image(
            data,
            name=f"{self.image.name} uncertainty",
            colormap="magma",
            contrast_limits=(0, 1),
            opacity=0.6,
            projection_mode="none",
            metadata={KEY: meta},
            **lying_on(self.image, data.ndim),
        )
        self._keep_mask_on_top()
        self.viewer.layers.selection.active = active

    def vouched(self) -> tuple[NDArray[np.integer], NDArray[np.bool_]]:
        """Labels and which of them a person vouches for, (Z, Y, X), as they are now; later painting changes neither.

        Raises:
            GeometryError: If there is no mask.
        """
        if self.mask is None or self.watch is None:
            raise GeometryError(f"{self.image.name} has no mask yet.", "Press Segment first.")
        self.watch.log.reconcile(self.mask.data)
        labels, trusted = np.array(self.mask.data), self.watch.log.trusted(self.mask.data)
        return (labels, trusted) if labels.ndim == 3 else (labels[None], trusted[None])

    def example(self) -> Example:
        """What there is to learn from this case now; reads the image.

        Raises:
            GeometryError: If there is no mask.
        """
        labels, trusted = self.vouched()
        return Example(layer_to_volume(self.image), labels, trusted)

    def confirm_slice(self) -> bool:
        """Mark the slice in view as right, or take that back if it is; a 2-D image is one slice.

        Returns:
            Whether it is confirmed now.
        """
        return self.confirm(self.slice_in_view())

    def slice_is_confirmed(self) -> bool:
        """Whether all of the slice in view is confirmed."""
        return self.is_confirmed(self.slice_in_view())

    def confirm(self, box: Box) -> bool:
        """Mark the labels in a box of the mask as right, or take that back if all of it is; ``()`` is the whole mask.

        Returns:
            Whether it is confirmed now.
        """
        assert self.mask is not None and self.watch is not None
        self.watch.flush()
        now = not self.is_confirmed(box)
        self.watch.log.confirm(self.mask.data, box, now)
        self.edits_changed.emit()
        return now

    def is_confirmed(self, box: Box) -> bool:
        """Whether all of a box of the mask is confirmed."""
        assert self.mask is not None and self.watch is not None
        return bool(self.watch.log.confirmed(self.mask.data, box).all())

    def confirmed_slices(self) -> int:
        """How many slices along the axis in view are confirmed."""
        if self.watch is None or self.mask is None:
            return 0
        if self.mask.ndim == 2:
            return int(self.watch.log.confirmed(self.mask.data).all())
        return len(self.watch.log.confirmed_slices(self.mask.data, self.axis_in_view()))

    def axis_in_view(self) -> int:
        """The mask's axis that the viewer steps through."""
        assert self.mask is not None
        hidden = self.viewer.dims.order[: self.viewer.dims.ndim - 2]
        offset = self.viewer.dims.ndim - self.mask.ndim
        axes = [axis - offset for axis in hidden if axis >= offset]
        return axes[-1] if axes else 0

    def slice_in_view(self) -> Box:
        """The box of the mask that the viewer shows: one slice, or all of a 2-D mask."""
        assert self.mask is not None
        everything = [slice(None)] * self.mask.ndim
        if self.mask.ndim == 2:
            return tuple(everything)
        axis = self.axis_in_view()
        point = self.viewer.dims.point[-self.mask.ndim :]
        index = round(float(self.mask.world_to_data(point)[axis]))
        index = min(max(index, 0), self.mask.data.shape[axis] - 1)
        everything[axis] = slice(index, index + 1)
        return tuple(everything)

    def adopt(self, layer: Labels) -> None:
        """Take a labels layer that carries class names as this image's mask of those classes."""
        names = _scheme(layer)
        if names in self._masks:
            self._let_go(names)
        self._masks[names] = (layer, EditWatch(layer, self.edits_changed.emit, self._refused))
        for key, action in ((_UNDO, self.undo), (_REDO, self.redo)):
            layer.bind_key(key, _on_layer(action), overwrite=True)
        self._choose(names)

    def _let_go(self, names: tuple[str, ...]) -> None:
        layer, watch = self._masks.pop(names)
        watch.stop()
        for key in (_UNDO, _REDO):
            layer.bind_key(key, None)

    def _choose(self, names: tuple[str, ...] | None) -> None:
        """Make the mask of these classes the one that is worked on."""
        self.mask, self.watch = self._masks[names] if names is not None else (None, None)
        self.mask_changed.emit()
        self.edits_changed.emit()

    def _swapped(self, event: Any = None) -> None:
        """The layer shows another image now, of which no network has said anything yet."""
        self.scene = self.prediction = None
        self.maps_changed.emit()
        self.image_swapped.emit()

    def _removed(self, event: Any) -> None:
        # napari hands plugins proxies of layers, which equal the layer but are not identical to it.
        layer: Layer = event.value
        for names in [names for names, (mask, _) in self._masks.items() if mask == layer]:
            self._let_go(names)
            if self.mask == layer:
                self._choose(next(iter(self._masks), None))
        if self.uncertainty is not None and self.uncertainty == layer:
            self.uncertainty = None
        for key in [key for key, shown in self.maps.items() if shown == layer]:
            del self.maps[key]
            self.maps_changed.emit()


def _scheme(mask: Labels) -> tuple[str, ...]:
    meta = mask.metadata[KEY]
    return tuple(meta.get("scheme", meta["class_names"]))


def _on_layer(action: Callable[[], None]) -> Callable[[Labels], None]:
    """An action as napari calls it for a key."""

    def pressed(_layer: Labels) -> None:
        action()

    return pressed


def belongs(mask: Labels, image: Image) -> bool:
    """Whether a labels layer is a mask with class names that lies on an image."""
    meta = mask.metadata.get(KEY, {})
    place = _place(image)
    if place is None or not meta.get("class_names") or meta.get("grid") is None:
        return False
    same_shape = place.grid.shape[-mask.ndim :] == mask.data.shape
    made_from = meta.get("record", {}).get("image", image.name)
    return same_shape and place.grid.matches(meta["grid"]) and made_from == image.name


def lend_geometry(labels: Labels, image: Image) -> None:
    """Let labels that somebody drew on an image be saved with the image's geometry."""
    place = _place(image)
    if place is None or place.grid.shape[-labels.ndim :] != labels.data.shape:
        return
    if np.allclose(labels.scale, image.scale[-labels.ndim :]):
        labels.metadata[KEY] = {"grid": place.grid, "header": place.meta.get("header"), "class_names": ()}


def _place(image: Image) -> Place | None:
    """Where an image lies; None for one that cannot be segmented, and so has no masks."""
    try:
        return layer_place(image)
    except InputError:
        return None
