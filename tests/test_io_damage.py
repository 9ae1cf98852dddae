"""Damaged and malicious files: one sentence, no crash, no hang, no more memory than the file deserves."""

from __future__ import annotations

import gzip
import json
import os
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from hypothesis import HealthCheck, given, settings, strategies as st
from PIL import Image

from napari_medattn.data import read_labels, read_volume, reading as limits, write_labels
from napari_medattn.data.formats import find_format
from napari_medattn.errors import GeometryError, MedAttnError, ReadError
from napari_medattn.geometry import Grid
from tests.dicom_tools import image as dicom_image, save
from tests.test_geometry import stored_as
from tests.test_io_roundtrip import SHAPE, drawn, like


def sentence(path: Path) -> str | None:
    """What reading a file says if it is refused; None if it is read."""
    try:
        volume = read_volume(path)
        np.asarray(volume.array).max()
    except MedAttnError as error:
        return str(error)
    return None


def is_one_sentence(said: str, path: Path) -> bool:
    return path.name in said and "\n" not in said and said.endswith(".") and len(said) < 700


def made(folder: Path, ending: str) -> Path:
    """A small healthy file of a format."""
    path = folder / f"whole{ending}"
    noise = np.random.default_rng(0).integers(0, 900, SHAPE).astype(np.int16)
    if ending in (".nrrd", ".mha", ".raw.nrrd"):
        sitk.WriteImage(sitk.GetImageFromArray(noise), str(path), useCompression=ending != ".raw.nrrd")
    elif ending == ".hdr":
        nib.save(nib.Nifti1Pair(noise.T, np.diag([1.0, 2.0, 3.0, 1.0])), path)
    elif ending in (".png", ".jpg", ".bmp"):
        Image.fromarray(noise[0].astype(np.uint8)).save(path)
    elif ending == ".tif":
        tifffile.imwrite(path, noise, photometric="minisblack", compression="zlib", metadata={"axes": "ZYX"})
    elif ending == ".dcm":
        save(path, dicom_image(noise[0]))
    elif ending == ".seg.dcm":
        from napari_medattn.data.dicom.read import read

        save(folder / "source.dcm", dicom_image(noise[0]))
        write_labels(path, drawn((1, 5, 6)), read(folder / "source.dcm"))
    else:
        kind = nib.MGHImage if "mg" in ending else nib.Nifti1Image
        nib.save(kind(noise.T, np.diag([1.0, 2.0, 3.0, 1.0])), path)
    return path


ENDINGS = [".nii", ".nii.gz", ".mgz", ".nrrd", ".raw.nrrd", ".mha", ".tif", ".png", ".jpg", ".dcm", ".seg.dcm"]
ENDINGS += [".hdr", ".mgh", ".bmp"]


class TestFuzz:
    """Whatever bytes are wrong or missing, the file is read or refused by name."""

    @pytest.mark.parametrize("ending", ENDINGS)
    @given(data=st.data())
    @settings(suppress_health_check=list(HealthCheck))
    def test_some_bytes_are_wrong(self, tmp_path, ending, data):
        self.check(made(tmp_path, ending), data)

    @pytest.mark.nightly
    @pytest.mark.parametrize("ending", ENDINGS)
    @given(data=st.data())
    @settings(max_examples=2000, suppress_health_check=list(HealthCheck), derandomize=False)
    def test_some_bytes_are_wrong_for_long(self, tmp_path, ending, data):
        self.check(made(tmp_path, ending), data)

    @staticmethod
    def check(path: Path, data: st.DataObject) -> None:
        content = bytearray(path.read_bytes())
        # Headers lie at the start, in TIFF also at the end.
        place = st.one_of(st.integers(0, 600), st.integers(0, 1 << 16))
        for at, value in data.draw(st.lists(st.tuples(place, st.integers(0, 255)), max_size=4)):
            content[at % len(content)] = value
        keep = data.draw(st.one_of(st.just(1.0), st.floats(0, 1)))
        path.write_bytes(content[: int(keep * len(content))])
        said = sentence(path)
        assert said is None or is_one_sentence(said, path), said

    @pytest.mark.parametrize("ending", ENDINGS)
    @given(content=st.binary(max_size=2000))
    def test_nothing_but_noise(self, tmp_path, ending, content):
        path = made(tmp_path, ending)
        start = path.read_bytes()[:4]
        for noise in (content, start + content):
            path.write_bytes(noise)
            said = sentence(path)
            assert said is not None
            assert is_one_sentence(said, path)


def nifti_bomb(path: Path) -> None:
    header = nib.Nifti1Header()
    header.set_data_shape((10_000, 10_000, 10_000))
    header["magic"], header["vox_offset"] = b"n+1", 352
    path.write_bytes(header.binaryblock + bytes(2000))


def nifti_gz_bomb(path: Path) -> None:
    nifti_bomb(path)
    path.write_bytes(gzip.compress(path.read_bytes()))


def mgz_bomb(path: Path) -> None:
    path.write_bytes(gzip.compress(struct.pack(">iiiiiii", 1, 10_000, 10_000, 10_000, 1, 3, 0) + bytes(2000)))


def nrrd_bomb(path: Path) -> None:
    head = "NRRD0005\ntype: short\ndimension: 3\nsizes: 10000 10000 10000\nendian: little\nencoding: gzip\n\n"
    path.write_bytes(head.encode() + gzip.compress(bytes(2000)))


def mha_bomb(path: Path) -> None:
    head = (
        "ObjectType = Image\nNDims = 3\nDimSize = 10000 10000 10000\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
    )
    path.write_bytes(head.encode() + bytes(2000))


def mha_packed_bomb(path: Path) -> None:
    mha_bomb(path)
    path.write_bytes(path.read_bytes().replace(b"NDims", b"CompressedData = True\nNDims"))


def png_bomb(path: Path) -> None:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", 1_000_000, 1_000_000, 8, 2, 0, 0, 0)
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    )


def tiff_bomb(path: Path) -> None:
    tifffile.imwrite(path, np.zeros((8, 8), np.uint8), metadata=None)
    with tifffile.TiffFile(path) as file:
        places = [file.pages[0].tags[name].valueoffset for name in ("ImageWidth", "ImageLength")]
    content = bytearray(path.read_bytes())
    for place in places:
        content[place : place + 4] = struct.pack("<I", 1_000_000)
    path.write_bytes(content)


def dicom_bomb(path: Path) -> None:
    save(path, dicom_image(np.zeros((5, 6), np.int16), Rows=60_000, Columns=60_000, NumberOfFrames=300))


BOMBS: dict[str, Callable[[Path], None]] = {
    "a.nii": nifti_bomb,
    "a.nii.gz": nifti_gz_bomb,
    "a.mgz": mgz_bomb,
    "a.nrrd": nrrd_bomb,
    "a.mha": mha_bomb,
    "packed.mha": mha_packed_bomb,
    "a.png": png_bomb,
    "a.tif": tiff_bomb,
    "a.dcm": dicom_bomb,
}


class TestBombs:
    """Headers that claim 10^12 voxels."""

    @pytest.mark.parametrize("name", BOMBS)
    def test_they_are_refused_at_once(self, tmp_path, name):
        BOMBS[name](tmp_path / name)
        start = time.monotonic()
        said = sentence(tmp_path / name)
        assert said is not None
        assert is_one_sentence(said, tmp_path / name)
        assert time.monotonic() - start < 5

    @pytest.mark.parametrize("name", BOMBS)
    def test_they_take_no_memory(self, tmp_path, name):
        """In 4 GB of address space beside what the libraries take."""
        BOMBS[name](tmp_path / name)
        child = (
            "import resource, sys; from pathlib import Path\n"
            "import napari_medattn.data.nifti, SimpleITK, tifffile, pydicom, PIL.Image, imagecodecs, nrrd\n"
            "from napari_medattn.data import read_volume\n"
            "have = int(Path('/proc/self/statm').read_text().split()[0]) * 4096\n"
            "resource.setrlimit(resource.RLIMIT_AS, (have + (4 << 30), have + (4 << 30)))\n"
            "from napari_medattn.errors import ReadError\n"
            "try: read_volume(sys.argv[1])\n"
            "except ReadError as error: print('memory' in str(error)); raise SystemExit(3)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", child, tmp_path / name], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout.strip()) == (3, "False"), done.stderr

    @pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha", ".mgz", ".tif"])
    def test_what_would_not_fit_into_memory_is_refused_with_sizes(self, tmp_path, ending, monkeypatch):
        path = made(tmp_path, ending)
        monkeypatch.setattr(limits.psutil, "virtual_memory", type("", (), {"available": 100}))
        with pytest.raises(ReadError, match=r"needs \d.* of memory, 80 bytes are free"):
            read_volume(path)


class TestOddHeaders:
    @pytest.mark.parametrize(("field", "value"), [("srow_x", np.nan), ("srow_y", np.inf), ("srow_z", 0.0)])
    def test_an_affine_that_cannot_place_voxels(self, tmp_path, field, value):
        made_image = nib.Nifti1Image(drawn().T.astype(np.int16), np.eye(4))
        made_image.header[field] = value
        made_image.header["sform_code"] = 1
        (tmp_path / "a.nii").write_bytes(
            made_image.header.binaryblock + bytes(4) + drawn().T.astype(np.int16).tobytes("F")
        )
        said = sentence(tmp_path / "a.nii")
        assert said is not None
        assert "affine" in said

    @pytest.mark.parametrize("ending", [".nii", ".nrrd", ".mha"])
    def test_a_zero_sized_image(self, tmp_path, ending):
        path = made(tmp_path, ending)
        swaps = {
            ".nii": (struct.pack("<3h", *SHAPE[::-1]), struct.pack("<3h", 6, 0, 4)),
            ".nrrd": (b"sizes: 6 5 4", b"sizes: 6 0 4"),
            ".mha": (b"DimSize = 6 5 4", b"DimSize = 6 0 4"),
        }
        content = path.read_bytes()
        assert swaps[ending][0] in content
        path.write_bytes(content.replace(*swaps[ending], 1))
        said = sentence(path)
        assert said is not None
        assert is_one_sentence(said, path)

    def test_complex_voxels(self, tmp_path):
        nib.save(nib.Nifti1Image(np.ones((2, 3, 4), np.complex64), np.eye(4)), tmp_path / "a.nii")
        assert "complex" in (sentence(tmp_path / "a.nii") or "")

    def test_an_affine_beside_that_makes_no_sense_is_passed_over(self, tmp_path):
        Image.fromarray(drawn((5, 6)).astype(np.uint8)).save(tmp_path / "a.png")
        for content in (
            {"affine": [[1, 2], [3, 4]]},
            {"affine": "x"},
            {"PixelSize": [0, 0], "PixelSizeUnits": "um"},
            [1],
        ):
            (tmp_path / "a.json").write_text(json.dumps(content))
            assert read_volume(tmp_path / "a.png").grid.units == "pixel"

    def test_a_folder_with_the_name_of_a_file(self, tmp_path):
        (tmp_path / "a.nii.gz").mkdir()
        assert "holds no DICOM files" in (sentence(tmp_path / "a.nii.gz") or "")

    @pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
    @pytest.mark.timeout(20)
    def test_a_pipe_does_not_hold_the_reader_up(self, tmp_path):
        os.mkfifo(tmp_path / "a.nii")
        os.mkfifo(tmp_path / "b")
        assert "neither a file nor a folder" in (sentence(tmp_path / "a.nii") or "")
        assert find_format(tmp_path) is None

    def test_a_file_that_may_not_be_read(self, tmp_path, monkeypatch):
        path = made(tmp_path, ".nrrd")

        def forbidden(*_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "open", forbidden)
        said = sentence(path)
        assert said is not None
        assert "Permission denied" in said


class TestLabels:
    """Labels that are not quite what they should be."""

    @pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".mha"])
    def test_labels_as_floats_are_taken_if_they_are_whole(self, tmp_path, ending):
        values = drawn().astype(np.float64)
        if ending == ".nii.gz":
            nib.save(nib.Nifti1Image(values.T, np.eye(4)), tmp_path / "a.nii.gz")
        else:
            sitk.WriteImage(sitk.GetImageFromArray(values), str(tmp_path / f"a{ending}"))
        np.testing.assert_array_equal(read_labels(tmp_path / f"a{ending}"), drawn())

    @pytest.mark.parametrize("odd", [0.5, np.nan, np.inf, -1.0])
    def test_other_numbers_are_refused_by_name(self, tmp_path, odd):
        values = drawn().astype(np.float32)
        values[1, 1, 1] = odd
        sitk.WriteImage(sitk.GetImageFromArray(values), str(tmp_path / "odd.nrrd"))
        with pytest.raises(GeometryError, match="odd holds values that are no whole numbers"):
            read_labels(tmp_path / "odd.nrrd")

    def test_another_grid_is_resampled_when_asked(self, tmp_path):
        """Twice as fine along each axis: every voxel finds the one it lies in."""
        coarse = cubes((4, 5, 6), 2.0, 0.0)
        fine = cubes((8, 10, 12), 1.0, -0.5)
        write_labels(tmp_path / "m.nii.gz", drawn((4, 5, 6)), like(coarse))
        found = read_labels(tmp_path / "m.nii.gz", like=like(fine), resample=True)
        np.testing.assert_array_equal(found, drawn((4, 5, 6)).repeat(2, 0).repeat(2, 1).repeat(2, 2))

    def test_rounding_of_an_affine_is_no_other_place(self, tmp_path):
        grid = stored_as("LPS")
        near = grid.affine + np.random.default_rng(0).uniform(-1e-4, 1e-4, (4, 4)) * [[1], [1], [1], [0]]
        write_labels(tmp_path / "m.nrrd", drawn(), like(Grid(SHAPE, near)))
        np.testing.assert_array_equal(read_labels(tmp_path / "m.nrrd", like=like(grid)), drawn())


def cubes(shape: tuple[int, int, int], spacing: float, start: float) -> Grid:
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = start
    return Grid(shape, affine)
