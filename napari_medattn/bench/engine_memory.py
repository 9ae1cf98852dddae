"""What segmenting takes at most of memory, each measured in a process of its own.

``python -m napari_medattn.bench.engine_memory NAME`` prints megabytes over what there was with all libraries and the
network loaded, the volume counted in; an empty line where the system does not tell. Names: ``ours`` and ``monai`` (the
same run both ways), ``ct`` and ``ct-paper`` (512 x 512 x 300), ``huge`` (1024 x 1024 x 1024 on disk, with one
convolution in place of a network: some minutes).
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Generator
from pathlib import Path

import monai.inferers  # noqa: F401 - so that neither run pays for the import
import numpy as np
import torch

from napari_medattn.bench.engine_work import LIGHTEST, PAPER, bare, ct_like, network, with_monai
from napari_medattn.bench.memory import extra_megabytes
from napari_medattn.data.tiles import plan_tiles
from napari_medattn.events import Progress, run_to_end
from napari_medattn.inference import Predictor, RunSettings, segment_steps

CT = (300, 512, 512)
COMPARED = (128, 288, 288)
HUGE = (1024, 1024, 1024)
TILE = (64, 96, 96)


def megabytes(name: str) -> float | None:
    """Extra memory of one run, in MB.

    Raises:
        KeyError: If there is no such run.
    """
    torch.set_num_threads(1)
    return {"ours": _ours, "monai": _monai, "ct": _ct, "ct-paper": _ct_paper, "huge": _huge}[name]()


def _ours() -> float | None:
    predictor = network(LIGHTEST, TILE)
    return extra_megabytes(lambda: run_to_end(_steps(predictor, COMPARED)))


def _monai() -> float | None:
    predictor = network(LIGHTEST, TILE)
    return extra_megabytes(lambda: with_monai(predictor, ct_like(COMPARED), RunSettings(batch=1)))


def _ct() -> float | None:
    predictor = network(LIGHTEST, TILE)
    return extra_megabytes(lambda: run_to_end(_steps(predictor, CT)))


def _ct_paper() -> float | None:
    """The network at the paper's size, stopped in the second layer of tiles: more is never held but the mask.

    The mask, of which later layers fill more, is counted as if it were full.
    """
    predictor = network(PAPER, TILE)

    def begin() -> None:
        full = np.ones(CT, np.uint8)
        steps = _steps(predictor, CT)
        layers = len({start[0] for start in plan_tiles(CT, TILE, predictor.stride).starts})
        for event in steps:
            if event.stage == "segmenting" and event.done * layers > event.total + 2 * layers:
                break
        steps.close()
        del full

    return extra_megabytes(begin)


def _huge() -> float | None:
    predictor = bare(TILE)
    with tempfile.TemporaryDirectory() as folder:
        volume = ct_like(HUGE, Path(folder) / "huge.npy")
        steps = segment_steps(volume, predictor, settings=RunSettings(overlap=0.0))

        def tell() -> None:
            for event in steps:
                if event.done % 50 == 0:
                    print(event, file=sys.stderr, flush=True)

        return extra_megabytes(tell)


def _steps(predictor: Predictor, shape: tuple[int, int, int]) -> Generator[Progress, None, object]:
    return segment_steps(ct_like(shape), predictor, settings=RunSettings(batch=1))


if __name__ == "__main__":
    found = megabytes(sys.argv[1])
    print("" if found is None else found)
