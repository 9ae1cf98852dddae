"""The ``medattn`` command: one sub-command per file."""

from __future__ import annotations

import sys

import typer

from napari_medattn._version import __version__
from napari_medattn.cli import (
    attention,
    bench,
    checkpoints,
    cohort,
    demo,
    doctor,
    evaluate,
    examples,
    finetune,
    import_weights,
    models,
    predict,
    train,
)
from napari_medattn.cli.terminal import console, say_error
from napari_medattn.errors import MedAttnError

app = typer.Typer(
    name="medattn",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("demo")(demo.demo)
app.command("models")(models.models)
app.add_typer(checkpoints.app, name="checkpoints")
app.add_typer(examples.app, name="examples")
app.command("predict")(predict.predict)
app.command("cohort")(cohort.cohort)
app.command("attention")(attention.attention)
app.command("train")(train.train)
app.command("finetune")(finetune.finetune)
app.command("evaluate")(evaluate.evaluate)
app.command("import-weights")(import_weights.import_weights)
app.command("bench")(bench.bench)
app.command("doctor")(doctor.doctor)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def medattn(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Show the version."),
) -> None:
    """Segment medical volumes with attention networks, see where they look, and train them."""


def main() -> None:
    """Run the command line; exit status 0 is success, 1 a problem with the data, 2 a wrong call."""
    try:
        app()
    except MedAttnError as error:
        say_error(error)
        sys.exit(1)
    except KeyboardInterrupt:
        console.print("Stopped.")
        sys.exit(1)
