"""``medattn attention``: where a network looks on a scan, as files."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Column, Table

from napari_medattn.cli.options import Series, parse_triple
from napari_medattn.cli.terminal import console, print_json, run
from napari_medattn.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from napari_medattn.look import PlacedMap, Scene
    from napari_medattn.look.export import Where
    from napari_medattn.look.placed_map import Heads
    from napari_medattn.look.query import Direction
    from napari_medattn.models import AttentionSite


def attention(
    checkpoint: Annotated[str, typer.Option("--checkpoint", "-c", help="Name or path, see `medattn checkpoints`.")],
    image: Annotated[
        Path | None, typer.Argument(help="An image, or a folder of a DICOM series; not for --list.")
    ] = None,
    series: Series = None,
    site: Annotated[
        list[str] | None,
        typer.Option("--site", "-s", help="Key of an attention site, or 'all' (that can be asked); can be repeated."),
    ] = None,
    list_: Annotated[bool, typer.Option("--list", help="List the network's attention sites and stop.")] = False,
    head: Annotated[str, typer.Option(help="A head counted from 1, mean, or all.")] = "mean",
    query: Annotated[str, typer.Option(help="What a voxel Z,Y,X (from 0) attends to; or X,Y,Zmm in the world.")] = "",
    received: Annotated[bool, typer.Option("--received", help="With --query: who attends to the voxel.")] = False,
    through: Annotated[
        bool, typer.Option("--through", help="With --query: axial rows and columns composed, an approximation.")
    ] = False,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Save the maps and their cards here.")] = None,
    form: Annotated[str, typer.Option("--format", help="nii.gz, nii, nrrd or tiff.")] = "nii.gz",
    grid: Annotated[str, typer.Option(help="image: the scan's voxels. network: its own grid, smaller.")] = "image",
    sheet: Annotated[Path | None, typer.Option(help="Draw a contact sheet: PDF, PNG or SVG.")] = None,
    figure: Annotated[Path | None, typer.Option(help="Draw a figure of one slice: PDF, PNG or SVG.")] = None,
    slice_: Annotated[int | None, typer.Option("--slice", help="The figure's slice, counted from 0.")] = None,
    axis: Annotated[str, typer.Option(help="The axis that slices of sheet and figure cut: z, y or x.")] = "z",
    width: Annotated[float, typer.Option(min=40, max=1000, help="The figure's width in mm.")] = 183.0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda:N or mps.")] = "auto",
    precision: Annotated[str, typer.Option(help="fp32, or bf16: faster on some processors, nearly the same.")] = "fp32",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there already.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the sites, or files and cards, as JSON.")] = False,
) -> None:
    """Save where a network looks on IMAGE: maps with the scan's geometry, a contact sheet, a figure.

    Each map has a card beside it that says what its numbers mean. Attention is where a block looks, not why.
    """
    from napari_medattn.inference import Predictor
    from napari_medattn.store import load_checkpoint

    if list_:
        _print_sites(Predictor.load(load_checkpoint(checkpoint), "cpu").sites, as_json)
        return
    wish = _Wish(
        _heads(head), _axis(axis), slice_, query, _direction(query, received, through),
        out, form, _grid(grid), sheet, figure, width, overwrite,
    )  # fmt: skip
    wish.check(image, site)
    assert image is not None and site is not None
    predictor = Predictor.load(load_checkpoint(checkpoint), device, precision)
    from napari_medattn.data import read_volume
    from napari_medattn.look import Scene

    keys = _choose(predictor.sites, site, asked=bool(query))
    scene = Scene(read_volume(image, series), predictor)
    for note in scene.prepared.notes:
        console.print(f"note: {note}", highlight=False)
    files, maps = _save(scene, keys, wish)
    if as_json:
        from napari_medattn.look.card import card_of

        print_json({"files": [str(file) for file in files], "maps": [card_of(found) for found in maps]})
    else:
        for file in files:
            console.print(f"Saved {file}", highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class _Wish:
    """What was asked for on the command line."""

    heads: Heads
    axis: int
    index: int | None
    query: str
    direction: Direction
    out: Path | None
    form: str
    grid: Where
    sheet: Path | None
    figure: Path | None
    width: float
    overwrite: bool

    def check(self, image: Path | None, sites: Sequence[str] | None) -> None:
        """Refuse what cannot be done, before any work."""
        from napari_medattn.look.export import check_format, check_free
        from napari_medattn.look.picture import check_suffix

        if image is None:
            raise typer.BadParameter("Give an IMAGE, or --list to see the sites.")
        if not sites:
            raise typer.BadParameter("Give at least one --site KEY or --site all; --list shows them.")
        pictures = [path for path in (self.sheet, self.figure) if path is not None]
        if self.out is None and not pictures:
            raise typer.BadParameter("Say what to make of the maps: --out FOLDER, --sheet FILE or --figure FILE.")
        check_format(self.form)
        for path in pictures:
            check_suffix(path)
        if not self.overwrite:
            check_free(pictures)


def _save(scene: Scene, keys: list[str], wish: _Wish) -> tuple[list[Path], list[PlacedMap]]:
    """Make the maps and everything that was asked for of them."""
    from napari_medattn.files import make_folder
    from napari_medattn.look import attention_figure, contact_sheet
    from napari_medattn.look.export import check_free, save_maps_steps, target_files
    from napari_medattn.look.overview import blank_maps
    from napari_medattn.look.plane import Plane

    voxel = _voxel(scene, wish.query) if wish.query else None
    if wish.index is not None:
        Plane.of(scene.volume, wish.axis, wish.index)  # is there such a slice?
    blanks = blank_maps(scene, keys, wish.heads, voxel, wish.direction)
    if wish.out is not None and not wish.overwrite:
        check_free(target_files(blanks, wish.out, wish.form))
    maps, labels, names = _make(scene, keys, wish, voxel)
    files: list[Path] = []
    if wish.out is not None:
        files += run(save_maps_steps(maps, wish.out, form=wish.form, grid=wish.grid, overwrite=wish.overwrite))
    for path in (wish.sheet, wish.figure):
        if path is not None:
            make_folder(path.parent)
            files.append(path)
    if wish.sheet is not None:
        contact_sheet(maps, wish.sheet, labels=labels, axis=wish.axis)
    if wish.figure is not None:
        attention_figure(
            maps, wish.figure, labels=labels, class_names=names, axis=wish.axis, index=wish.index, width=wish.width
        )
    return files, maps


def _make(
    scene: Scene, keys: list[str], wish: _Wish, voxel: tuple[float, float, float] | None
) -> tuple[list[PlacedMap], NDArray[Any] | None, tuple[str, ...]]:
    """The maps, and the mask on as much of the scan as the pictures need; no more of the scan is run than that."""
    from napari_medattn.look.overview import answers_steps, overview_steps
    from napari_medattn.look.plane import Plane

    if voxel is not None:
        maps = run(answers_steps(scene, keys, voxel, direction=wish.direction, heads=wish.heads))
        if wish.sheet is None and wish.figure is None:
            return maps, None, ()
        asked = round(voxel[wish.axis])
        box = Plane.of(scene.volume, wish.axis, asked).box if wish.index in (None, asked) else None
        seen = run(overview_steps(scene, [], box=box))
        return maps, seen.labels, seen.class_names
    box = None
    if wish.out is None and wish.sheet is None and wish.index is not None:
        box = Plane.of(scene.volume, wish.axis, wish.index).box
    found = run(overview_steps(scene, keys, box=box, heads=wish.heads))
    return list(found.maps.values()), found.labels, found.class_names


def _choose(sites: Mapping[str, AttentionSite], wanted: Sequence[str], *, asked: bool) -> list[str]:
    """Keys of known sites, each once; with a query, all are those that have an answer."""
    from napari_medattn.look.query import can_ask

    for key in wanted:
        if key not in sites and key != "all":
            near = difflib.get_close_matches(key, sites, n=3, cutoff=0.4)
            hint = f"Did you mean {' or '.join(near)}?" if near else "`--list` shows the sites that it has."
            raise InputError(f"The network has no attention site {key!r}.", hint)
    if "all" in wanted:
        return [key for key, site in sites.items() if not asked or can_ask(site) or key in wanted] or list(sites)
    return list(dict.fromkeys(wanted))


def _heads(text: str) -> Heads:
    named: dict[str, Heads] = {"mean": "mean", "all": "all"}
    if text in named:
        return named[text]
    if not text.isdigit() or int(text) < 1:
        raise typer.BadParameter(f"{text!r} is not mean, all, or a head counted from 1.")
    return int(text) - 1


def _axis(text: str) -> int:
    if text not in ("z", "y", "x"):
        raise typer.BadParameter(f"{text!r} is not z, y or x.")
    return "zyx".index(text)


def _grid(text: str) -> Where:
    named: dict[str, Where] = {"image": "image", "network": "network"}
    if text not in named:
        raise typer.BadParameter(f"{text!r} is not image or network.")
    return named[text]


def _direction(query: str, received: bool, through: bool) -> Direction:
    if (received or through) and not query:
        raise typer.BadParameter("--received and --through go with a --query.")
    if received and through:
        raise typer.BadParameter("Give --received or --through, not both.")
    return "from" if received else "through" if through else "to"


def _voxel(scene: Scene, text: str) -> tuple[float, float, float]:
    """A voxel Z,Y,X, or the one at world coordinates X,Y,Zmm."""
    if not text.endswith("mm"):
        z, y, x = parse_triple(text, int)
        return float(z), float(y), float(x)
    if scene.volume.grid.units != "mm":
        raise InputError(f"{scene.volume.name} does not say how large its voxels are.", "Give the query as Z,Y,X.")
    return scene.volume.grid.to_voxel(parse_triple(text.removesuffix("mm"), float))


def _print_sites(sites: Mapping[str, AttentionSite], as_json: bool) -> None:
    from napari_medattn.look.query import can_ask

    if as_json:
        print_json(
            [
                {
                    "key": site.key,
                    "title": site.title,
                    "kind": site.kind,
                    "legend": site.legend,
                    "heads": site.heads,
                    "stride": list(site.stride),
                    "comparable_across_tiles": site.comparable_across_tiles,
                    "query": can_ask(site),
                }
                for site in sites.values()
            ]
        )
        return
    # A key that is cut off cannot be given back to --site.
    table = Table(Column("key", no_wrap=True, overflow="fold"), "site", "kind", "heads", "one value per", "query")
    for site in sites.values():
        grid = " x ".join(str(step) for step in site.stride) + " voxels" if site.spatial else "channel pair"
        kind = f"{site.normalisation} {site.kind}"
        table.add_row(site.key, site.title, kind, str(site.heads), grid, "yes" if can_ask(site) else "")
    Console().print(table)
