"""What sub-commands share: progress in the terminal, and results for people or for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Generator, Iterable
from typing import Any, TypeVar

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress as Bars, TextColumn

from napari_medattn.errors import MedAttnError
from napari_medattn.events import Progress, TrainingStep, Validation, for_people

Result = TypeVar("Result")
console = Console(stderr=True)


def run(steps: Generator[Any, None, Result]) -> Result:
    """Drive a core generator to its end, showing where it is; Ctrl+C closes it cleanly."""
    with Bars(
        TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[note]}"), console=console
    ) as bars:
        task = bars.add_task("starting", total=None, note="")
        try:
            while True:
                _show(bars, task, next(steps))
        except StopIteration as stop:
            bars.update(task, completed=bars.tasks[task].total or 1, total=bars.tasks[task].total or 1, note="")
            return stop.value  # type: ignore[no-any-return]
        finally:
            steps.close()


def _show(bars: Bars, task: Any, event: object) -> None:
    if isinstance(event, TrainingStep):
        _show_progress(bars, task, event.progress, f"epoch {event.epoch}, loss {event.loss:.3f}")
    elif isinstance(event, Validation):
        scores = ", ".join(f"{name} {dice:.4f}" for name, dice in event.dice.items())
        bars.console.print(f"epoch {event.epoch}: held-out Dice {event.mean_dice:.4f} ({scores})")
    elif isinstance(event, Progress):
        _show_progress(bars, task, event, "")


def _show_progress(bars: Bars, task: Any, progress: Progress, note: str) -> None:
    left = progress.seconds_left
    parts = [f"{progress.done}/{progress.total} {progress.unit}" if progress.total else "", note]
    if left is not None:
        parts.append(f"{for_people(left)} left")
    bars.update(
        task,
        description=progress.stage,
        completed=progress.done,
        total=progress.total or None,
        note=", ".join(part for part in parts if part),
    )


def say_error(error: MedAttnError) -> None:
    """One sentence and its remedy on standard error."""
    console.print(f"[red]medattn:[/red] {escape(str(error))}", highlight=False, soft_wrap=True)


def say_notes(notes: Iterable[str]) -> None:
    """What had to be decided, one line each, on standard error."""
    for note in notes:
        console.print(f"note: {note}", highlight=False, soft_wrap=True)


def print_json(data: Any) -> None:
    """Plain JSON on standard output, for programs."""
    json.dump(data, sys.stdout, indent=1, ensure_ascii=False)
    sys.stdout.write("\n")
