"""Texts of the command line as values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

Number = TypeVar("Number", int, float)
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]


Series = Annotated[
    int | None, typer.Option("--series", min=1, help="Which series, from 1, of DICOM folders that hold several.")
]


def of_series(images: Sequence[Path], series: int | None) -> list[Path]:
    """Paths that name one series of each folder, see `data.read_volume`."""
    if series is None:
        return list(images)
    whole = [image if image.name else image.resolve() for image in images]  # such as "."
    return [image.with_name(f"{image.name}#{series}") for image in whole]


def check_order(as_json: bool) -> None:
    """Refuse an option that stands before the command it is meant for."""
    if as_json:
        raise typer.BadParameter("give --json after the command.")


def parse_axes(text: str) -> tuple[int, ...]:
    """Letters of z, y and x as axes counted from the last."""
    if set(text) - set("zyx"):
        raise typer.BadParameter(f"{text!r} is not made of the axes z, y and x.")
    return tuple("zyx".index(axis) - 3 for axis in text)


def parse_triple(text: str, kind: Callable[[str], Number]) -> tuple[Number, Number, Number]:
    """``Z,Y,X`` as three numbers."""
    try:
        z, y, x = (kind(part) for part in text.split(","))
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not Z,Y,X.") from error
    return z, y, x


def parse_numbers(text: str) -> tuple[float, ...]:
    """Numbers with commas between."""
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is not numbers with commas between.") from error


def parse_window(text: str) -> tuple[float, float]:
    """``LOW,HIGH`` as it is, or the limits of a CT window by its name."""
    from napari_medattn.data import ct_window

    if "," not in text:
        return ct_window(text.strip())
    found = parse_numbers(text)
    if len(found) != 2 or found[0] >= found[1]:
        raise typer.BadParameter(f"{text!r} is not LOW,HIGH.")
    return found[0], found[1]


def parse_options(texts: Sequence[str] | None) -> dict[str, Any]:
    """``NAME=VALUE`` texts as a network's options.

    Values are read as whole numbers, numbers, true or false, lists of them with commas between, or else text.
    """
    options = {}
    for text in texts or []:
        name, found, value = text.partition("=")
        if not found:
            raise typer.BadParameter(f"{text!r} is not NAME=VALUE.")
        options[name] = [_value(part) for part in value.split(",")] if "," in value else _value(value)
    return options


def _value(text: str) -> int | float | bool | str:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
