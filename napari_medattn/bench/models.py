"""``medattn bench models``: what the networks cost beside their authors' code.

The authors' costs were measured once with their own code, float32, batch 1, two threads, and are kept in yards (see
`yardstick`), so that they compare with any machine. Noise: the same code measured twice differs by 10 to 40 % on a
shared machine.
"""

from __future__ import annotations

import sys
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from napari_medattn.bench.memory import extra_megabytes, in_fresh_process
from napari_medattn.bench.row import Row
from napari_medattn.bench.yardstick import in_turn, in_yards, threads
from napari_medattn.events import Progress
from napari_medattn.inference import Predictor, segment
from napari_medattn.models import create_model, prepare_for_inference, training_outputs
from napari_medattn.store import list_checkpoints
from napari_medattn.training.folder import DataFolder

THREADS = 2


@dataclass(frozen=True)
class Subject:
    """A network at its paper's size, and what the authors' code costs there.

    Attributes:
        name: Name in the registry.
        shape: (C, [Z,] Y, X) of the input.
        classes: Classes K.
        forward: Authors' forward pass in yards.
        training: Authors' forward and backward pass in yards.
        megabytes: Authors' rise of the resident size during one forward pass.
        faster: How many times faster the forward pass should be.
        leaner: The largest share of the authors' memory that it may take; None where nothing is asked.
    """

    name: str
    shape: tuple[int, ...]
    classes: int
    forward: float
    training: float
    megabytes: float
    faster: float
    leaner: float | None = None

    def build(self) -> nn.Module:
        """The network with fresh weights."""
        torch.manual_seed(0)
        return create_model(
            self.name, in_channels=self.shape[0], num_classes=self.classes, spatial_dims=len(self.shape) - 1
        )

    def input(self) -> Tensor:
        """One image."""
        return torch.randn(1, *self.shape, generator=torch.Generator().manual_seed(0))


SUBJECTS = (
    Subject("medt", (3, 128, 128), 2, 11.8, 30.3, 121, 4.0),
    Subject("logo", (3, 128, 128), 2, 14.1, 40.9, 104, 4.0),
    Subject("gated_axial_unet", (3, 128, 128), 2, 6.3, 16.6, 112, 3.0),
    Subject("axial_unet", (3, 128, 128), 2, 5.7, 12.8, 105, 3.0),
    Subject("dae_former", (1, 224, 224), 9, 19.1, 60.0, 154, 1.5),
    Subject("self_guided", (1, 256, 256), 5, 61.4, 185.4, 242, 1.6, 0.5),
    Subject("attention_unet", (1, 96, 96, 96), 4, 50.4, 134.6, 782, 1.5),
)


def measure(
    quick: bool = False, compiled: bool = False, data: Path | None = None
) -> Generator[Progress, None, list[Row]]:
    """Measure all networks.

    Args:
        quick: Forward passes only, once each.
        compiled: Also with ``torch.compile``, which takes minutes to warm up.
        data: A data folder on which the shipped checkpoints of its classes are run in both precisions.

    Yields:
        Progress before each network.

    Returns:
        The rows of the table.
    """
    rows: list[Row] = []
    for count, subject in enumerate(SUBJECTS):
        yield Progress(subject.name, count, len(SUBJECTS), "networks")
        with threads(THREADS):
            rows += _forward_rows(subject, 1 if quick else 5, everything=not quick, compiled=compiled)
            if not quick:
                rows.append(_training_row(subject))
        if not quick:
            rows += _memory_rows(subject)
    if data is not None:
        rows += yield from _agreement_rows(data)
    return rows


def _agreement_rows(data: Path, scans: int = 8) -> Generator[Progress, None, list[Row]]:
    """Share of voxels of held-out scans that get the same class in bfloat16 as in float32."""
    folder = DataFolder.open(data)
    rows = []
    fitting = [c for c in list_checkpoints([]) if c.card.class_names == folder.class_names]
    for count, checkpoint in enumerate(fitting):
        yield Progress(f"{checkpoint.name} in two precisions", count, len(fitting), "checkpoints")
        plain, half = (Predictor.load(checkpoint, "cpu", precision) for precision in ("fp32", "bf16"))
        held_out = [case for case in checkpoint.card.training.get("validation_cases", ()) if case in folder.cases]
        volumes = [folder.example(case).volume for case in held_out[:scans]]
        if not volumes:
            continue
        same = [float((segment(v, plain).labels == segment(v, half).labels).mean()) for v in volumes]
        note = f"{len(volumes)} held-out scans of {folder.name}"
        rows.append(Row(f"{checkpoint.name}: same class in bfloat16", min(same), 0.999, "of voxels", note=note))
    return rows


def _forward_rows(subject: Subject, rounds: int, everything: bool, compiled: bool) -> list[Row]:
    model, x = subject.build().eval(), subject.input()
    layout: Any = torch.channels_last_3d if x.ndim == 5 else torch.channels_last
    fast = prepare_for_inference(model).to(memory_format=layout)  # type: ignore[call-overload]
    x = x.contiguous(memory_format=layout)
    del model

    @torch.inference_mode()
    def plain() -> object:
        return fast(x)

    @torch.inference_mode()
    def half() -> object:
        with torch.autocast("cpu", torch.bfloat16):
            return fast(x)

    yards = in_yards(plain, rounds)
    name = f"{subject.name} forward: authors / ours"
    rows = [Row(name, subject.forward / yards, subject.faster, note=f"{yards:.1f} yards")]
    if everything:
        rows.append(Row(f"{subject.name} forward: float32 / bfloat16", in_turn(plain, half, rounds)))
    if compiled:
        optimised: Any = torch.compile(fast)

        @torch.inference_mode()
        def faster() -> object:
            return optimised(x)

        faster()
        rows.append(Row(f"{subject.name} forward: plain / torch.compile", in_turn(plain, faster, rounds)))
    return rows


def _training_row(subject: Subject) -> Row:
    layout: Any = torch.channels_last_3d if len(subject.shape) == 4 else torch.channels_last
    model = subject.build().train().to(memory_format=layout)  # type: ignore[call-overload]
    x = subject.input().contiguous(memory_format=layout)

    def step() -> None:
        model.zero_grad(set_to_none=True)
        outputs = training_outputs(model, x)
        losses = [logits.square().mean() for logits in outputs.supervised]
        torch.stack([*losses, *outputs.terms.values()]).sum().backward()  # type: ignore[no-untyped-call]

    yards = in_yards(step, 3)
    name = f"{subject.name} training step: authors / ours"
    return Row(name, subject.training / yards, 1.0, note=f"{yards:.1f} yards")


def _memory_rows(subject: Subject) -> list[Row]:
    megabytes = in_fresh_process(__name__, subject.name)
    if megabytes is None:
        return []
    share = megabytes / subject.megabytes
    name = f"{subject.name} extra peak memory: ours / authors"
    return [Row(name, share, subject.leaner, at_most=True, note=f"{megabytes:.0f} MB")]


def _print_extra_megabytes(name: str) -> None:
    subject = next(subject for subject in SUBJECTS if subject.name == name)
    layout: Any = torch.channels_last_3d if len(subject.shape) == 4 else torch.channels_last
    fast = prepare_for_inference(subject.build()).to(memory_format=layout)  # type: ignore[call-overload]
    x = subject.input().contiguous(memory_format=layout)
    with threads(THREADS), torch.inference_mode():
        found = extra_megabytes(lambda: fast(x))
    print("" if found is None else found)


if __name__ == "__main__":
    _print_extra_megabytes(sys.argv[1])
