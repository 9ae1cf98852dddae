"""What can go wrong, said in one sentence that ends with what to do about it.

Every error that a user can cause derives from `MedAttnError`; widgets and the command line show
``str(error)`` and nothing else, so the text must stand on its own.
"""

from __future__ import annotations


class MedAttnError(Exception):
    """A problem with a remedy.

    Args:
        problem: What is wrong, naming the file, argument or value.
        remedy: What the reader can do about it.
    """

    def __init__(self, problem: str, remedy: str) -> None:
        self.problem = problem.rstrip()
        self.remedy = remedy.rstrip()
        super().__init__(problem, remedy)

    def __str__(self) -> str:
        return f"{self.problem} {self.remedy}"


class ReadError(MedAttnError):
    """A file cannot be read as an image."""


class SaveError(MedAttnError):
    """A file cannot be written; nothing half-written is left behind."""


class GeometryError(MedAttnError):
    """Arrays or grids that should lie on each other do not."""


class InputError(MedAttnError):
    """An image, option or argument does not fit what it is used for."""


class ModelError(MedAttnError):
    """An unknown network, an option it does not have, or weights of another network."""


class CheckpointError(MedAttnError):
    """A checkpoint that is missing, damaged or made for something else."""


class JournalError(MedAttnError):
    """A journal of edits that is damaged, in use elsewhere, or of another scan."""


class ExampleError(MedAttnError):
    """A stored example that is damaged, missing, or of a later layout."""


class DeviceError(MedAttnError):
    """The requested device is not there."""


class TrainingError(MedAttnError):
    """Training cannot start or had to stop."""


class DivergenceError(TrainingError):
    """The loss or its gradient is no longer a number."""
