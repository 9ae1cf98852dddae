"""DICOM series as scanners and archives leave them: in any order, with gaps, compressed, and private."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given
from pydicom.data import get_testdata_file
from pydicom.uid import JPEGLSLossless, RLELossless

from napari_medattn.data import read_volume
from napari_medattn.data.dicom import list_series
from napari_medattn.errors import ReadError
from napari_medattn.layerdata import volume_to_layer
from tests.dicom_tools import NORMAL, OBLIQUE, affine, image, save, save_series, voxels
from tests.test_geometry import oblique_affines


class TestOrder:
    """Files are sorted by position, whatever their names and numbers say."""

    def test_voxels(self, tmp_path):
        array = voxels()
        np.testing.assert_array_equal(read_volume(save_series(tmp_path / "s", array)).array[0], array)

    def test_affine(self, tmp_path):
        volume = read_volume(save_series(tmp_path / "s", voxels()))
        np.testing.assert_allclose(volume.grid.affine, affine(), atol=1e-5)

    def test_the_distance_comes_from_the_positions_not_from_the_thickness(self, tmp_path):
        volume = read_volume(save_series(tmp_path / "s", voxels(), SliceThickness=9.0))
        assert volume.grid.spacing == pytest.approx((2.5, 1.5, 0.5))

    def test_a_tilted_gantry_shears_the_grid(self, tmp_path):
        array = voxels((4, 5, 4))
        for z, pixels in enumerate(array):
            save(
                tmp_path / f"{9 - z}",
                image(pixels, np.array([0, 0.7 * z, 3.0 * z]), ImageOrientationPatient=[1, 0, 0, 0, 1, 0]),
            )
        volume = read_volume(tmp_path)
        np.testing.assert_allclose(volume.grid.affine[:3, 2], [0, -0.7, 3.0], atol=1e-6)
        np.testing.assert_array_equal(volume.array[0], array)

    def test_folders_within_the_folder_are_looked_through(self, tmp_path):
        array = voxels((6, 5, 4))
        names = [f"{'ab'[z % 2]}{z}" for z in range(6)]
        save_series(tmp_path / "study" / "series", array, names=names)
        assert read_volume(tmp_path).grid.shape == (6, 5, 4)

    def test_a_folder_may_be_named_like_a_file(self, tmp_path):
        assert read_volume(save_series(tmp_path / "scan.nii", voxels())).grid.shape == (6, 5, 4)

    def test_what_is_no_image_is_passed_over(self, tmp_path):
        save_series(tmp_path, voxels())
        (tmp_path / "notes.txt").write_text("x" * 500)
        (tmp_path / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
        assert read_volume(tmp_path).grid.shape == (6, 5, 4)

    def test_a_file_without_preamble_is_read(self, tmp_path):
        array = voxels((1, 5, 4))
        image(array[0]).save_as(tmp_path / "old", enforce_file_format=False)
        content = (tmp_path / "old").read_bytes()
        start = content.index(b"\x08\x00\x16\x00UI")  # the first element after preamble and meta information
        prefix = b"\x08\x00\x05\x00CS\x0a\x00ISO_IR 100"
        (tmp_path / "old").write_bytes(prefix + content[start:])
        np.testing.assert_array_equal(read_volume(tmp_path / "old").array[0], array)


class TestAnyPlace:
    @given(oblique_affines())
    def test_every_position_and_direction_comes_back(self, tmp_path_factory, place):
        """DICOM keeps directions, spacing and positions as short decimal texts."""
        folder = tmp_path_factory.mktemp("series")
        lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ place
        columns, rows = (float(np.linalg.norm(lps[:3, axis])) for axis in (0, 1))
        x, y = lps[:3, 0] / columns, lps[:3, 1] / rows
        array = voxels((3, 2, 4))
        for z, pixels in enumerate(array):
            corner = lps[:3, 3] + lps[:3, 2] * z
            turn = [float(np.round(value, 9)) for value in (*x, *y)]
            save(folder / f"{9 - z}", image(pixels, corner, ImageOrientationPatient=turn, PixelSpacing=[rows, columns]))
        volume = read_volume(folder)
        # Slices are counted along the normal, whichever way the affine ran.
        turned = np.dot(np.cross(x, y), lps[:3, 2]) < 0
        np.testing.assert_array_equal(volume.array[0], array[::-1] if turned else array)
        last = np.array([0, 0, 2, 1]) if turned else np.array([0, 0, 0, 1])
        np.testing.assert_allclose(volume.grid.affine[:3, 3], (place @ last)[:3], atol=1e-4)
        np.testing.assert_allclose(volume.grid.affine[:3, 2], place[:3, 2] * (-1 if turned else 1), atol=1e-4)
        np.testing.assert_allclose(volume.grid.affine[:3, :2], place[:3, :2], atol=1e-4)


class TestValues:
    @pytest.mark.parametrize(("slope", "intercept"), [(1, -1024), (2, -100), (1, 0)])
    def test_whole_scaling_stays_whole_and_exact(self, tmp_path, slope, intercept):
        array = voxels()
        volume = read_volume(save_series(tmp_path, array, RescaleSlope=slope, RescaleIntercept=intercept))
        assert volume.array.dtype == np.int16
        np.testing.assert_array_equal(volume.array[0], array.astype(int) * slope + intercept)

    def test_each_slice_has_its_own_slope_as_in_pet(self, tmp_path):
        array, slopes = voxels(), [0.5, 0.25, 1.5, 2.0, 0.1, 3.25]
        volume = read_volume(save_series(tmp_path, array, RescaleSlope=slopes, RescaleIntercept=0))
        np.testing.assert_allclose(volume.array[0], array * np.array(slopes)[:, None, None], rtol=1e-6)

    def test_twelve_bits_fit_into_sixteen(self, tmp_path):
        facts = {"BitsStored": 12, "HighBit": 11, "RescaleSlope": 1, "RescaleIntercept": -1024}
        array = voxels(dtype=np.uint16)
        volume = read_volume(save_series(tmp_path, array, **facts))
        assert volume.array.dtype == np.int16
        assert volume.array.min() < -800

    @pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless])
    def test_lossless_compression_changes_nothing(self, tmp_path, syntax):
        array = voxels((3, 16, 16), np.uint16)
        for z, pixels in enumerate(array):
            made = image(pixels, np.array([0, 0, 0]) + NORMAL * z)
            made.compress(syntax, generate_instance_uid=False)
            save(tmp_path / f"{z}", made)
        np.testing.assert_array_equal(read_volume(tmp_path).array[0], array)

    @pytest.mark.parametrize("name", ["JPEG2000.dcm", "JPGExtended.dcm", "MR_small_jp2klossless.dcm", "JPEG-lossy.dcm"])
    def test_other_compressions_are_decompressed(self, name):
        volume = read_volume(get_testdata_file(name))
        assert volume.array.max() > volume.array.min()

    @pytest.mark.parametrize("compressor", ["JPEG", "JPEG2000"])
    def test_what_gdcm_compressed_without_loss_is_as_it_was(self, tmp_path, compressor):
        array = voxels((1, 16, 16), np.uint16)
        writer = sitk.ImageFileWriter()
        writer.SetImageIO("GDCMImageIO")
        writer.SetFileName(str(tmp_path / "a.dcm"))
        writer.SetCompressor(compressor)
        writer.UseCompressionOn()
        writer.Execute(sitk.GetImageFromArray(array))
        np.testing.assert_array_equal(read_volume(tmp_path / "a.dcm").array[0], array)

    @pytest.mark.parametrize("name", ["MR_small_RLE.dcm", "MR_small_jp2klossless.dcm", "MR_small_bigendian.dcm"])
    def test_one_image_stored_in_several_ways_is_one_image(self, name):
        plain = read_volume(get_testdata_file("MR_small.dcm")).array
        np.testing.assert_array_equal(read_volume(get_testdata_file(name)).array, plain)

    @pytest.mark.parametrize("name", ["SC_rgb_rle.dcm", "SC_rgb_jpeg_gdcm.dcm", "SC_ybr_full_422_uncompressed.dcm"])
    def test_colours_are_three_channels_of_rgb(self, name):
        volume = read_volume(get_testdata_file(name))
        assert (volume.channels, volume.array.dtype, volume.spatial_dims) == (3, np.uint8, 2)
        assert tuple(volume.array[:, 0, 5, 50]) == pytest.approx((255, 0, 0), abs=3)  # a red bar lies at the top

    def test_a_palette_becomes_colours(self):
        assert read_volume(get_testdata_file("examples_palette.dcm")).array.shape == (3, 1, 350, 800)

    def test_a_film_is_a_stack_and_that_is_told(self):
        volume = read_volume(get_testdata_file("examples_ybr_color.dcm"))
        assert volume.array.shape == (3, 30, 240, 320)
        assert "position" in volume.notes[0]

    def test_inverted_images_say_so(self, tmp_path):
        volume = read_volume(save_series(tmp_path, voxels(), PhotometricInterpretation="MONOCHROME1"))
        assert any("bright" in note for note in volume.notes)


class TestGaps:
    def test_a_missing_slice_is_filled_in_and_told(self, tmp_path):
        array = voxels()
        kept = [0, 1, 3, 4, 5]
        volume = read_volume(save_series(tmp_path, array[kept], heights=[2.5 * z for z in kept]))
        assert volume.grid.shape == (6, 5, 4)
        np.testing.assert_array_equal(volume.array[0][kept], array[kept])
        between = np.rint((array[1].astype(float) + array[3]) / 2)
        np.testing.assert_array_equal(volume.array[0, 2], between)
        assert "1 slice is missing (after slice 2)" in volume.notes[0]

    def test_with_a_missing_slice_all_others_keep_their_place(self, tmp_path):
        volume = read_volume(save_series(tmp_path, voxels((4, 5, 4)), heights=[0, 2.5, 7.5, 10]))
        np.testing.assert_allclose(volume.grid.affine, affine(), atol=1e-5)

    def test_slightly_uneven_slices_are_shown_at_their_mean_distance(self, tmp_path):
        volume = read_volume(save_series(tmp_path, voxels(), heights=[0, 2.4, 5.1, 7.4, 10.0, 12.5]))
        assert volume.grid.spacing[0] == pytest.approx(2.5)
        assert "apart" in volume.notes[0]

    def test_two_slabs_far_apart_are_told_to_have_wrong_lengths(self, tmp_path):
        volume = read_volume(save_series(tmp_path, voxels(), heights=[0, 2.5, 5, 500, 502.5, 505]))
        assert volume.grid.shape == (6, 5, 4)
        assert "lengths across are wrong" in volume.notes[0]

    def test_slices_that_are_shifted_sideways_are_told(self, tmp_path):
        for z, pixels in enumerate(voxels()):
            corner = NORMAL * 2.5 * z + np.array(OBLIQUE[:3]) * (3.0 if z == 2 else 0.0)
            save(tmp_path / f"{z}", image(pixels, corner))
        assert "shifted" in read_volume(tmp_path).notes[0]

    def test_rounded_positions_are_even(self, tmp_path):
        heights = np.round(np.arange(6) * 2.4999, 2)
        assert read_volume(save_series(tmp_path, voxels(), heights=heights)).notes == ()

    def test_copies_of_a_file_count_once(self, tmp_path):
        save_series(tmp_path, voxels())
        (tmp_path / "copy").write_bytes((tmp_path / "0003").read_bytes())
        volume = read_volume(tmp_path)
        assert volume.array.shape == (1, 6, 5, 4)
        assert "twice" in volume.notes[0]

    def test_images_without_positions_follow_their_numbers(self, tmp_path):
        array = voxels((3, 5, 4))
        for z, pixels in enumerate(array):
            save(tmp_path / f"{9 - z}", image(pixels, None, InstanceNumber=z + 1))
        volume = read_volume(tmp_path)
        np.testing.assert_array_equal(volume.array[0], array)
        assert "order of their numbers" in volume.notes[0]

    def test_an_image_without_pixel_size_is_in_pixels(self, tmp_path):
        save(tmp_path / "a.dcm", image(voxels()[0], None, PixelSpacing=None))
        assert read_volume(tmp_path / "a.dcm").grid.units == "pixel"


class TestSeveral:
    def test_several_images_a_position_are_channels_in_their_order(self, tmp_path):
        early, late = voxels(seed=1), voxels(seed=2)
        save_series(tmp_path / "b", early, TemporalPositionIdentifier=1, InstanceNumber=[*range(6)])
        save_series(tmp_path / "a", late, TemporalPositionIdentifier=2, InstanceNumber=[*range(6)])
        volume = read_volume(tmp_path)
        np.testing.assert_array_equal(volume.array, [early, late])
        assert "2 images" in volume.notes[0]

    def test_a_position_with_more_images_than_others_is_refused(self, tmp_path):
        save_series(tmp_path / "a", voxels())
        save_series(tmp_path / "b", voxels((2, 5, 4)), TemporalPositionIdentifier=2)
        with pytest.raises(ReadError, match="some positions have 1, others 2"):
            read_volume(tmp_path)

    @pytest.mark.parametrize(
        "other",
        [
            {"SeriesInstanceUID": "1.2.9", "SeriesNumber": 4},
            {"ImageOrientationPatient": [-value for value in OBLIQUE]},
        ],
        ids=["another series", "another direction"],
    )
    def test_what_does_not_belong_together_is_a_choice(self, tmp_path, other):
        save_series(tmp_path / "a", voxels())
        facts = {key: [value] * 3 for key, value in other.items()}
        save_series(tmp_path / "b", voxels((3, 5, 4), seed=4), **facts)
        with pytest.raises(ReadError, match=r"2 series: 1: .*; 2: .*Choose one"):
            read_volume(tmp_path)
        assert {read_volume(tmp_path, series=n).grid.shape[0] for n in (1, 2)} == {3, 6}

    def test_mixed_sizes_are_a_choice(self, tmp_path):
        save_series(tmp_path / "a", voxels())
        save_series(tmp_path / "b", voxels((2, 7, 8)))
        assert [one.label for one in list_series(tmp_path)] == ["CT 3 (6 images of 4 x 5)", "CT 3 (2 images of 8 x 7)"]

    def test_a_series_that_is_not_there_is_named(self, tmp_path):
        save_series(tmp_path, voxels())
        with pytest.raises(ReadError, match="no series 2"):
            read_volume(tmp_path, series=2)


class TestPrivate:
    """Nothing that names the patient leaves the header."""

    @pytest.fixture
    def folder(self, tmp_path):
        facts = {"SeriesDescription": "Jane's DOE brain 4711"}
        return save_series(tmp_path / "case", voxels(), **facts)

    @staticmethod
    def names_nobody(text: str) -> bool:
        return not any(word in text for word in ("Doe", "DOE", "Jane", "4711", "19700101"))

    def test_the_volume(self, folder):
        volume = read_volume(folder)
        assert self.names_nobody(f"{volume.name} {volume.notes} {volume.header!r} {volume.class_names}")

    def test_the_layer(self, folder):
        _, kwargs, _ = volume_to_layer(read_volume(folder))
        assert self.names_nobody(repr(kwargs))

    def test_the_choice_of_series(self, folder):
        save_series(folder / "more", voxels(), SeriesInstanceUID="1.2.9", SeriesDescription="Jane DOE")
        with pytest.raises(ReadError) as caught:
            read_volume(folder)
        assert self.names_nobody(str(caught.value))

    def test_a_harmless_description_is_kept(self, tmp_path):
        assert read_volume(save_series(tmp_path, voxels(), SeriesDescription="T1 ax")).name == "CT 3 T1 ax"

    @pytest.mark.parametrize(("text", "kept"), [("li brain", ""), ("liver", "liver")])
    def test_a_short_name_is_found_as_a_word(self, tmp_path, text, kept):
        folder = save_series(tmp_path, voxels(), PatientName="Li^W", SeriesDescription=text)
        assert list_series(folder)[0].description == kept

    def test_warnings_and_logs(self, tmp_path, recwarn, caplog):
        folder = save_series(tmp_path, voxels(), PatientName="Doe^Jane" * 20)
        read_volume(folder)
        assert self.names_nobody("".join(str(one.message) for one in recwarn) + caplog.text)


class TestDamage:
    @pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.98])
    def test_a_cut_off_file_is_named(self, tmp_path, share):
        folder = save_series(tmp_path, voxels())
        path = folder / "0003"
        path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
        with pytest.raises(ReadError) as caught:
            read_volume(folder)
        assert "\n" not in str(caught.value)
        assert TestPrivate.names_nobody(str(caught.value))

    def test_a_header_that_claims_more_pixels_than_there_are(self, tmp_path):
        save(tmp_path / "huge.dcm", image(voxels()[0], Rows=60000, Columns=60000, NumberOfFrames=1000))
        with pytest.raises(ReadError, match=r"huge\.dcm"):
            read_volume(tmp_path / "huge.dcm")

    def test_rows_and_columns_in_one_direction(self, tmp_path):
        save(tmp_path / "a", image(voxels()[0], ImageOrientationPatient=[1, 0, 0, 1, 0, 0]))
        with pytest.raises(ReadError, match="ImageOrientationPatient"):
            read_volume(tmp_path / "a")

    def test_a_header_without_rows(self, tmp_path):
        save(tmp_path / "a.dcm", image(voxels()[0], Rows=None))
        with pytest.raises(ReadError, match="no usable Rows"):
            read_volume(tmp_path / "a.dcm")

    def test_a_file_without_pixels(self, tmp_path):
        made = image(voxels()[0])
        del made.PixelData
        save(tmp_path / "a.dcm", made)
        with pytest.raises(ReadError, match="holds no pixels"):
            read_volume(tmp_path / "a.dcm")

    def test_an_empty_folder(self, tmp_path):
        (tmp_path / "none").mkdir()
        with pytest.raises(ReadError, match="holds no DICOM files"):
            read_volume(tmp_path / "none")

    def test_directions_that_differ_in_the_last_digit_are_one_series(self, tmp_path):
        turned = [list(np.array(OBLIQUE) + 1e-5 * z) for z in range(6)]
        assert read_volume(save_series(tmp_path, voxels(), ImageOrientationPatient=turned)).grid.shape == (6, 5, 4)
