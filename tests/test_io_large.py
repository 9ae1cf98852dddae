"""Volumes larger than memory: opened at once, read where they are looked at. The files are sparse and take no space."""

from __future__ import annotations

import sys
import time
from importlib import import_module
from pathlib import Path

import nibabel as nib
import numpy as np
import psutil
import pytest
import tifffile

from napari_medattn.data import read_volume
from napari_medattn.data.lazy import is_lazy
from napari_medattn.layerdata import volume_to_layer
from tests.dicom_tools import save_series, voxels

SHAPE = (2000, 2300, 2200)  # (Z, Y, X): 20 GB of 16 bits
BRIGHT = (1500, 12, 34)


def sparse(path: Path, head: bytes) -> Path:
    """A file of 20 GB with a header and one bright voxel."""
    with path.open("wb") as file:
        file.write(head)
        file.truncate(len(head) + 2 * int(np.prod(SHAPE, dtype=np.int64)))
        file.seek(len(head) + 2 * int(np.ravel_multi_index(BRIGHT, SHAPE)))
        file.write(np.int16(700).tobytes())
    return path


def nifti(folder: Path, slope: float = 1) -> Path:
    header = nib.Nifti2Header()
    header.set_data_shape(SHAPE[::-1])
    header.set_data_dtype(np.int16)
    header.set_sform(np.eye(4), 1)
    header.set_slope_inter(slope, 0)
    header["magic"], header["vox_offset"] = b"n+2\0\r\n\x1a\n", 544
    return sparse(folder / "large.nii", header.binaryblock + bytes(4))


def nrrd(folder: Path) -> Path:
    sizes = " ".join(str(size) for size in SHAPE[::-1])
    head = f"NRRD0005\ntype: short\ndimension: 3\nsizes: {sizes}\nendian: little\nencoding: raw\n\n"
    return sparse(folder / "large.nrrd", head.encode())


def metaimage(folder: Path) -> Path:
    sizes = " ".join(str(size) for size in SHAPE[::-1])
    head = f"ObjectType = Image\nNDims = 3\nDimSize = {sizes}\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
    return sparse(folder / "large.mha", head.encode())


def bigtiff(folder: Path) -> Path:
    path = folder / "large.tif"
    mapped = tifffile.memmap(path, shape=SHAPE, dtype=np.int16, bigtiff=True, photometric="minisblack")
    mapped[BRIGHT] = 700
    del mapped
    return path


MAKERS = {"nifti": nifti, "scaled nifti": lambda folder: nifti(folder, 0.5), "nrrd": nrrd, "metaimage": metaimage}
MAKERS["bigtiff"] = bigtiff


@pytest.fixture(params=MAKERS)
def large(request, tmp_path) -> Path:
    try:
        return MAKERS[request.param](tmp_path)
    except OSError:
        pytest.skip("this disk holds no sparse files")


@pytest.mark.skipif(sys.platform == "win32", reason="files are not sparse there unless asked for")
class TestLarge:
    def test_it_opens_at_once_and_reads_what_is_asked_for(self, large):
        used, start = psutil.Process().memory_info().rss, time.monotonic()
        volume = read_volume(large)
        z, y, x = BRIGHT
        corner = np.asarray(volume.array[0, z, :64, :64])
        assert time.monotonic() - start < 10  # a busy machine; a quiet one takes tenths of a second
        assert psutil.Process().memory_info().rss - used < 300 << 20
        assert corner[y, x] == corner.max() > 0
        assert is_lazy(volume.array)

    def test_a_region_is_cut_out_without_reading_the_rest(self, large):
        z, y, x = BRIGHT
        part = read_volume(large).cropped((slice(z - 1, z + 2), slice(0, 64), slice(0, 64)))
        assert part.array.shape == (1, 3, 64, 64)
        assert np.asarray(part.array)[0, 1, y, x] > 0
        np.testing.assert_allclose(np.array(part.grid.to_world((1, y, x))), read_volume(large).grid.to_world((z, y, x)))

    def test_the_layer_is_lazy_too(self, large):
        data, _, _ = volume_to_layer(read_volume(large))
        assert is_lazy(data)


class TestReadPieceByPiece:
    """The same files, large and small, hold the same."""

    @pytest.fixture
    def everything_is_large(self, monkeypatch):
        for module in ("reading", "tiff", "nifti", "dicom.read"):
            monkeypatch.setattr(import_module(f"napari_medattn.data.{module}"), "LAZY_BYTES", 1)

    def same(self, path: Path, expected: np.ndarray) -> None:
        volume = read_volume(path)
        assert not isinstance(volume.array, np.ndarray)
        assert volume.array.shape == expected.shape
        np.testing.assert_array_equal(np.asarray(volume.array), expected)
        np.testing.assert_array_equal(np.asarray(volume.array[0, 2]), expected[0, 2])

    @pytest.mark.usefixtures("everything_is_large")
    def test_compressed_tiff_pages(self, tmp_path):
        tifffile.imwrite(
            tmp_path / "a.tif", voxels(), compression="zlib", photometric="minisblack", metadata={"axes": "ZYX"}
        )
        self.same(tmp_path / "a.tif", voxels()[None])

    @pytest.mark.usefixtures("everything_is_large")
    @pytest.mark.parametrize("shape", [(4, 5, 6), (4, 5, 6, 2)])
    def test_scaled_nifti(self, tmp_path, shape):
        image = nib.Nifti1Image(np.arange(np.prod(shape), dtype=np.int16).reshape(shape), np.eye(4))
        image.header.set_slope_inter(0.5, -3)
        content = image.to_bytes()
        (tmp_path / "a.nii").write_bytes(content)
        header = nib.Nifti1Header(content[:348], check=False)
        header["scl_slope"], header["scl_inter"] = 0.5, -3
        (tmp_path / "a.nii").write_bytes(header.binaryblock + content[348:])
        found = nib.load(tmp_path / "a.nii").get_fdata()
        self.same(tmp_path / "a.nii", found.T if found.ndim == 4 else found.T[None])

    @pytest.mark.parametrize("times", [1, 2])
    def test_a_dicom_series(self, tmp_path, request, times):
        expected = [voxels(seed=time) for time in range(times)]
        for time_, array in enumerate(expected):
            save_series(tmp_path / f"{time_}", array, TemporalPositionIdentifier=time_)
        request.getfixturevalue("everything_is_large")
        self.same(tmp_path, np.array(expected))
