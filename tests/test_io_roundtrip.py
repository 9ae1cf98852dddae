"""What is written comes back: labels, place, names, in every format and every orientation."""

from __future__ import annotations

import gzip
import json

import nibabel as nib
import nrrd
import numpy as np
import pytest
import SimpleITK as sitk
import tifffile
from hypothesis import given, strategies as st
from PIL import Image

from napari_medattn.data import Volume, read_labels, read_volume, write_labels
from napari_medattn.data.formats import LABEL_SUFFIXES, VALUE_SUFFIXES, mask_suffix, open_values
from napari_medattn.errors import SaveError
from napari_medattn.geometry import Grid
from tests.test_geometry import ORIENTATIONS, SHAPE, oblique_affines, stored_as

NAMES = ("background", "liver", "Größe: a\\b")
WITH_PLACE = [".nii.gz", ".nrrd", ".tif", ".mha", ".mgz"]
PRECISION = {".nii.gz": 1e-5, ".mgz": 1e-4}  # those that keep an affine in 32 bits; the others are exact


def drawn(shape=SHAPE) -> np.ndarray:
    return np.random.default_rng(5).integers(0, 3, shape).astype(np.int64)


def like(grid: Grid, **facts) -> Volume:
    return Volume(np.zeros((1, *grid.shape), np.int16), grid, name="scan", **facts)


class TestPlace:
    @pytest.mark.parametrize("orientation", ORIENTATIONS)
    @pytest.mark.parametrize("ending", WITH_PLACE)
    def test_every_orientation_comes_back(self, tmp_path, orientation, ending):
        grid = stored_as(orientation)
        write_labels(tmp_path / f"m{ending}", drawn(), like(grid), NAMES)
        back = read_volume(tmp_path / f"m{ending}")
        assert back.grid.orientation == orientation
        np.testing.assert_allclose(back.grid.affine, grid.affine, atol=PRECISION.get(ending, 1e-12))
        np.testing.assert_array_equal(back.labels(), drawn())

    @given(oblique_affines(), st.sampled_from([".nii", ".nrrd", ".tif", ".mha"]))
    def test_every_affine_comes_back(self, tmp_path, affine, ending):
        grid = Grid(SHAPE, affine)
        write_labels(tmp_path / f"m{ending}", drawn(), like(grid))
        back = read_volume(tmp_path / f"m{ending}").grid.affine
        np.testing.assert_allclose(back, affine, rtol=1e-6, atol=1e-4 if ending == ".nii" else 1e-9)

    @pytest.mark.parametrize("ending", [".nrrd", ".tif"])
    def test_a_sheared_grid_comes_back(self, tmp_path, ending):
        affine = np.array([[0.8, 0.3, 0, 1], [0, 1.1, -0.4, 2], [0, 0, 2.5, 3], [0, 0, 0, 1]])
        write_labels(tmp_path / f"m{ending}", drawn(), like(Grid(SHAPE, affine)))
        np.testing.assert_array_equal(read_volume(tmp_path / f"m{ending}").grid.affine, affine)

    @pytest.mark.parametrize("orientation", ["RAS", "LPS", "PSR", "IPL"])
    def test_other_programs_see_the_same_place_in_every_format(self, tmp_path, orientation):
        """SimpleITK reads our NIfTI, NRRD and MetaImage as one image."""
        read = []
        for ending in (".nii.gz", ".nrrd", ".mha"):
            write_labels(tmp_path / f"m{ending}", drawn(), like(stored_as(orientation)), NAMES)
            read.append(sitk.ReadImage(str(tmp_path / f"m{ending}")))
        for other in read[1:]:
            np.testing.assert_array_equal(sitk.GetArrayFromImage(other), drawn())
            for fact in ("GetOrigin", "GetSpacing", "GetDirection"):
                np.testing.assert_allclose(getattr(other, fact)(), getattr(read[0], fact)(), atol=1e-5)

    @pytest.mark.parametrize("ending", [".nrrd", ".mha", ".tif", ".png"])
    def test_a_2d_mask_is_2d(self, tmp_path, ending):
        grid = Grid((1, 5, 6), np.diag([0.5, 0.25, 1.0, 1.0]))
        write_labels(tmp_path / f"m{ending}", drawn((1, 5, 6)), like(grid, spatial_dims=2), NAMES)
        back = read_volume(tmp_path / f"m{ending}")
        assert back.spatial_dims == 2
        np.testing.assert_array_equal(back.labels(), drawn((1, 5, 6)))
        assert back.grid.spacing[1:] == pytest.approx((0.25, 0.5))

    @pytest.mark.parametrize("oriented", [True, False])
    @pytest.mark.parametrize("ending", [".tif", ".png"])
    def test_whether_right_and_left_are_known_comes_back(self, tmp_path, ending, oriented):
        grid = Grid((1, 5, 6), np.diag([0.5, 0.25, 1.0, 1.0]), oriented=oriented)
        write_labels(tmp_path / f"m{ending}", drawn((1, 5, 6)), like(grid, spatial_dims=2))
        assert read_volume(tmp_path / f"m{ending}").grid.oriented == oriented

    def test_a_mask_of_a_png_has_its_size(self, tmp_path):
        picture = np.random.default_rng(0).integers(0, 255, (7, 9, 3)).astype(np.uint8)
        Image.fromarray(picture).save(tmp_path / "skin.png")
        scan = read_volume(tmp_path / "skin.png")
        write_labels(tmp_path / "skin_mask.png", drawn((7, 9)), scan, NAMES)
        with Image.open(tmp_path / "skin_mask.png") as mask:
            assert (mask.size, mask.mode) == ((9, 7), "L")


class TestSourceGeometry:
    """A mask keeps the very numbers of its source where the format is the same."""

    def test_nrrd(self, tmp_path):
        header = {
            "space": "right-anterior-superior",
            "space directions": np.array([[0.1 + 0.2, 0, 0], [0, -1 / 3, 0], [0, 1e-7, 2.5]]),
            "space origin": np.array([1 / 7, -12.345678901234567, 3e5]),
            "space units": ["mm", "mm", "mm"],
            "measurement frame": np.eye(3),
        }
        nrrd.write(str(tmp_path / "s.nrrd"), np.zeros(SHAPE[::-1], np.int16), header)
        write_labels(tmp_path / "m.nrrd", drawn(), read_volume(tmp_path / "s.nrrd"))
        kept = nrrd.read_header(str(tmp_path / "m.nrrd"))
        assert kept["space"] == header["space"]
        for key in ("space directions", "space origin", "measurement frame"):
            np.testing.assert_array_equal(kept[key], header[key])

    def test_metaimage(self, tmp_path):
        image = sitk.GetImageFromArray(np.zeros(SHAPE, np.int16))
        image.SetSpacing((0.1 + 0.2, 1 / 3, 2.5))
        image.SetOrigin((1 / 7, -12.345678901234567, 3e5))
        turn = nib.eulerangles.euler2mat(0.1, 0.2, 0.3)
        image.SetDirection(tuple(turn.ravel()))
        sitk.WriteImage(image, str(tmp_path / "s.mha"))
        source = sitk.ReadImage(str(tmp_path / "s.mha"))
        write_labels(tmp_path / "m.mha", drawn(), read_volume(tmp_path / "s.mha"))
        mask = sitk.ReadImage(str(tmp_path / "m.mha"))
        for fact in ("GetOrigin", "GetSpacing", "GetDirection"):
            assert getattr(mask, fact)() == getattr(source, fact)()

    def test_freesurfer(self, tmp_path):
        affine = nib.affines.from_matvec(nib.eulerangles.euler2mat(0.1, 0.2, 0.3) * 1.3, [1, 2, 3])
        nib.save(nib.MGHImage(np.zeros(SHAPE[::-1], np.float32), affine), tmp_path / "s.mgz")
        write_labels(tmp_path / "m.mgz", drawn(), read_volume(tmp_path / "s.mgz"))
        source, mask = (nib.load(tmp_path / name).header for name in ("s.mgz", "m.mgz"))
        for field in ("delta", "Mdc", "Pxyz_c", "goodRASFlag"):
            np.testing.assert_array_equal(source[field], mask[field])

    def test_a_nifti_pair_gives_its_header_to_a_single_file(self, tmp_path):
        affine = nib.affines.from_matvec(nib.eulerangles.euler2mat(0.1, 0.2, 0.3) * 1.3, [1, 2, 3])
        nib.save(nib.Nifti1Pair(np.zeros(SHAPE[::-1], np.int16), affine), tmp_path / "s.hdr")
        scan = read_volume(tmp_path / "s.hdr")
        write_labels(tmp_path / "m.nii.gz", drawn(), scan)
        source, mask = (nib.load(tmp_path / name).header for name in ("s.hdr", "m.nii.gz"))
        for field in ("pixdim", "qform_code", "sform_code", "xyzt_units", "srow_x", "srow_y", "srow_z", "quatern_b"):
            assert source[field].tobytes() == mask[field].tobytes()
        np.testing.assert_array_equal(read_labels(tmp_path / "m.nii.gz", like=scan), drawn())


class TestNames:
    @pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".tif", ".mha"])
    def test_class_names_come_back(self, tmp_path, ending):
        write_labels(tmp_path / f"m{ending}", drawn(), like(stored_as("RAS")), NAMES)
        assert read_volume(tmp_path / f"m{ending}").class_names == NAMES

    def test_class_names_come_back_from_a_png(self, tmp_path):
        write_labels(tmp_path / "m.png", drawn((5, 6)), like(stored_as("RAS", shape=(1, 5, 6)), spatial_dims=2), NAMES)
        assert read_volume(tmp_path / "m.png").class_names == NAMES

    def test_slicer_finds_its_segment_fields(self, tmp_path):
        write_labels(tmp_path / "m.seg.nrrd", drawn(), like(stored_as("RAS")), NAMES)
        header = nrrd.read_header(str(tmp_path / "m.seg.nrrd"))
        assert (header["Segment0_Name"], header["Segment0_LabelValue"], header["Segment0_Layer"]) == ("liver", "1", "0")
        assert header["Segment1_LabelValue"] == "2"
        assert len(header["Segment0_Color"].split()) == 3
        assert header["Segment0_Extent"] == "0 5 0 4 0 3"

    def test_segments_in_any_order_are_named_by_their_value(self, tmp_path):
        facts = {"Segment0_Name": "b", "Segment0_LabelValue": "3", "Segment1_Name": "a", "Segment1_LabelValue": "1"}
        nrrd.write(str(tmp_path / "s.seg.nrrd"), drawn().T.astype(np.uint8), facts)
        assert read_volume(tmp_path / "s.seg.nrrd").class_names == ("background", "a", "class 2", "b")


class TestTypes:
    @pytest.mark.parametrize("ending", [".nii.gz", ".nrrd", ".tif", ".mha"])
    @pytest.mark.parametrize(("highest", "bits"), [(1, 8), (256, 16), (70_000, 32)])
    def test_the_smallest_type_that_holds_the_labels(self, tmp_path, ending, highest, bits):
        labels = drawn()
        labels[0, 0, 0] = highest
        write_labels(tmp_path / f"m{ending}", labels, like(stored_as("RAS")))
        volume = read_volume(tmp_path / f"m{ending}")
        assert volume.array.dtype == np.dtype(f"u{bits // 8}")
        np.testing.assert_array_equal(volume.labels(), labels)

    @pytest.mark.parametrize("highest", [200, 30_000, 2_000_000])
    def test_freesurfer_holds_large_labels(self, tmp_path, highest):
        labels = drawn()
        labels[0, 0, 0] = highest
        write_labels(tmp_path / "m.mgz", labels, like(stored_as("RAS")))
        np.testing.assert_array_equal(read_labels(tmp_path / "m.mgz"), labels)

    def test_a_png_refuses_a_stack(self, tmp_path):
        with pytest.raises(SaveError, match="one slice"):
            write_labels(tmp_path / "m.png", drawn(), like(stored_as("RAS")))

    @pytest.mark.parametrize("ending", [".hdr", ".jpg", ".mhd", ".nhdr"])
    def test_a_format_for_reading_only_lists_the_others(self, tmp_path, ending):
        with pytest.raises(SaveError, match=r"\.nii\.gz"):
            write_labels(tmp_path / f"m{ending}", drawn(), like(stored_as("RAS")))

    @pytest.mark.parametrize(
        ("image", "ending"),
        [("a.nii.gz", ".nii.gz"), ("a.NII", ".NII"), ("a.hdr", ".nii.gz"), ("a.jpg", ".png"), ("a.dcm", ".dcm")],
    )
    def test_a_mask_is_named_like_its_image_where_it_can_be(self, image, ending):
        assert mask_suffix(image) == ending

    def test_every_suffix_for_masks_can_be_written(self, tmp_path):
        flat = like(stored_as("RAS", shape=(1, 5, 6)), spatial_dims=2)
        for ending in LABEL_SUFFIXES:
            if ending not in (".dcm", ".dicom", ".ima"):
                write_labels(tmp_path / f"m{ending}", drawn((5, 6)), flat)
                np.testing.assert_array_equal(read_labels(tmp_path / f"m{ending}", like=flat), drawn((1, 5, 6)))


class TestValues:
    """Probabilities and attention maps."""

    @pytest.mark.parametrize("ending", VALUE_SUFFIXES)
    @pytest.mark.parametrize("count", [None, 2])
    def test_values_come_back(self, tmp_path, ending, count):
        values = np.random.default_rng(0).random((count or 1, *SHAPE)).astype(np.float32)
        with open_values(tmp_path / f"v{ending}", like(stored_as("LPS")), count, {"attention": {"site": "a"}}) as put:
            for one in values:
                for z in range(0, SHAPE[0], 3):
                    put(one[z : z + 3])
        back = read_volume(tmp_path / f"v{ending}")
        np.testing.assert_array_equal(back.array, values)
        assert back.grid.matches(stored_as("LPS"))

    def test_slicer_reads_the_values(self, tmp_path):
        values = np.random.default_rng(0).random(SHAPE).astype(np.float32)
        with open_values(tmp_path / "v.nrrd", like(stored_as("LPS"))) as put:
            put(values)
        np.testing.assert_array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "v.nrrd"))), values)


class TestOtherWays:
    """Files as other programs store them."""

    @pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2", "ascii"])
    def test_nrrd_encodings(self, tmp_path, encoding):
        data = np.arange(60, dtype=np.int16).reshape(5, 4, 3)
        nrrd.write(str(tmp_path / "a.nrrd"), data, {"encoding": encoding})
        np.testing.assert_array_equal(read_volume(tmp_path / "a.nrrd").array[0], data.T)

    @pytest.mark.parametrize("ending", [".nhdr", ".mhd"])
    def test_detached_headers(self, tmp_path, ending):
        sitk.WriteImage(sitk.GetImageFromArray(drawn().astype(np.int16)), str(tmp_path / f"a{ending}"))
        np.testing.assert_array_equal(read_volume(tmp_path / f"a{ending}").array[0], drawn())

    @pytest.mark.parametrize("ending", [".nhdr", ".mhd"])
    def test_a_detached_header_alone_says_what_is_missing(self, tmp_path, ending):
        sitk.WriteImage(sitk.GetImageFromArray(drawn().astype(np.int16)), str(tmp_path / f"a{ending}"))
        for found in tmp_path.glob("a.*raw*"):
            found.unlink()
        with pytest.raises(Exception, match=r"voxels of a\.\w+ are missing"):
            read_volume(tmp_path / f"a{ending}")

    def test_colours_in_an_nrrd_and_a_metaimage(self, tmp_path):
        colours = np.random.default_rng(0).integers(0, 255, (4, 5, 6, 3)).astype(np.uint8)
        for ending in (".nrrd", ".mha"):
            sitk.WriteImage(sitk.GetImageFromArray(colours, isVector=True), str(tmp_path / f"a{ending}"))
            np.testing.assert_array_equal(read_volume(tmp_path / f"a{ending}").array, np.moveaxis(colours, -1, 0))

    @pytest.mark.parametrize("kind", [np.uint8, np.int16, np.uint32, np.int64, np.float32, np.float64])
    @pytest.mark.parametrize("packed", [True, False])
    def test_types_of_a_metaimage(self, tmp_path, kind, packed):
        sitk.WriteImage(sitk.GetImageFromArray(drawn().astype(kind)), str(tmp_path / "a.mha"), useCompression=packed)
        volume = read_volume(tmp_path / "a.mha")
        assert volume.array.dtype == kind
        np.testing.assert_array_equal(volume.array[0], drawn())

    def test_a_big_endian_metaimage(self, tmp_path):
        head = (
            "NDims = 3\nDimSize = 6 5 4\nElementType = MET_SHORT\nElementByteOrderMSB = True\nElementDataFile = LOCAL\n"
        )
        (tmp_path / "a.mha").write_bytes(head.encode() + drawn().astype(">i2").tobytes())
        np.testing.assert_array_equal(read_volume(tmp_path / "a.mha").array[0], drawn())

    def test_times_in_an_nrrd_and_a_metaimage(self, tmp_path):
        times = np.random.default_rng(0).integers(0, 255, (2, 4, 5, 6)).astype(np.int16)
        sitk.WriteImage(sitk.GetImageFromArray(times, isVector=False), str(tmp_path / "a.mha"))
        np.testing.assert_array_equal(read_volume(tmp_path / "a.mha").array, times)
        header = {"kinds": ["domain", "domain", "domain", "list"]}
        nrrd.write(str(tmp_path / "a.nrrd"), times.T, header)
        np.testing.assert_array_equal(read_volume(tmp_path / "a.nrrd").array, times)

    @pytest.mark.parametrize(
        ("axes", "shape"), [("TZYX", (2, 4, 5, 6)), ("CZYX", (2, 4, 5, 6)), ("ZCYX", (4, 2, 5, 6))]
    )
    def test_tiff_axes(self, tmp_path, axes, shape):
        data = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint16)
        tifffile.imwrite(tmp_path / "a.tif", data, metadata={"axes": axes}, photometric="minisblack")
        expected = data if axes != "ZCYX" else data.transpose(1, 0, 2, 3)
        np.testing.assert_array_equal(read_volume(tmp_path / "a.tif").array, expected)

    def test_a_tiff_film_is_a_stack_and_that_is_told(self, tmp_path):
        data = np.random.default_rng(0).integers(0, 255, (7, 5, 6)).astype(np.uint16)
        tifffile.imwrite(tmp_path / "a.tif", data, metadata={"axes": "TYX"}, photometric="minisblack")
        volume = read_volume(tmp_path / "a.tif")
        assert (volume.grid.shape, "time" in volume.notes[0]) == ((7, 5, 6), True)

    @pytest.mark.parametrize("compression", ["lzw", "zstd", "packbits", "lzma"])
    def test_tiff_compressions(self, tmp_path, compression):
        tifffile.imwrite(
            tmp_path / "a.tif", drawn().astype(np.uint8), compression=compression, photometric="minisblack"
        )
        np.testing.assert_array_equal(read_volume(tmp_path / "a.tif").array[0], drawn())

    def test_a_palette_tiff_is_colours_to_an_image_and_numbers_to_a_mask(self, tmp_path):
        palette = np.random.default_rng(0).integers(0, 255, (3, 256)).astype(np.uint16) * 257
        numbers = drawn((5, 6)).astype(np.uint8)
        tifffile.imwrite(tmp_path / "a.tif", numbers, photometric="palette", colormap=palette)
        np.testing.assert_array_equal(read_volume(tmp_path / "a.tif").array[:, 0], (palette // 257)[:, numbers])
        np.testing.assert_array_equal(read_labels(tmp_path / "a.tif")[0], numbers)

    @pytest.mark.parametrize("ending", ["png", "tif"])
    def test_a_json_file_beside_gives_the_affine(self, tmp_path, ending):
        affine = stored_as("PIR", shape=(1, 5, 6)).affine
        if ending == "png":
            Image.fromarray(drawn((5, 6)).astype(np.uint8)).save(tmp_path / "a.png")
        else:
            tifffile.imwrite(tmp_path / "a.tif", drawn((5, 6)).astype(np.uint8), metadata=None)
        (tmp_path / "a.json").write_text(json.dumps({"affine": affine.tolist()}))
        np.testing.assert_array_equal(read_volume(tmp_path / f"a.{ending}").grid.affine, affine)

    def test_a_jpeg_in_grey_and_one_in_cmyk(self, tmp_path):
        Image.fromarray(np.full((8, 8), 90, np.uint8)).save(tmp_path / "grey.jpg")
        Image.new("CMYK", (8, 8)).save(tmp_path / "cmyk.jpg")
        assert [read_volume(tmp_path / name).channels for name in ("grey.jpg", "cmyk.jpg")] == [1, 3]

    def test_a_png_with_the_suffix_of_a_jpeg(self, tmp_path):
        Image.fromarray(drawn((5, 6)).astype(np.uint8)).save(tmp_path / "a.png")
        (tmp_path / "a.png").rename(tmp_path / "a.jpg")
        np.testing.assert_array_equal(read_volume(tmp_path / "a.jpg").array[0, 0], drawn((5, 6)))

    def test_an_old_analyze_pair(self, tmp_path):
        nib.save(nib.AnalyzeImage(drawn().T.astype(np.int16), np.diag([-1.0, 2, 3, 1])), tmp_path / "a.hdr")
        volume = read_volume(tmp_path / "a.img")
        np.testing.assert_array_equal(volume.array[0], drawn())
        assert volume.grid.spacing == pytest.approx((3, 2, 1))
        assert "left" in volume.notes[0]

    def test_gzip_of_several_parts(self, tmp_path):
        content = nib.Nifti1Image(drawn().T.astype(np.int16), np.eye(4)).to_bytes()
        (tmp_path / "a.nii.gz").write_bytes(gzip.compress(content[:400]) + gzip.compress(content[400:]))
        np.testing.assert_array_equal(read_volume(tmp_path / "a.nii.gz").array[0], drawn())
