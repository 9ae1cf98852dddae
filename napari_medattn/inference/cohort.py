"""A folder of images: every one gets its mask, an interrupted run goes on where it ended, and a bad file stops nothing.

What is finished is told by the record beside each mask, which is written last; so any number of processes may work
on one folder, and one that dies leaves nothing half done.
"""

from __future__ import annotations

import csv
import io
import json
import os
import time
from collections.abc import Generator, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from napari_medattn.data.formats import SUFFIXES, mask_suffix, stem
from napari_medattn.errors import InputError, MedAttnError
from napari_medattn.events import Progress
from napari_medattn.files import atomic_write, make_folder
from napari_medattn.inference.case_file import Asked, finished, segment_file_steps
from napari_medattn.inference.frames import retold
from napari_medattn.inference.predictor import Predictor
from napari_medattn.store.mask_record import record_beside, record_path

DICOM_SUFFIXES = (".dcm", ".dicom", ".ima")


@dataclass(frozen=True)
class Case:
    """An image of a cohort, and where its mask goes.

    Attributes:
        name: Path of the image within the cohort.
        image: The file, or the folder of a DICOM series.
        mask: The mask.
    """

    name: str
    image: Path
    mask: Path


@dataclass(frozen=True)
class CaseResult:
    """What became of a case.

    Attributes:
        name: Path of the image within the cohort.
        status: ``"done"`` in this run, ``"skipped"`` as it was finished before, or ``"failed"``.
        mask: Path of the mask, of the first frame in a time series.
        seconds: Time it took when it was made.
        voxels: Voxels of each class by name, added up over frames.
        volume_ml: The same in millilitres, where the image has lengths.
        notes: What had to be decided, and which rungs of the ladder were taken.
        error: Why it failed.
    """

    name: str
    status: Literal["done", "skipped", "failed"]
    mask: str = ""
    seconds: float = 0.0
    voxels: dict[str, int] = field(default_factory=dict)
    volume_ml: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    error: str = ""


def find_cases(folder: Path, out: Path) -> list[Case]:
    """The images of a folder and the folders in it, by name; of a data folder those in ``images``.

    Args:
        folder: The cohort. A folder that holds DICOM files is one case.
        out: Where masks go, in the same folders as the images.

    Raises:
        InputError: If there is no image, or the masks would go among the images.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder.", "Give a folder of images.")
    if (folder / "images").is_dir() and (folder / "labels").is_dir():
        folder = folder / "images"
    if out.resolve() == folder.resolve():
        raise InputError(f"{out} holds the images themselves.", "Give another folder for the masks.")
    cases, taken = [], set()
    for image in _images(folder, out.resolve()):
        name = image.relative_to(folder)
        mask = out / name.parent / f"{stem(image)}_mask{mask_suffix(image)}"
        if record_path(mask) in taken:  # a.nii and a.tif in one folder
            mask = mask.with_name(f"{image.name.replace('.', '_')}_mask{mask_suffix(image)}")
        taken.add(record_path(mask))
        cases.append(Case(str(name), image, mask))
    if not cases:
        raise InputError(f"There is no image in {folder}.", f"Images end in {', '.join(SUFFIXES)}.")
    return cases


def run_case_steps(case: Case, predictor: Predictor, asked: Asked) -> Generator[Progress, None, CaseResult]:
    """Segment a case, unless that is done; whatever is wrong with it becomes part of the result."""
    began = time.monotonic()
    try:
        if (skipped := finished_before(case, predictor.card.weights_sha256, asked)) is not None:
            return skipped
        _spare(case)
        make_folder(case.mask.parent)
        records = yield from segment_file_steps(case.image, case.mask, predictor, asked)
        return _result(case, "done", records)
    except Exception as error:  # noqa: BLE001 - one bad file must not stop the others, whatever it does
        text = str(error) if isinstance(error, MedAttnError) else f"{type(error).__name__}: {error}"
        return CaseResult(case.name, "failed", seconds=round(time.monotonic() - began, 3), error=text)


def finished_before(case: Case, weights: str, asked: Asked) -> CaseResult | None:
    """The result of a case that is done as asked, or None."""
    records = finished(case.image, case.mask, weights, asked)
    return None if records is None else _result(case, "skipped", records)


def cohort_steps(
    cases: Sequence[Case], predictor: Predictor, asked: Asked, out: Path
) -> Generator[Progress, None, list[CaseResult]]:
    """Segment all cases, one after the other, and write the report, also when it is left early.

    Yields:
        Progress over the cases, and the events of each.
    """
    results: list[CaseResult] = []
    began = time.monotonic()
    try:
        for number, case in enumerate(cases):
            yield Progress("cohort", number, len(cases), "cases", time.monotonic() - began)
            steps = run_case_steps(case, predictor, asked)
            results.append((yield from retold(steps, f"case {number + 1} of {len(cases)}")))
        yield Progress("cohort", len(cases), len(cases), "cases", time.monotonic() - began)
    finally:
        write_report(results, cases, out)
    return results


def write_report(results: Iterable[CaseResult], cases: Sequence[Case], out: Path) -> None:
    """Write ``report.csv`` and ``report.json``: every case once, in order; those not reached are ``"open"``."""
    known = {result.name: asdict(result) for result in results}
    rows = [known.get(case.name, {"name": case.name, "status": "open"}) for case in cases]
    make_folder(out)
    with atomic_write(out / "report.json") as path:
        path.write_text(json.dumps({"cases": rows}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    classes = list(dict.fromkeys(name for row in rows for name in row.get("voxels", {})))
    text = io.StringIO()
    table = csv.writer(text)
    counted = [*(f"{name} voxels" for name in classes), *(f"{name} ml" for name in classes)]
    table.writerow(["case", "status", "mask", "seconds", *counted, "notes", "error"])
    for row in rows:
        found: list[Any] = [row["name"], row["status"], row.get("mask", ""), row.get("seconds", "")]
        found += [row.get(key, {}).get(name, "") for key in ("voxels", "volume_ml") for name in classes]
        table.writerow([*found, " ".join(row.get("notes", ())), row.get("error", "")])
    with atomic_write(out / "report.csv") as path:
        path.write_text(text.getvalue(), encoding="utf-8", newline="")


def _spare(case: Case) -> None:
    """Leave a person's work alone.

    Raises:
        InputError: If the mask that would be replaced was edited by a person.
    """
    name = stem(case.mask)
    for mask in (case.mask, *sorted(case.mask.parent.glob(f"{name}_t*{case.mask.name[len(name) :]}"))):
        if (record_beside(mask) or {}).get("share_edited") and mask.exists():
            raise InputError(
                f"{mask.name} was made in another way and edited by a person: it is left as it is.",
                "Move it elsewhere to have it made anew.",
            )


def _result(case: Case, status: Literal["done", "skipped"], records: Sequence[dict[str, Any]]) -> CaseResult:
    voxels: dict[str, int] = {}
    volume: dict[str, float] = {}
    for record in records:
        for name, count in record["voxels"].items():
            voxels[name] = voxels.get(name, 0) + count
            if record["voxel_mm3"] is not None:
                volume[name] = round(volume.get(name, 0.0) + count * record["voxel_mm3"] / 1000, 4)
    notes = [note for record in records for note in record["notes"]]
    notes += [f"{step['reason']}: {step['step']}." for record in records for step in record["ladder"]]
    return CaseResult(
        case.name,
        status,
        str(case.mask.with_name(records[0]["mask"])),
        round(sum(record["seconds"] for record in records), 3),
        voxels,
        volume,
        tuple(dict.fromkeys(notes)),
    )


def _images(folder: Path, out: Path) -> list[Path]:
    """Files by suffix, and folders of DICOM files, by name; nothing hidden, and nothing below ``out``."""
    found = []
    for root, folders, names in os.walk(folder):
        here = Path(root)
        folders[:] = sorted(n for n in folders if not n.startswith(".") and (here / n).resolve() != out)
        files = [name for name in sorted(names) if not name.startswith(".")]
        if any(name.lower().endswith(DICOM_SUFFIXES) for name in files):
            found.append(here)
        kept = [name for name in files if name.lower().endswith(SUFFIXES) and not name.lower().endswith(DICOM_SUFFIXES)]
        headers = {stem(name) for name in kept if name.lower().endswith(".hdr")}
        found += [here / n for n in kept if not (n.lower().endswith((".img", ".img.gz")) and stem(n) in headers)]
    return sorted(found)
