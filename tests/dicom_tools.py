"""DICOM series drawn for tests: small, with whatever is odd about real ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

OBLIQUE = (0.8, 0.6, 0.0, 0.0, 0.0, -1.0)  # directions of x and y in LPS+; the normal is (-0.6, 0.8, 0)
NORMAL = np.cross(OBLIQUE[:3], OBLIQUE[3:])
PATIENT, PATIENT_ID = "Doe^Jane", "ID-4711"


def image(pixels: np.ndarray, position=(10.0, 20.0, 30.0), **facts) -> FileDataset:
    """One CT image of (Y, X) or (Y, X, 3) pixels.

    Args:
        pixels: The stored values.
        position: World position (LPS+) of the first pixel; None to leave position and direction out.
        facts: Any other elements; None removes one.
    """
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage if pixels.ndim == 2 else SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made = FileDataset("", Dataset(), file_meta=meta, preamble=b"\0" * 128)
    made.SOPClassUID, made.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    made.PatientName, made.PatientID, made.PatientBirthDate, made.PatientSex = PATIENT, PATIENT_ID, "19700101", "F"
    made.StudyInstanceUID, made.SeriesInstanceUID, made.FrameOfReferenceUID = "1.2.3", "1.2.3.4", "1.2.3.5"
    made.StudyID, made.StudyDate, made.StudyTime, made.AccessionNumber = "1", "20200101", "120000", ""
    made.ReferringPhysicianName, made.PositionReferenceIndicator, made.Manufacturer = "", "", "none"
    made.Modality, made.SeriesNumber, made.InstanceNumber = "CT", 3, 1
    made.Rows, made.Columns = pixels.shape[:2]
    made.PixelSpacing, made.SliceThickness = [1.5, 0.5], 2.0
    made.SamplesPerPixel = 1 if pixels.ndim == 2 else 3
    made.PhotometricInterpretation = "MONOCHROME2" if pixels.ndim == 2 else "RGB"
    if pixels.ndim == 3:
        made.PlanarConfiguration = 0
    made.BitsAllocated = made.BitsStored = 8 * pixels.dtype.itemsize
    made.HighBit, made.PixelRepresentation = made.BitsStored - 1, int(pixels.dtype.kind == "i")
    if position is not None:
        made.ImagePositionPatient = [float(np.round(value, 6)) for value in position]
        made.ImageOrientationPatient = list(OBLIQUE)
    for key, value in facts.items():
        if value is None:
            delattr(made, key)
        else:
            setattr(made, key, value)
    made.PixelData = np.ascontiguousarray(pixels).tobytes()
    return made


def voxels(shape=(6, 5, 4), dtype=np.int16, seed=0) -> np.ndarray:
    """(Z, Y, X) stored values, no two slices alike."""
    return np.random.default_rng(seed).integers(0, 200, shape).astype(dtype)


def save_series(folder: Path, array: np.ndarray, heights=None, names=None, step=2.5, **facts) -> Path:
    """Save slices (Z, Y, X[, 3]) at heights along the normal, under shuffled names and with reversed numbers."""
    folder.mkdir(parents=True, exist_ok=True)
    heights = [step * z for z in range(len(array))] if heights is None else heights
    names = [f"{(7 * z + 3) % 101:04d}" for z in range(len(array))] if names is None else names
    for z, (pixels, height, name) in enumerate(zip(array, heights, names, strict=True)):
        own = {
            key: value[z] if isinstance(value, list) and key != "PixelSpacing" else value
            for key, value in facts.items()
        }
        position = np.array([10.0, 20.0, 30.0]) + NORMAL * height
        own = {"InstanceNumber": len(array) - z, **own}
        save(folder / name, image(pixels, position, **own))
    return folder


def save(path: Path, dataset: FileDataset) -> Path:
    """Write a file as scanners do."""
    dataset.save_as(path, enforce_file_format=True)
    return path


def affine(array_step=2.5) -> np.ndarray:
    """RAS+ affine of a series that `save_series` wrote."""
    lps = np.eye(4)
    lps[:3, 0], lps[:3, 1] = np.array(OBLIQUE[:3]) * 0.5, np.array(OBLIQUE[3:]) * 1.5
    lps[:3, 2], lps[:3, 3] = NORMAL * array_step, (10.0, 20.0, 30.0)
    return np.diag([-1.0, -1.0, 1.0, 1.0]) @ lps
