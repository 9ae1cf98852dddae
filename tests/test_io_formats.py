"""Every file of the shared collection of formats: read as its list says, or refused in one sentence."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from napari_medattn.data import read_labels, read_volume
from napari_medattn.data.formats import find_format
from napari_medattn.errors import GeometryError, MedAttnError, ReadError
from tests.conftest import shared_folder


def collection() -> dict[str, dict]:
    """What the list of the collection says, by file; empty where it is not here."""
    try:
        folder = shared_folder("data") / "io_formats/derived"
    except pytest.skip.Exception:
        return {}
    return {entry["file"]: entry for entry in json.loads((folder / "manifest.json").read_text())["files"]}


LISTED = collection()
DAMAGED = [name for name, entry in LISTED.items() if "shape" not in entry and "shape_xyz" not in entry]
READABLE = [name for name in LISTED if name not in DAMAGED]
pytestmark = pytest.mark.skipif(not LISTED, reason="the shared collection of formats is not here (set MEDATTN_SHARED)")


def derived(name: str) -> Path:
    return shared_folder("data") / "io_formats/derived" / name


def third_party(name: str) -> Path:
    path = shared_folder("data") / "io_formats/third_party" / name
    if not path.exists():
        pytest.skip(f"{name} is not here")
    return path


def expected_shape(entry: dict) -> tuple[int, ...]:
    """(Z, Y, X) of a listed file, whatever order the list has it in."""
    name, shape = entry["file"], [*entry.get("shape_xyz", entry.get("shape", ()))]
    if "rgb" in name and name.endswith(".tif"):
        return (1, *[size for size in shape if size != 3])
    if name.endswith((".tif", ".png")):
        return tuple([1, *shape][-3:])
    x, y, z = [*shape, 1][:3]
    return z, y, x


@pytest.mark.parametrize("name", READABLE)
class TestReadable:
    def test_shape(self, name):
        assert read_volume(derived(name)).grid.shape == expected_shape(LISTED[name])

    def test_values(self, name):
        entry, array = LISTED[name], read_volume(derived(name)).array
        if entry.get("min") is not None:
            finite = array[np.isfinite(array)]
            assert (float(finite.min()), float(finite.max())) == pytest.approx((entry["min"], entry["max"]))
        if "sha256_16" in entry:
            assert hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16] == entry["sha256_16"]

    def test_place(self, name):
        entry, grid = LISTED[name], read_volume(derived(name)).grid
        affine = entry.get("affine", entry.get("affine_ras"))
        zooms = entry.get("zooms", [])[:3]
        if affine is None or zooms != entry.get("spacing_from_affine", [])[: len(zooms)]:
            pytest.skip("its list gives no place, or one that contradicts itself")
        np.testing.assert_allclose(grid.affine, affine, atol=1e-3)

    def test_native_byte_order(self, name):
        assert read_volume(derived(name)).array.dtype.isnative


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_file_is_named_in_one_sentence(name):
    with pytest.raises(ReadError) as caught:
        read_volume(derived(name))
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


class TestOneScanInManyFormats:
    """The collection is one scan: what differs is how it is stored."""

    @pytest.mark.parametrize("name", ["pair.hdr", "pair.img", "image.mgz", "nifti2.nii.gz", "big_endian.nii"])
    def test_the_same_voxels(self, name):
        np.testing.assert_array_equal(read_volume(derived(name)).array, read_volume(derived("ras.nii.gz")).array)

    @pytest.mark.parametrize("name", ["pair.hdr", "image.mgz", "nifti2.nii.gz"])
    def test_the_same_place(self, name):
        assert read_volume(derived(name)).grid.matches(read_volume(derived("ras.nii.gz")).grid)

    def test_the_dicom_series_is_the_oblique_scan_rescaled(self):
        series, scan = read_volume(derived("dicom_oblique_rescale")), read_volume(derived("oblique.nii.gz"))
        assert series.grid.matches(scan.grid, tolerance=1e-3)
        np.testing.assert_array_equal(series.array, 2 * scan.array.astype(int) - 100)

    def test_one_file_of_the_series_is_one_slice_of_it(self):
        whole, one = read_volume(derived("dicom_oblique_rescale")), read_volume(derived("dicom_oblique_rescale/IM0004"))
        z = round(whole.grid.to_voxel(one.grid.affine[:3, 3])[0])
        np.testing.assert_array_equal(one.array[:, 0], whole.array[:, z])

    def test_a_palette_is_colours_to_an_image_and_numbers_to_a_mask(self):
        grey = read_volume(derived("slice_16bit.png")).array[0, 0]
        assert read_volume(derived("slice_palette.png")).channels == 3
        numbers = read_labels(derived("slice_palette.png"))[0]
        assert np.corrcoef(numbers.ravel(), grey.ravel())[0, 1] > 0.99

    def test_an_even_opacity_is_left_out_and_that_is_told(self):
        volume = read_volume(derived("slice_rgba.png"))
        assert (volume.channels, "opacity" in volume.notes[0]) == (3, True)

    def test_a_mask_of_one_bit_is_zero_and_one(self):
        assert set(np.unique(read_labels(derived("mask_1bit.png")))) == {0, 1}


class TestLabelsOnTheirImage:
    def test_another_shape_is_refused_and_resampling_offered(self):
        with pytest.raises(GeometryError, match=r"label_bad_shape.*shape.*resample"):
            read_labels(derived("label_bad_shape.nii.gz"), like=read_volume(derived("ras.nii.gz")))

    def test_another_place_is_refused_and_resampling_offered(self):
        with pytest.raises(GeometryError, match=r"label_bad_affine.*another affine.*resample"):
            read_labels(derived("label_bad_affine.nii.gz"), like=read_volume(derived("ras.nii.gz")))

    @pytest.mark.parametrize("code", ["LAS", "LPS", "ASL", "PSR", "SRA", "IPL"])
    def test_a_mask_stored_in_another_orientation_is_brought_back_exactly(self, code):
        truth = read_labels(derived("ras_label.nii.gz"))
        found = read_labels(
            derived(f"reoriented_{code}_lab.nii.gz"), like=read_volume(derived("ras.nii.gz")), resample=True
        )
        np.testing.assert_array_equal(found, truth)


class TestThirdParty:
    """Files that other programs wrote."""

    def test_each_is_read_or_refused_in_one_sentence(self):
        for path in sorted(third_party("").rglob("*")):
            if path.is_dir() and find_format(path) is None:
                continue
            try:
                said = f"{path.name} is a {type(read_volume(path)).__name__}"
            except MedAttnError as error:
                said = str(error)
            assert path.name in said
            assert "\n" not in said

    @pytest.mark.parametrize("number", [1, 2])
    def test_single_frames_and_a_multi_frame_image_are_the_same_scan(self, number):
        folder = third_party("dicom_seg_dcmqi_24x38x3")
        first, other = read_volume(folder, series=1), read_volume(folder, series=number)
        np.testing.assert_array_equal(first.array, other.array)
        assert first.grid.matches(other.grid)

    def test_a_folder_with_two_series_asks_which(self):
        with pytest.raises(ReadError, match=r"2 series: 1: CT.*; 2: CT.*Choose one"):
            read_volume(third_party("dicom_seg_dcmqi_24x38x3"))

    @pytest.mark.parametrize(
        ("folder", "segments", "truth"),
        [
            ("dicom_seg_dcmqi_24x38x3", "label.seg", "label.nrrd"),
            ("dicom_seg_dcmqi_ct3slice", "liver.dcm", "liver_seg.nrrd"),
        ],
    )
    def test_segments_agree_with_their_nrrd_voxel_by_voxel(self, folder, segments, truth):
        image = read_volume(third_party(folder), series=1)
        found = read_labels(third_party(folder) / segments, like=image)
        expected = read_labels(third_party(folder) / truth, like=image, resample=True)
        np.testing.assert_array_equal(found, expected)
        assert found.any()

    def test_uneven_slices_are_told(self):
        assert "202.5 mm" in read_volume(third_party("dicom_series_monai_noext")).notes[0]

    def test_segments_find_their_uneven_slices(self):
        image = third_party("dicom_series_monai_noext")
        segments = third_party("dicom_seg_highdicom") / "seg_image_ct_binary_overlap.dcm"
        found = read_labels(segments, like=read_volume(image))
        assert found.shape == (4, 16, 16)
        assert found.max() == 2

    @pytest.mark.parametrize("kind", ["png", "tif"])
    def test_a_bids_file_beside_gives_the_pixel_size(self, kind):
        for path in sorted(third_party("png_tif_variants").glob(f"*.{kind}")):
            assert read_volume(path).grid.spacing[1:] == pytest.approx((7e-5, 7e-5))

    def test_sixteen_bits_of_colours_are_kept(self):
        volume = read_volume(third_party("png_tif_variants") / "sub-png_sample-16rgb_SEM.png")
        assert (volume.array.dtype, volume.channels) == (np.uint16, 3)
        assert volume.array.max() > 255
