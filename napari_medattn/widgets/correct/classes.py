"""`Classes`: what a person calls the labels of a mask and how they are shown; no voxel is touched by any of it.

All of it lives in the layer's metadata, so that it survives a closed dock. Names go into saved files.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from napari.layers import Labels
from napari.utils.colormaps import DirectLabelColormap

from napari_medattn.errors import InputError
from napari_medattn.layerdata import KEY
from napari_medattn.palette import class_colour

_OTHER = "#999999"


class Classes:
    """The classes of one mask; the label 0 is the background and none of them.

    Args:
        mask: A Labels layer that carries class names.
    """

    def __init__(self, mask: Labels) -> None:
        self.mask = mask

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the labels from 0."""
        return tuple(self._meta["class_names"])

    @property
    def order(self) -> tuple[int, ...]:
        """The labels above 0 in the order in which a person wants to see them."""
        chosen = [n for n in self._meta.get("order", ()) if 0 < n < len(self.names)]
        return (*chosen, *(n for n in range(1, len(self.names)) if n not in chosen))

    @property
    def hidden(self) -> frozenset[int]:
        """Labels that are not drawn."""
        return frozenset(self._meta.get("hidden", ()))

    def name(self, label: int) -> str:
        """A label's name; labels that nobody named have one too."""
        return self.names[label] if 0 <= label < len(self.names) else f"label {label}"

    def colour(self, label: int) -> str:
        """A label's colour as ``#rrggbb``, hidden or not."""
        return str(self._meta.get("colours", {}).get(label, class_colour(label)))

    def add(self, name: str) -> int:
        """Add a class without voxels.

        Returns:
            Its label.

        Raises:
            InputError: If the name is empty or taken.
        """
        name, number = self._free(name), len(self.names)
        self._rename((*self.names, name))
        self._draw()
        return number

    def rename(self, label: int, name: str) -> None:
        """Call a label something else; one that had no name yet becomes a class, with those below it.

        Raises:
            InputError: If the name is empty or taken, or the label can be no class.
        """
        if label < 1:
            raise InputError(f"The label {label} is no class.", "Rename labels above 0.")
        if label < len(self.names) and name.strip() == self.names[label]:
            return
        names = [*self.names, *(f"label {n}" for n in range(len(self.names), label + 1))]
        names[label] = self._free(name)
        self._rename(names)
        self._draw()

    def move(self, label: int, by: int) -> None:
        """Show a class further up (< 0) or down in the table."""
        order = list(self.order)
        at = order.index(label)
        order.insert(min(max(at + by, 0), len(order) - 1), order.pop(at))
        self._note(order=tuple(order))

    def paint(self, label: int, colour: str) -> None:
        """Give a class a colour, ``#rrggbb``."""
        self._note(colours={**self._meta.get("colours", {}), label: colour})
        self._draw()

    def show(self, label: int, on: bool) -> None:
        """Draw a class or leave it out; its voxels stay."""
        self._note(hidden=tuple(sorted(self.hidden - {label} if on else self.hidden | {label})))
        self._draw()

    def to_plain(self) -> dict[str, Any]:
        """Names, colours and order as plain data, for a journal."""
        colours = {str(label): colour for label, colour in self._meta.get("colours", {}).items()}
        return {"names": list(self.names), "colours": colours, "order": list(self.order)}

    def take(self, plain: Mapping[str, Any]) -> None:
        """Call and show the classes as `to_plain` says."""
        colours = {int(label): str(colour) for label, colour in plain["colours"].items()}
        self._rename(plain["names"])
        self._note(colours=colours, order=tuple(plain["order"]))
        self._draw()

    @property
    def _meta(self) -> dict[str, Any]:
        return self.mask.metadata[KEY]

    def _note(self, **what: Any) -> None:
        # A new dictionary, because duplicated layers share the old one.
        self.mask.metadata[KEY] = {**self._meta, **what}

    def _free(self, name: str) -> str:
        name = " ".join(name.split())
        if not name or name in self.names:
            said = f"There is a class {name} already." if name else "A class needs a name."
            raise InputError(said, "Choose another name.")
        return name

    def _rename(self, names: Iterable[str]) -> None:
        # Networks go on knowing the mask by the names that it came with.
        self._note(scheme=self._meta.get("scheme", self.names), class_names=tuple(names))
        self.mask.features = {"index": list(range(len(self.names))), "class": list(self.names)}

    def _draw(self) -> None:
        highest = max([len(self.names) - 1, *self.hidden, *self._meta.get("colours", {})])
        colours: dict[int | None, str] = {0: "transparent", None: _OTHER}
        colours |= {n: "transparent" if n in self.hidden else self.colour(n) for n in range(1, highest + 1)}
        self.mask.colormap = DirectLabelColormap(color_dict=colours)
