"""Reading scans as they are, and writing masks that lie exactly on them."""

from __future__ import annotations

import errno
import gzip
import hashlib
import json
import os
import re
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import tifffile
from hypothesis import example, given, strategies as st
from hypothesis.extra import numpy as hnp

from napari_medattn.data import Volume, read_labels, read_volume, write_labels
from napari_medattn.data.formats import stem, whole_numbers
from napari_medattn.errors import GeometryError, MedAttnError, ReadError, SaveError
from napari_medattn.geometry import Grid

OBLIQUE = np.array([[0.725, -0.444, 0.312, 12.5], [0.338, 0.952, -0.67, -40], [0, 0.325, 2.388, 7], [0, 0, 0, 1]])
DAMAGED = ("truncated.nii.gz", "not_an_image.nii.gz")
REORIENTED = [
    f"reoriented_{code}_{part}.nii.gz" for code in ["LAS", "LPS", "ASL", "PSR", "SRA", "IPL"] for part in ("img", "lab")
]
PLAIN = (
    "ras ras_label oblique oblique_label sheared_sform_only sform_qform_conflict sform_pixdim_conflict no_form_codes "
    "scl_slope_inter nan_inf float64 uint16 constant 4d_singleton 4d_2vol 5d_vector single_slice 2d rgb24 nifti2 "
    "aniso_0.5x0.5x4 label_float64 label_gaps label_binary_255 label_bad_shape label_bad_affine label_empty"
)
NIFTIS = [*REORIENTED, *(f"{name}.nii.gz" for name in PLAIN.split()), "big_endian.nii"]
TIFFS = ["stack_imagej.tif", "stack.ome.tif", "stack_deflate_be.tif", "stack_bigtiff_float32.tif"]
TIFFS += ["stack_label.tif", "rgb_contig.tif", "rgb_planar.tif"]


def manifest(shared_data: Path) -> dict[str, dict]:
    found = json.loads((shared_data / "io_formats/derived/manifest.json").read_text())
    return {entry["file"]: entry for entry in found["files"]}


def opened(shared_data: Path, name: str) -> tuple[Volume, dict]:
    return read_volume(shared_data / "io_formats/derived" / name), manifest(shared_data)[name]


def assert_one_sentence(error: MedAttnError, name: str) -> None:
    assert name in str(error)
    assert "\n" not in str(error)
    assert str(error).endswith(".")


class TestCollection:
    def test_every_listed_file_is_tested_here(self, shared_data):
        listed = {name for name in manifest(shared_data) if name.endswith((".nii", ".nii.gz", ".tif"))}
        assert listed == {*NIFTIS, *TIFFS, *DAMAGED}

    @pytest.mark.parametrize("name", NIFTIS)
    def test_shape(self, shared_data, name):
        volume, entry = opened(shared_data, name)
        x, y, z, *rest = [*entry["shape"], 1, 1][: max(3, len(entry["shape"]))]
        channels = 3 if name == "rgb24.nii.gz" else int(np.prod(rest, dtype=int))
        assert volume.array.shape == (channels, z, y, x)

    @pytest.mark.parametrize("name", [name for name in NIFTIS if name != "2d.nii.gz"])
    def test_orientation(self, shared_data, name):
        volume, entry = opened(shared_data, name)
        assert volume.grid.orientation == entry["axcodes"]

    @pytest.mark.parametrize("name", [name for name in NIFTIS if name != "sform_pixdim_conflict.nii.gz"])
    def test_affine(self, shared_data, name):
        volume, entry = opened(shared_data, name)
        np.testing.assert_allclose(volume.grid.affine, entry["affine"], atol=1e-3)

    @pytest.mark.parametrize("name", NIFTIS)
    def test_values(self, shared_data, name):
        volume, entry = opened(shared_data, name)
        if entry["min"] is None:
            assert volume.array.dtype == np.uint8
            return
        finite = volume.array[np.isfinite(volume.array)]
        assert (float(finite.min()), float(finite.max())) == pytest.approx((entry["min"], entry["max"]))

    def test_pixdim_is_the_truth_where_the_sform_lost_it(self, shared_data):
        volume, _ = opened(shared_data, "sform_pixdim_conflict.nii.gz")
        assert volume.grid.spacing == pytest.approx((10.0, 1.5, 1.5))

    def test_what_was_decided_about_the_spacing_is_told(self, shared_data):
        volume, _ = opened(shared_data, "sform_pixdim_conflict.nii.gz")
        assert "pixdim" in volume.notes[0]

    @pytest.mark.parametrize("code", ["LAS", "LPS", "ASL", "PSR", "SRA", "IPL"])
    def test_one_scan_stored_six_ways_is_one_scan(self, shared_data, code):
        from napari_medattn.data import Preparation, prepare

        how = Preparation(orientation="RAS", intensity="none")
        reference = prepare(opened(shared_data, "ras.nii.gz")[0], how)
        turned = prepare(opened(shared_data, f"reoriented_{code}_img.nii.gz")[0], how)
        np.testing.assert_array_equal(turned.array, reference.array)

    @pytest.mark.parametrize("name", TIFFS)
    def test_tiff_shape(self, shared_data, name):
        volume, entry = opened(shared_data, name)
        expected = (3, 1, 51, 35) if name.startswith("rgb") else (1, *entry["shape"])
        assert volume.array.shape == expected

    @pytest.mark.parametrize("name", ["stack_imagej.tif", "stack.ome.tif", "stack_deflate_be.tif", "stack_label.tif"])
    def test_tiff_values(self, shared_data, name):
        volume, entry = opened(shared_data, name)
        assert hashlib.sha256(volume.array.tobytes()).hexdigest()[:16] == entry["sha256_16"]

    @pytest.mark.parametrize("name", ["stack_imagej.tif", "stack.ome.tif"])
    def test_tiff_spacing(self, shared_data, name):
        volume, _ = opened(shared_data, name)
        assert volume.grid.spacing == pytest.approx((2.5, 0.8, 0.8), rel=1e-4)

    def test_planar_and_contiguous_colours_are_the_same_image(self, shared_data):
        planar, contiguous = (opened(shared_data, f"rgb_{kind}.tif")[0] for kind in ("planar", "contig"))
        np.testing.assert_array_equal(planar.array, contiguous.array)

    @pytest.mark.parametrize("name", DAMAGED)
    def test_a_damaged_file_is_named_in_one_sentence(self, shared_data, name):
        with pytest.raises(ReadError) as caught:
            read_volume(shared_data / "io_formats/derived" / name)
        assert_one_sentence(caught.value, name)

    def test_a_label_of_another_shape_is_refused(self, shared_data):
        image = opened(shared_data, "ras.nii.gz")[0]
        with pytest.raises(GeometryError, match="label_bad_shape"):
            read_labels(shared_data / "io_formats/derived/label_bad_shape.nii.gz", like=image)

    @pytest.mark.parametrize("name", ["label_float64.nii.gz", "label_gaps.nii.gz", "label_binary_255.nii.gz"])
    def test_labels_keep_their_values(self, shared_data, name):
        labels = read_labels(shared_data / "io_formats/derived" / name)
        assert labels.max() == manifest(shared_data)[name]["max"]


class TestReading:
    def test_voxels_are_turned_from_xyz_to_zyx(self, tmp_path):
        data = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
        nib.save(nib.Nifti1Image(data, np.eye(4)), tmp_path / "a.nii")
        assert read_volume(tmp_path / "a.nii").array[0, 3, 2, 1] == data[1, 2, 3]

    @pytest.mark.parametrize("ending", [".nii", ".NII.GZ", ".nii.gz"])
    def test_the_suffix_may_be_written_in_any_case(self, tmp_path, ending):
        nib.save(nib.Nifti1Image(np.ones((2, 3, 4), np.uint8), np.eye(4)), tmp_path / f"a{ending}")
        assert read_volume(tmp_path / f"a{ending}").name == "a"

    def test_a_name_keeps_its_inner_dots(self):
        assert stem("x/sub-01.v2.nii.gz") == "sub-01.v2"

    def test_a_missing_file_is_said_to_be_missing(self, tmp_path):
        with pytest.raises(ReadError, match="does not exist"):
            read_volume(tmp_path / "none.nii.gz")

    def test_an_unknown_format_lists_the_known_ones(self, tmp_path):
        (tmp_path / "a.docx").write_bytes(b"x")
        with pytest.raises(ReadError, match=re.escape(".nii.gz")):
            read_volume(tmp_path / "a.docx")

    @pytest.mark.parametrize("name", ["a.nii", "a.nii.gz", "a.tif"])
    @pytest.mark.parametrize("content", [b"", b"garbage" * 100, b"\x1f\x8b"], ids=["empty", "garbage", "gzip magic"])
    def test_garbage_is_named_in_one_sentence(self, tmp_path, name, content):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ReadError) as caught:
            read_volume(tmp_path / name)
        assert_one_sentence(caught.value, name)

    def test_a_header_that_claims_terabytes_is_refused_before_reading(self, tmp_path):
        header = nib.Nifti1Header()
        header.set_data_shape((30000, 30000, 30000))
        header.set_data_dtype(np.float64)
        header["magic"], header["vox_offset"] = b"n+1", 352
        (tmp_path / "huge.nii.gz").write_bytes(gzip.compress(header.binaryblock + bytes(1000)))
        with pytest.raises(ReadError, match=r"huge\.nii\.gz.*claims") as caught:
            read_volume(tmp_path / "huge.nii.gz")
        assert_one_sentence(caught.value, "huge.nii.gz")

    @pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
    @pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
    def test_a_cut_off_nifti_is_refused(self, tmp_path, ending, share):
        path = tmp_path / f"cut{ending}"
        noise = np.random.default_rng(0).integers(0, 999, (8, 9, 10)).astype(np.int16)
        nib.save(nib.Nifti1Image(noise, np.eye(4)), path)
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
        with pytest.raises(ReadError, match="cut"):
            read_volume(path)

    @pytest.mark.parametrize("compression", [None, "zlib"])
    @pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
    def test_a_cut_off_tiff_is_refused_unless_all_voxels_are_there(self, tmp_path, compression, share):
        """Not silently read as its first slice."""
        path = tmp_path / "cut.tif"
        noise = np.random.default_rng(0).integers(0, 999, (8, 9, 10)).astype(np.int16)
        tifffile.imwrite(path, noise, compression=compression, photometric="minisblack", metadata={"axes": "ZYX"})
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
        try:
            np.testing.assert_array_equal(read_volume(path).array[0], noise)
        except ReadError as error:
            assert_one_sentence(error, path.name)

    @example(position=43, value=128)
    @given(position=st.integers(0, 347), value=st.integers(0, 255))
    def test_one_wrong_header_byte_gives_a_volume_or_a_read_error(self, tmp_path, position, value):
        path = tmp_path / "flipped.nii"
        image = nib.Nifti1Image(np.ones((3, 4, 5), np.int16), OBLIQUE)
        content = bytearray(image.to_bytes())
        content[position] = value
        path.write_bytes(content)
        try:
            assert read_volume(path).array.ndim == 4
        except ReadError as error:
            assert_one_sentence(error, path.name)

    def test_a_float_image_is_no_label_map(self, tmp_path):
        nib.save(nib.Nifti1Image(np.full((2, 3, 4), 0.5, np.float32), np.eye(4)), tmp_path / "soft.nii")
        with pytest.raises(GeometryError, match="soft"):
            read_labels(tmp_path / "soft.nii")

    def test_labels_with_nan_are_refused(self, tmp_path):
        data = np.zeros((2, 3, 4), np.float32)
        data[0, 0, 0] = np.nan
        nib.save(nib.Nifti1Image(data, np.eye(4)), tmp_path / "nan.nii")
        with pytest.raises(GeometryError, match="nan"):
            read_labels(tmp_path / "nan.nii")

    @pytest.mark.parametrize("micrometres", [0.5, 0.02], ids=["light microscope", "electron microscope"])
    def test_a_micrograph_in_micrometres_has_its_spacing(self, tmp_path, micrometres):
        path = tmp_path / "cells.tif"
        per_unit = 1 / micrometres
        data = np.zeros((3, 8, 8), np.uint8)
        facts = {"axes": "ZYX", "unit": "um", "spacing": micrometres}
        tifffile.imwrite(path, data, imagej=True, resolution=(per_unit, per_unit), metadata=facts)
        assert read_volume(path).grid.spacing == pytest.approx((micrometres / 1000,) * 3, rel=1e-4)

    def test_a_tiff_with_zero_spacing_is_read_or_refused_by_name(self, tmp_path):
        path = tmp_path / "zero.tif"
        facts = {"axes": "ZYX", "unit": "um", "spacing": 0.0}
        tifffile.imwrite(path, np.zeros((3, 8, 8), np.uint8), imagej=True, resolution=(2, 2), metadata=facts)
        try:
            assert min(read_volume(path).grid.spacing) > 0
        except ReadError as error:
            assert_one_sentence(error, path.name)


GEOMETRY = ("pixdim", "qform_code", "sform_code", "xyzt_units", "quatern_b", "quatern_c", "quatern_d")
GEOMETRY += ("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z")


def made_source(kind: str) -> nib.Nifti1Image:
    """A scan whose header places it in one of the ways that scanners and programs do."""
    shape = {"2-D": (6, 5), "4-D": (6, 5, 7, 3), "one slice": (6, 5, 1)}.get(kind, (6, 5, 7))
    make = nib.Nifti2Image if kind == "NIfTI-2" else nib.Nifti1Image
    image = make(np.arange(np.prod(shape), dtype=np.int16).reshape(shape), OBLIQUE)
    image.set_qform(OBLIQUE, code=2)
    image.set_sform(OBLIQUE, code=1)
    if kind in ("qform only", "neither"):
        image.header["sform_code"] = 0
    if kind in ("sform only", "neither", "lost zooms"):
        image.header["qform_code"] = 0
    if kind == "lost zooms":  # ACDC: the sform says 1 mm, pixdim the truth
        for row, values in zip(("srow_x", "srow_y", "srow_z"), np.diag([-1.0, -1.0, 1.0, 1.0]), strict=False):
            image.header[row] = values
        image.header["pixdim"][1:4] = (1.5, 1.5, 10.0)
    if kind == "conflict":
        image.header["qoffset_x"] = 99.0
    if kind == "scaled":
        image.header.set_slope_inter(0.5, -1024)
    image.header.set_xyzt_units("mm", "sec")
    return image


SOURCES = ["both", "sform only", "qform only", "neither", "lost zooms", "conflict", "2-D", "one slice", "4-D"]
SOURCES += ["NIfTI-2", "scaled", "big-endian"]


def written(tmp_path: Path, kind: str, ending: str = ".nii.gz") -> tuple[Volume, np.ndarray, Path]:
    """A source read from disk, labels on it, and the path of the mask that was written for it."""
    image = made_source(kind)
    if kind == "big-endian":
        image = nib.Nifti1Image(np.asarray(image.dataobj), None, image.header.as_byteswapped(">"))
    nib.save(image, tmp_path / "source.nii")
    volume = read_volume(tmp_path / "source.nii")
    labels = np.random.default_rng(1).integers(0, 4, volume.grid.shape).astype(np.int64)
    write_labels(tmp_path / f"mask{ending}", labels, like=volume, class_names=("nothing", "a", "b", "ç"))
    return volume, labels, tmp_path / f"mask{ending}"


def full_disk(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class TestWriting:
    @pytest.mark.parametrize("kind", SOURCES)
    def test_every_geometry_field_is_kept_bit_by_bit(self, tmp_path, kind):
        written(tmp_path, kind)
        source, mask = (nib.load(tmp_path / name).header for name in ("source.nii", "mask.nii.gz"))
        differing = [f for f in GEOMETRY if np.asarray(source[f]).tobytes() != np.asarray(mask[f]).tobytes()]
        assert differing == []

    @pytest.mark.parametrize("kind", SOURCES)
    def test_other_programs_see_the_same_affine(self, tmp_path, kind):
        written(tmp_path, kind)
        np.testing.assert_array_equal(*(nib.load(tmp_path / n).affine for n in ("source.nii", "mask.nii.gz")))

    @pytest.mark.parametrize("ending", [".nii", ".nii.gz", ".tif"])
    @pytest.mark.parametrize("kind", SOURCES)
    def test_labels_come_back(self, tmp_path, kind, ending):
        volume, labels, path = written(tmp_path, kind, ending)
        np.testing.assert_array_equal(read_labels(path, like=volume), labels)

    @pytest.mark.parametrize("ending", [".nii.gz", ".tif"])
    def test_class_names_come_back(self, tmp_path, ending):
        path = written(tmp_path, "both", ending)[2]
        assert read_volume(path).class_names == ("nothing", "a", "b", "ç")

    def test_a_mask_read_back_lies_on_its_source(self, tmp_path):
        volume, _, path = written(tmp_path, "lost zooms")
        assert read_volume(path).grid.matches(volume.grid)

    def test_the_mask_is_not_scaled_like_its_source(self, tmp_path):
        header = nib.load(written(tmp_path, "scaled")[2]).header
        assert header.get_slope_inter() in ((1.0, 0.0), (None, None))

    @pytest.mark.parametrize("slices", [3, 4])
    def test_a_tiff_of_few_slices_is_no_colour_image(self, tmp_path, slices):
        labels = np.zeros((slices, 6, 5), np.uint8)
        write_labels(tmp_path / "m.tif", labels, Volume(labels[None], Grid.from_spacing(labels.shape, (1, 1, 1))))
        with tifffile.TiffFile(tmp_path / "m.tif") as file:
            assert file.pages[0].photometric == tifffile.PHOTOMETRIC.MINISBLACK

    def test_an_obliquely_cut_tiff_mask_keeps_its_spacing(self, tmp_path):
        volume, _, path = written(tmp_path, "both", ".tif")
        assert read_volume(path).grid.spacing == pytest.approx(volume.grid.spacing)

    @pytest.mark.parametrize(("highest", "dtype"), [(1, "u1"), (255, "u1"), (256, "u2"), (65536, "u4")])
    def test_the_smallest_type_that_holds_all_labels(self, highest, dtype):
        assert whole_numbers(np.array([0, highest]), "mask").dtype == np.dtype(dtype)

    @given(
        shape=st.tuples(*[st.integers(1, 5)] * 3),
        spacing=st.tuples(*[st.floats(0.01, 50)] * 3),
        offset=st.tuples(*[st.floats(-300, 300)] * 3),
        ending=st.sampled_from([".nii", ".tif"]),
        data=st.data(),
    )
    def test_any_mask_comes_back(self, tmp_path, shape, spacing, offset, ending, data):
        labels = data.draw(hnp.arrays(np.uint16, shape, elements=st.integers(0, 300)))
        affine = OBLIQUE @ np.diag([*spacing, 1.0])
        affine[:3, 3] = offset
        like = Volume(np.zeros((1, *shape), np.uint8), Grid(shape, affine))
        write_labels(tmp_path / f"m{ending}", labels, like)
        np.testing.assert_array_equal(read_labels(tmp_path / f"m{ending}", like), labels)

    @given(shape=st.tuples(*[st.integers(1, 5)] * 3), spacing=st.floats(0.01, 50), shift=st.floats(-300, 300))
    def test_any_affine_comes_back_to_float32(self, tmp_path, shape, spacing, shift):
        affine = OBLIQUE @ np.diag([spacing, 2.0, 1.0, 1.0])
        affine[0, 3] += shift
        like = Volume(np.zeros((1, *shape), np.uint8), Grid(shape, affine))
        write_labels(tmp_path / "m.nii", np.ones(shape, np.uint8), like)
        np.testing.assert_allclose(read_volume(tmp_path / "m.nii").grid.affine, affine, rtol=1e-5, atol=1e-4)

    def test_a_slice_wider_than_nifti_1_can_say_is_written_all_the_same(self, tmp_path):
        labels = np.ones((1, 1, 40_000), np.uint8)
        like = Volume(labels[None], Grid.from_spacing(labels.shape, (1, 1, 1)), spatial_dims=2)
        write_labels(tmp_path / "wide.nii", labels, like)
        assert read_labels(tmp_path / "wide.nii").shape == labels.shape


class TestRefusedMasks:
    @pytest.fixture
    def like(self) -> Volume:
        return Volume(np.zeros((1, 4, 5, 6), np.int16), Grid.from_spacing((4, 5, 6), (1, 1, 1)), name="scan")

    def test_another_shape(self, tmp_path, like):
        with pytest.raises(GeometryError, match="scan"):
            write_labels(tmp_path / "m.nii", np.zeros((4, 5, 7), np.uint8), like)

    def test_negative_labels(self, tmp_path, like):
        with pytest.raises(GeometryError, match="whole numbers"):
            write_labels(tmp_path / "m.nii", np.full((4, 5, 6), -1), like)

    @pytest.mark.parametrize("value", [0.5, np.nan])
    def test_fractions_are_not_cut_off(self, tmp_path, like, value):
        with pytest.raises(GeometryError, match="whole numbers"):
            write_labels(tmp_path / "m.nii", np.full((4, 5, 6), value), like)

    def test_an_unknown_suffix(self, tmp_path, like):
        with pytest.raises(SaveError, match=r"m\.docx"):
            write_labels(tmp_path / "m.docx", np.zeros((4, 5, 6), np.uint8), like)

    def test_a_folder_that_does_not_exist(self, tmp_path, like):
        with pytest.raises(SaveError, match="Create the folder"):
            write_labels(tmp_path / "none" / "m.nii", np.zeros((4, 5, 6), np.uint8), like)


@pytest.mark.parametrize("ending", [".nii.gz", ".tif"])
@pytest.mark.parametrize("broken", ["nibabel.save", "tifffile.imwrite", "os.fsync", "os.replace"])
class TestFullDisk:
    @pytest.fixture
    def failed(self, tmp_path, monkeypatch, broken, ending) -> tuple[Path, bytes]:
        if (broken, ending) in (("nibabel.save", ".tif"), ("tifffile.imwrite", ".nii.gz")):
            pytest.skip("the other format's writer")
        path = written(tmp_path, "both", ending)[2]
        before = path.read_bytes()
        monkeypatch.setattr(broken, full_disk)
        with pytest.raises(SaveError, match="no space left"):
            write_labels(path, np.zeros((7, 5, 6), np.uint8), read_volume(tmp_path / "source.nii"))
        return path, before

    def test_the_older_mask_is_untouched(self, failed):
        path, before = failed
        assert path.read_bytes() == before

    def test_no_temporary_file_is_left(self, failed):
        path, _ = failed
        assert sorted(found.name for found in path.parent.glob("*.*")) == sorted([path.name, "source.nii"])
