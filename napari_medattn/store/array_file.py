"""Arrays with a card in one compressed file, which `numpy.load` reads as well.

A zip archive: ``card.json``, then one ``NAME.npy`` for each array. The card, which tells type and shape of the arrays,
is read without them. Every part has a check sum, so damage is noticed.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from napari_medattn.errors import ExampleError
from napari_medattn.files import atomic_write

_CARD = "card.json"
_LAYOUT = 1
_QUICK = 1  # zlib level
_CHUNK = 2**24  # bytes that are handled at a time
_LARGEST_CARD = 2**24  # bytes
_UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    OSError,
    EOFError,
    KeyError,
    TypeError,
    ValueError,
    RuntimeError,
    NotImplementedError,
)
Arrays = Mapping[str, NDArray[Any]]


def write_steps(path: Path, card: Mapping[str, Any], arrays: Arrays) -> Generator[int, None, None]:
    """Write a file whole or not at all; yields bytes as they are dealt with, and may be left between two.

    Raises:
        SaveError: If it cannot be written.
    """
    told = {name: {"dtype": _order(array).str, "shape": list(array.shape)} for name, array in arrays.items()}
    text = json.dumps({"layout": _LAYOUT, **card, "arrays": told}, ensure_ascii=False, indent=1)
    with (
        atomic_write(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED, compresslevel=_QUICK) as archive,
    ):
        archive.writestr(_CARD, text)
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                file.write(_npy_header(_order(array), array.shape))
                for part in chunks(array):
                    file.write(part.data)
                    yield part.nbytes


def read_card(path: Path) -> dict[str, Any]:
    """The card of a file, its arrays left alone.

    Raises:
        ExampleError: If it is gone, damaged, or of a later layout.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo(_CARD).file_size > _LARGEST_CARD:
                raise ValueError("its card is too large")
            card = json.loads(archive.read(_CARD))
            layout = card["layout"]
            if layout == _LAYOUT:
                for name in card["arrays"]:
                    archive.getinfo(f"{name}.npy")
    except _UNREADABLE as error:
        raise damaged(path, error) from error
    if layout != _LAYOUT:
        raise ExampleError(
            f"{path.name} has the layout {layout}, this version reads {_LAYOUT}.", "Update napari-medattn."
        )
    return dict(card)


def is_whole(path: Path) -> bool:
    """Whether a file is there and all its check sums are right; reads it part by part."""
    try:
        read_card(path)
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (ExampleError, *_UNREADABLE):
        return False


def read_array(path: Path, card: Mapping[str, Any], name: str) -> NDArray[Any]:
    """One array of a file, in the machine's byte order.

    Raises:
        ExampleError: If it is damaged.
    """
    try:
        told = card["arrays"][name]
        array = np.empty(tuple(told["shape"]), np.dtype(told["dtype"]))
        header = _npy_header(array.dtype, array.shape)
        with zipfile.ZipFile(path) as archive, archive.open(f"{name}.npy") as file:
            if file.read(len(header)) != header:
                raise ValueError("an array is not what the card says")
            flat = array.reshape(-1).view(np.uint8)
            for at in range(0, flat.size, _CHUNK):
                part = flat[at : at + _CHUNK]
                data = file.read(part.size)
                if len(data) != part.size:
                    raise ValueError("an array breaks off")
                part[:] = np.frombuffer(data, np.uint8)
            if file.read(1):  # reading up to the end also holds the check sum against what was read
                raise ValueError("an array is longer than the card says")
    except (*_UNREADABLE, MemoryError) as error:
        raise damaged(path, error) from error
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def chunks(array: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """An array part by part in C order, little-endian; copies a part at a time where it must, never the whole."""
    order = _order(array)
    if array.nbytes > _CHUNK and array.ndim > 1:
        rows = max(1, _CHUNK // max(1, array[:1].nbytes))
        for at in range(0, len(array), rows):
            part = array[at : at + rows]
            yield from chunks(part[0]) if rows == 1 else (np.ascontiguousarray(part, order),)
    else:
        yield np.ascontiguousarray(array, order)


def damaged(path: Path, error: BaseException) -> ExampleError:
    """The error for a file that cannot be read."""
    reason = (error.strerror or str(error)).lower() if isinstance(error, OSError) else str(error)
    return ExampleError(
        f"The stored example {path.name} cannot be read ({reason or type(error).__name__}).",
        "Add that case again, or delete the file.",
    )


def _order(array: NDArray[Any]) -> np.dtype[Any]:
    return array.dtype.newbyteorder("<")


def _npy_header(dtype: np.dtype[Any], shape: tuple[int, ...]) -> bytes:
    """What stands before the values in a ``.npy`` file."""
    file = io.BytesIO()
    fields = {"descr": dtype.str, "fortran_order": False, "shape": tuple(int(size) for size in shape)}
    np.lib.format.write_array_header_1_0(file, fields)
    return file.getvalue()
