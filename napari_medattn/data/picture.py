"""Pictures (.png, .jpg, .bmp): 2-D images, and 2-D masks as PNG.

A palette gives colours to an image and numbers to a mask: masks are often stored so. An opacity that is the same
everywhere says nothing and is left out.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medattn.data.reading import (
    DEFLATE_LIMIT,
    check_claim,
    check_memory,
    file_size,
    plain_grid,
    reading,
    without_alpha,
)
from napari_medattn.data.sidecar import facts_beside, grid_of
from napari_medattn.data.volume import Volume
from napari_medattn.errors import ReadError, SaveError

_MAGIC = {b"\x89PNG": "png", b"\xff\xd8": "jpeg", b"BM": "bmp"}
_FACTS = "medattn"  # the text chunk of a PNG that keeps what we say about a mask
_TEXT_LIMIT = 1 << 16


def read(path: Path) -> Volume:
    """Read a picture; see `formats.read_volume`."""
    return _read(path, as_labels=False)


def read_indices(path: Path) -> Volume:
    """Read a picture as a mask: numbers of a palette are labels."""
    return _read(path, as_labels=True)


def write_labels(path: Path, labels: NDArray[np.generic], like: Volume, class_names: Sequence[str] = ()) -> None:
    """Write (1, Y, X) labels as a grey PNG; see `formats.write_labels`."""
    from PIL import Image, PngImagePlugin

    if len(labels) != 1:
        raise SaveError(
            f"A PNG holds one slice, the mask of {like.name} has {len(labels)}.", "Save it as .tif or .nii.gz."
        )
    if labels.dtype.itemsize > 2:
        raise SaveError(f"A PNG cannot hold the label {labels.max()}.", "Save the mask as .tif.")
    about: dict[str, Any] = {
        "class_names": list(class_names),
        "affine": like.grid.affine.tolist(),
        "unit": like.grid.units,
        "oriented": like.grid.oriented,
    }
    text = PngImagePlugin.PngInfo()
    text.add_text(_FACTS, json.dumps(about))
    Image.fromarray(np.ascontiguousarray(labels[0])).save(path, "PNG", pnginfo=text)


def _read(path: Path, *, as_labels: bool) -> Volume:
    with reading(path, "a picture"):
        values, facts = _decode(path, as_labels)
        array = values[None, None] if values.ndim == 2 else np.moveaxis(values, -1, 0)[:, None]
        array, notes = without_alpha(array)
        facts = {**facts_beside(path, path.stem), **facts}
        shape = (1, array.shape[2], array.shape[3])
        names = facts.get("class_names", ())
        return Volume(
            array,
            grid_of(facts, shape) or plain_grid(shape, None),
            spatial_dims=2,
            path=path,
            class_names=tuple(str(name) for name in names) if isinstance(names, list) else (),
            notes=notes,
        )


def _decode(path: Path, as_labels: bool) -> tuple[NDArray[Any], dict[str, Any]]:
    """(Y, X) or (Y, X, C) values, and what the file says about itself."""
    with path.open("rb") as file:
        start = file.read(4)
    kind = next((name for magic, name in _MAGIC.items() if start.startswith(magic)), None)
    if kind is None:
        raise ReadError(f"{path.name} is no PNG, JPEG or BMP picture.", "Check its suffix, or copy it again.")
    with _open(path, kind) as image:
        width, height = image.size
        check_claim(path, (height, width), 1, file_size(path), DEFLATE_LIMIT * 8)  # down to one bit a pixel
        check_memory(path, 8.0 * width * height * max(1, len(image.getbands())))
        if kind == "png" and image.mode in ("RGB", "RGBA", "LA"):
            import imagecodecs

            return imagecodecs.png_decode(path.read_bytes()), _facts(image)  # all 16 bits, where there are as many
        colours = "RGBA" if "transparency" in image.info else "RGB"
        convert = image.mode in ("CMYK", "YCbCr", "LAB", "HSV") or (image.mode == "P" and not as_labels)
        values = np.array(image.convert(colours) if convert else image)
        return values.astype(np.uint8) if values.dtype == bool else values, _facts(image)


def _open(path: Path, kind: str) -> Any:
    """The image, its pixels unread. Pillow's own `open` refuses large images whatever memory there is."""
    from PIL import BmpImagePlugin, JpegImagePlugin, PngImagePlugin

    makers: dict[str, Any] = {
        "png": PngImagePlugin.PngImageFile,
        "jpeg": JpegImagePlugin.JpegImageFile,
        "bmp": BmpImagePlugin.BmpImageFile,
    }
    return makers[kind](path)


def _facts(image: Any) -> dict[str, Any]:
    text = image.info.get(_FACTS, "")
    try:
        found = json.loads(text[:_TEXT_LIMIT]) if isinstance(text, str) and text else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
