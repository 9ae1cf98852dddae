"""The cases of a cohort on a Dask cluster that exists already.

A case is a task. A worker that dies takes nothing with it but its time: the scheduler hands its cases to others, and a
case whose mask was finished in the meantime is recognised by its record and not made again.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from napari_medattn.errors import DeviceError, InputError
from napari_medattn.events import Progress, run_to_end
from napari_medattn.inference.case_file import Asked
from napari_medattn.inference.cohort import Case, CaseResult, finished_before, run_case_steps, write_report
from napari_medattn.inference.predictor import Predictor
from napari_medattn.store import Checkpoint, load_checkpoint

_PATIENCE = 1.0  # seconds between two looks at the cluster, and until Cancel is noticed


def cohort_on_cluster_steps(
    cases: Sequence[Case],
    checkpoint: Checkpoint,
    asked: Asked,
    out: Path,
    scheduler: str,
    *,
    device: str = "auto",
    precision: str = "fp32",
) -> Generator[Progress, None, list[CaseResult]]:
    """Segment all cases on the workers of a cluster and write the report, also when it is left early.

    Workers must see images, masks and checkpoint under the same paths.

    Args:
        cases: The cases.
        checkpoint: The network.
        asked: What is wanted.
        out: Where the report goes.
        scheduler: Address of the scheduler, e.g. ``"tcp://10.0.0.1:8786"``, or a file that it wrote.
        device: Device of each worker.
        precision: See `Predictor`.

    Yields:
        Progress over the cases.

    Raises:
        InputError: If dask's distributed is not installed.
        DeviceError: If the scheduler does not answer.
    """
    client, began = _connect(scheduler), time.monotonic()
    results: dict[str, CaseResult] = {}
    futures: dict[Any, Case] = {}
    weights = checkpoint.card.weights_sha256
    try:
        yield Progress("cohort", 0, len(cases), "cases")
        for case in cases:
            if (skipped := finished_before(case, weights, asked)) is not None:
                results[case.name] = skipped
                continue
            place = str(checkpoint.path.resolve()), weights, device, precision
            futures[client.submit(_run, case, place, asked, pure=False)] = case
        while futures:
            for future in [future for future in futures if future.done()]:
                case = futures.pop(future)
                results[case.name] = _outcome(case, future)
            yield Progress("cohort", len(results), len(cases), "cases", time.monotonic() - began)
            if futures:
                _wait(client, list(futures))
    finally:
        client.cancel(list(futures))
        client.close()
        write_report(results.values(), cases, out)
    return [results[case.name] for case in cases]


def _connect(scheduler: str) -> Any:
    try:
        from distributed import Client
    except ImportError as error:
        raise InputError(
            "Running on a cluster needs dask's distributed.", "Install it: pip install napari-medattn[cluster]."
        ) from error
    where = {"scheduler_file": scheduler} if Path(scheduler).is_file() else {"address": scheduler}
    try:
        return Client(**where, timeout=20, set_as_default=False)  # type: ignore[no-untyped-call]
    except (OSError, ValueError, TimeoutError) as error:
        raise DeviceError(
            f"There is no Dask scheduler at {scheduler} ({type(error).__name__}).",
            "Start one with `dask scheduler`, and give the address that it prints.",
        ) from error


def _wait(client: Any, futures: Sequence[Any]) -> None:
    """Until one more is finished, or patience ends."""
    from distributed import wait

    with suppress(TimeoutError), client.as_current():
        wait(futures, timeout=_PATIENCE, return_when="FIRST_COMPLETED")  # type: ignore[no-untyped-call]


def _outcome(case: Case, future: Any) -> CaseResult:
    """What a finished task says; one whose workers died again and again has an error instead."""
    if future.status != "finished":
        reason = future.exception() if future.status == "error" else future.status
        return CaseResult(case.name, "failed", error=f"{type(reason).__name__}: {reason}")
    found: CaseResult = future.result()
    # A worker that found it finished took over from one that died after having made it in this run.
    return replace(found, status="done") if found.status == "skipped" else found


def _run(case: Case, place: tuple[str, str, str, str], asked: Asked) -> CaseResult:
    """A task, on a worker."""
    return run_to_end(run_case_steps(case, _predictor(*place), asked))


@lru_cache(maxsize=1)
def _predictor(path: str, weights: str, device: str, precision: str) -> Predictor:
    """The network, loaded once by each worker process.

    Raises:
        InputError: If the worker finds another network there.
    """
    checkpoint = load_checkpoint(Path(path))
    if checkpoint.card.weights_sha256 != weights:
        raise InputError(f"{path} is another checkpoint here.", "Let all workers see the same files.")
    return Predictor.load(checkpoint, device, precision)
