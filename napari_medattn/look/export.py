"""Maps as files: NIfTI or TIFF with the scan's exact geometry, matrices as CSV, each with its card beside it."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from napari_medattn.data import Volume
from napari_medattn.data.formats import VALUE_SUFFIXES, open_values
from napari_medattn.errors import InputError
from napari_medattn.events import Progress, run_to_end
from napari_medattn.files import atomic_write, make_folder
from napari_medattn.look.card import HONEST, card_of
from napari_medattn.look.placed_map import PlacedMap

Where = Literal["image", "network"]


def save_maps(
    maps: Iterable[PlacedMap],
    folder: Path | str,
    *,
    form: str = "nii.gz",
    grid: Where = "image",
    overwrite: bool = False,
) -> list[Path]:
    """Save maps, each with a JSON card beside it.

    Maps on the image are drawn slab by slab while they are written, so that no map has to fit into memory.

    Args:
        maps: From `attention_maps` or `placed`.
        folder: Where to; created if it does not exist.
        form: ``"nii.gz"``, ``"nii"`` or ``"tiff"``. All heads become the last axis in NIfTI and the first in TIFF.
            Channel attention, which has no place on the image, becomes a CSV table for each head instead.
        grid: ``"image"``: on the scan's own voxels. ``"network"``: on the grid on which the network has it, which is
            smaller; in NIfTI with an affine that puts it in the right place.
        overwrite: Replace files that are there.

    Returns:
        The files of the maps.

    Raises:
        InputError: If nothing is given, the format is unknown, or a file exists already.
        SaveError: If a file cannot be written; files are saved whole or not at all.
    """
    return run_to_end(save_maps_steps(list(maps), folder, form=form, grid=grid, overwrite=overwrite))


def save_maps_steps(
    maps: Sequence[PlacedMap],
    folder: Path | str,
    *,
    form: str = "nii.gz",
    grid: Where = "image",
    overwrite: bool = False,
) -> Generator[Progress, None, list[Path]]:
    """`save_maps` as a generator that can be left after every slab.

    Yields:
        Progress.
    """
    if not maps:
        raise InputError("There is no map to save.", "Choose at least one attention site.")
    check_format(form)
    folder = make_folder(Path(folder))
    if not overwrite:
        check_free(target_files(maps, folder, form))
    paths = [folder / name for name in file_names(maps, form)]
    began = time.monotonic()
    saved: list[Path] = []
    for number, (found, path) in enumerate(zip(maps, paths, strict=True)):
        yield Progress("saving", number, len(maps), "maps", time.monotonic() - began)
        if not found.site.spatial:
            saved += _save_matrices(found, path)
        elif grid == "network":
            _save_on_network_grid(found, path)
            saved.append(path)
        else:
            yield from _save_on_image(found, path)
            saved.append(path)
        _save_card(found, path, grid)
    yield Progress("saving", len(maps), len(maps), "maps", time.monotonic() - began)
    return saved


def target_files(maps: Sequence[PlacedMap], folder: Path, form: str = "nii.gz") -> list[Path]:
    """All files that `save_maps` will write, cards too."""
    named = zip(maps, file_names(maps, form), strict=True)
    return [file for found, name in named for file in _files(found, folder / name)]


def check_format(form: str) -> None:
    """Refuse a format that maps are not saved in.

    Raises:
        InputError: Naming those that are.
    """
    if f".{form}" not in VALUE_SUFFIXES:
        raise InputError(f"There is no format {form!r} for maps.", "Use nii.gz, nii, nrrd or tiff.")


def check_free(paths: Iterable[Path]) -> None:
    """Refuse to replace files.

    Raises:
        InputError: If one of them exists.
    """
    there = [path for path in paths if path.exists()]
    if there:
        more = f" and {len(there) - 1} more" if len(there) > 1 else ""
        raise InputError(f"{there[0]}{more} exists already.", "Choose another place, or ask to replace files.")


def file_names(maps: Sequence[PlacedMap], form: str = "nii.gz") -> list[str]:
    """A readable file name for each map; no two are the same."""
    names = [_name(found) for found in maps]
    counts = Counter(names)
    long = [
        name if counts[name] == 1 else f"{name}_{_plain(found.site.key)}"
        for name, found in zip(names, maps, strict=True)
    ]
    seen: Counter[str] = Counter()
    unique = []
    for name, found in zip(long, maps, strict=True):
        seen[name] += 1
        number = f"_{seen[name]}" if seen[name] > 1 else ""
        unique.append(f"{name}{number}.{form if found.site.spatial else 'csv'}")
    return unique


def _name(found: PlacedMap) -> str:
    parts = [_plain(found.source.name), _plain(found.site.title)]
    if found.asked is not None:
        word = {"to": "query", "from": "received", "through": "through"}[found.asked.direction]
        parts.append("-".join([word, *(str(at) for at in found.asked.voxel)]))
    if found.site.heads > 1:
        parts.append(f"head{found.heads + 1}" if isinstance(found.heads, int) else f"{found.heads}-heads")
    return "_".join(parts)


def _plain(text: str) -> str:
    """Letters, digits, dots and hyphens only."""
    return re.sub(r"[^\w.]+", "-", text).strip("-") or "map"


def _files(found: PlacedMap, path: Path) -> list[Path]:
    """All files that a map becomes."""
    return [*(_matrix_paths(found, path) if not found.site.spatial else [path]), _card_path(path)]


def _save_on_image(found: PlacedMap, path: Path) -> Generator[Progress, None, None]:
    z = found.source.grid.shape[0] * len(found.values)
    began, done = time.monotonic(), 0
    with open_values(path, found.source, _count(found), {"attention": card_of(found)}) as put:
        for slab in found.slabs():
            put(slab)
            done += len(slab)
            yield Progress(f"saving {found.site.title}", done, z, "slices", time.monotonic() - began)


def _save_on_network_grid(found: PlacedMap, path: Path) -> None:
    like = Volume(
        np.broadcast_to(np.uint8(0), (1, *found.network_grid.shape)),
        found.network_grid,
        name=found.source.name,
        spatial_dims=found.source.spatial_dims,
    )
    with open_values(path, like, _count(found), {"attention": card_of(found)}) as put:
        for head in found.on_network_grid():
            put(head)


def _count(found: PlacedMap) -> int | None:
    """Length of the file's axis of heads; none where there is one map."""
    return len(found.values) if len(found.values) > 1 else None


def _save_matrices(found: PlacedMap, path: Path) -> list[Path]:
    """One table per head: rows are the channels that attend, columns those attended to."""
    paths = _matrix_paths(found, path)
    for target, matrix in zip(paths, found.values[:, 0], strict=True):
        with atomic_write(target) as temporary:
            title = f"{found.title}: row = channel that attends, column = channel attended to. {HONEST}"
            np.savetxt(temporary, matrix, delimiter=",", fmt="%.7g", header=title, encoding="utf-8")
    return paths


def _matrix_paths(found: PlacedMap, path: Path) -> list[Path]:
    if len(found.values) == 1:
        return [path]
    return [path.with_name(f"{path.stem}_head{head + 1}.csv") for head in range(len(found.values))]


def _save_card(found: PlacedMap, path: Path, grid: Where) -> None:
    card: dict[str, Any] = {"files": [file.name for file in _files(found, path)[:-1]], **card_of(found)}
    if found.site.spatial:
        card["grid"] = "the image's own voxels" if grid == "image" else "the network's own grid"
        card["axes"] = _axes(found, path)
    with atomic_write(_card_path(path)) as temporary:
        temporary.write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _axes(found: PlacedMap, path: Path) -> str:
    """The file's axes in its own order."""
    several = len(found.values) > 1
    if path.name.endswith((".nii", ".nii.gz", ".nrrd")):
        return f"x, y{', z' if several or found.source.spatial_dims == 3 else ''}{', head' if several else ''}"
    return f"{'head, ' if several else ''}{'z, ' if found.source.spatial_dims == 3 else ''}y, x"


def _card_path(path: Path) -> Path:
    name = path.name
    ending = next((suffix for suffix in (*VALUE_SUFFIXES, ".csv") if name.endswith(suffix)), "")
    return path.with_name(f"{name[: len(name) - len(ending)]}.json")
