"""Masks of a DICOM series as DICOM SEG: other programs and we read back exactly what was drawn."""

from __future__ import annotations

import highdicom as hd
import numpy as np
import pydicom
import pytest

from napari_medattn.data import Volume, read_labels, read_volume, write_labels
from napari_medattn.errors import GeometryError, ReadError, SaveError
from napari_medattn.geometry import Grid
from tests.dicom_tools import image, save, save_series, voxels
from tests.test_dicom import TestPrivate

NAMES = ("background", "liver", "left kidney")


def drawn(shape=(6, 5, 4), seed=3, largest=2) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, largest + 1, shape).astype(np.uint8)


@pytest.fixture
def scan(tmp_path) -> Volume:
    return read_volume(save_series(tmp_path / "scan", voxels()))


@pytest.fixture
def segments(tmp_path, scan):
    write_labels(tmp_path / "mask.dcm", drawn(), like=scan, class_names=NAMES)
    return tmp_path / "mask.dcm"


class TestOtherPrograms:
    def test_highdicom_finds_every_voxel_where_it_was_drawn(self, segments, scan):
        volume = hd.seg.segread(segments).get_volume(combine_segments=True)
        lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ scan.grid.affine
        # highdicom's voxel axes are (slice, row, column)
        matched = volume.match_geometry(
            hd.Volume(np.zeros((6, 5, 4)), lps[:, [2, 1, 0, 3]], coordinate_system="PATIENT")
        )
        np.testing.assert_array_equal(matched.array, drawn())

    def test_each_frame_refers_to_the_image_that_it_was_drawn_on(self, segments, scan):
        found = pydicom.dcmread(segments)
        for frame, pixels in zip(found.PerFrameFunctionalGroupsSequence, found.pixel_array, strict=True):
            source = frame.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
            number = frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber
            z = next(
                z for z, ref in enumerate(scan.header.frames) if pydicom.dcmread(ref.path).SOPInstanceUID == source
            )
            np.testing.assert_array_equal(pixels, drawn()[z] == number)

    def test_class_names_are_segment_labels(self, segments):
        assert [one.SegmentLabel for one in pydicom.dcmread(segments).SegmentSequence] == list(NAMES[1:])

    def test_it_belongs_to_the_patients_study_and_frame_of_reference(self, segments):
        found = pydicom.dcmread(segments)
        assert (found.StudyInstanceUID, found.FrameOfReferenceUID, found.PatientID) == ("1.2.3", "1.2.3.5", "ID-4711")

    def test_one_bit_a_voxel(self, segments):
        found = pydicom.dcmread(segments)
        assert (found.SegmentationType, found.BitsAllocated) == ("BINARY", 1)


class TestOurselves:
    def test_labels_come_back(self, segments, scan):
        np.testing.assert_array_equal(read_labels(segments, like=scan), drawn())

    def test_class_names_come_back(self, segments):
        assert read_volume(segments).class_names == NAMES

    def test_slices_without_labels_stay_empty(self, tmp_path, scan):
        labels = np.zeros((6, 5, 4), np.uint8)
        labels[2, 1:3, 1:3] = 1
        labels[4, 0, 0] = 2
        write_labels(tmp_path / "m.dcm", labels, like=scan, class_names=NAMES)
        np.testing.assert_array_equal(read_labels(tmp_path / "m.dcm", like=scan), labels)

    def test_an_empty_mask(self, tmp_path, scan):
        labels = np.zeros((6, 5, 4), np.uint8)
        write_labels(tmp_path / "m.dcm", labels, like=scan, class_names=NAMES)
        np.testing.assert_array_equal(read_labels(tmp_path / "m.dcm", like=scan), labels)

    def test_gaps_between_labels_stay(self, tmp_path, scan):
        labels = drawn() * 7
        write_labels(tmp_path / "m.dcm", labels, like=scan)
        np.testing.assert_array_equal(read_labels(tmp_path / "m.dcm", like=scan), labels)

    def test_a_slice_that_is_missing_gets_no_frame(self, tmp_path):
        kept = [0, 1, 3, 4, 5]
        scan = read_volume(save_series(tmp_path / "s", voxels()[kept], heights=[2.5 * z for z in kept]))
        write_labels(tmp_path / "m.dcm", drawn(), like=scan)
        expected = drawn()
        expected[2] = 0
        np.testing.assert_array_equal(read_labels(tmp_path / "m.dcm", like=scan), expected)

    @pytest.mark.parametrize("heights", [[0, 2.4, 5.1, 7.4, 10.0, 12.5], [0, 2.5, 5, 500, 502.5, 505]])
    def test_uneven_slices_keep_their_own_labels(self, tmp_path, heights):
        scan = read_volume(save_series(tmp_path / "s", voxels(), heights=heights))
        write_labels(tmp_path / "m.dcm", drawn(), like=scan)
        np.testing.assert_array_equal(read_labels(tmp_path / "m.dcm", like=scan), drawn())

    def test_a_single_image(self, tmp_path):
        save(tmp_path / "one.dcm", image(voxels()[0]))
        scan = read_volume(tmp_path / "one.dcm")
        write_labels(tmp_path / "m.dcm", drawn()[:1], like=scan)
        np.testing.assert_array_equal(read_labels(tmp_path / "m.dcm", like=scan), drawn()[:1])

    def test_facts_about_the_patient_that_may_be_empty_may_be_missing(self, tmp_path):
        left_out = dict.fromkeys(("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "AccessionNumber"))
        left_out |= dict.fromkeys(("PatientName", "PatientID", "ReferringPhysicianName", "StudyID"))
        scan = read_volume(save_series(tmp_path / "s", voxels(), **left_out))
        write_labels(tmp_path / "m.dcm", drawn(), like=scan)
        np.testing.assert_array_equal(read_labels(tmp_path / "m.dcm", like=scan), drawn())

    def test_an_empty_character_set(self, tmp_path):
        scan = read_volume(save_series(tmp_path / "s", voxels(), SpecificCharacterSet=""))
        write_labels(tmp_path / "m.dcm", drawn(), like=scan)
        np.testing.assert_array_equal(read_labels(tmp_path / "m.dcm", like=scan), drawn())

    def test_several_times_share_one_mask(self, tmp_path):
        for time in (1, 2):
            save_series(tmp_path / f"s/{time}", voxels(seed=time), TemporalPositionIdentifier=time)
        scan = read_volume(tmp_path / "s")
        write_labels(tmp_path / "m.dcm", drawn(), like=scan)
        np.testing.assert_array_equal(read_labels(tmp_path / "m.dcm", like=scan), drawn())

    def test_segments_of_another_scan_are_refused(self, tmp_path, segments):
        other = read_volume(save_series(tmp_path / "other", voxels(), step=4.0))
        with pytest.raises(GeometryError, match="mask"):
            read_labels(segments, like=other)

    def test_the_series_is_also_saved_as_nifti_with_its_affine(self, tmp_path, scan):
        write_labels(tmp_path / "m.nii.gz", drawn(), like=scan)
        assert read_volume(tmp_path / "m.nii.gz").grid.matches(scan.grid)


class TestMultiFrame:
    def test_a_mask_of_a_multi_frame_image(self, shared_data, tmp_path):
        scan = read_volume(shared_data / "io_formats/third_party/dicom_seg_dcmqi_24x38x3/mf.dcm")
        labels = drawn(scan.grid.shape)
        write_labels(tmp_path / "m.dcm", labels, like=scan, class_names=NAMES)
        np.testing.assert_array_equal(read_labels(tmp_path / "m.dcm", like=scan), labels)

    def test_an_enhanced_image_whose_frames_are_out_of_order(self, tmp_path):
        """The same slices as files and as frames of one file are the same scan, and carry the same mask."""
        folder = save_series(tmp_path / "files", voxels(dtype=np.uint16), RescaleSlope=2, RescaleIntercept=-100)
        files = [pydicom.dcmread(path) for path in sorted(folder.iterdir())]
        for file in files:
            file.ImageType, file.AcquisitionNumber, file.KVP = ["ORIGINAL", "PRIMARY", "AXIAL"], 1, 120
        enhanced = hd.legacy.LegacyConvertedEnhancedCTImage(files, "1.2.7", 5, "1.2.8", 1)
        enhanced.save_as(tmp_path / "enhanced.dcm")
        one, many = read_volume(tmp_path / "enhanced.dcm"), read_volume(folder)
        np.testing.assert_array_equal(one.array, many.array)
        assert one.grid.matches(many.grid)
        write_labels(tmp_path / "m.dcm", drawn(), like=one, class_names=NAMES)
        np.testing.assert_array_equal(read_labels(tmp_path / "m.dcm", like=one), drawn())
        np.testing.assert_array_equal(read_labels(tmp_path / "m.dcm", like=many), drawn())


class TestRefused:
    def test_a_scan_that_is_no_dicom_series(self, tmp_path):
        like = Volume(np.zeros((1, 4, 5, 6), np.int16), Grid.from_spacing((4, 5, 6), (1, 1, 1)))
        with pytest.raises(SaveError, match=r"needs the DICOM series.*\.nii\.gz"):
            write_labels(tmp_path / "m.dcm", np.ones((4, 5, 6), np.uint8), like)

    def test_more_classes_than_fit(self, tmp_path, scan):
        with pytest.raises(SaveError, match="300 classes"):
            write_labels(tmp_path / "m.dcm", np.full((6, 5, 4), 300), like=scan)

    def test_a_series_without_frame_of_reference(self, tmp_path):
        scan = read_volume(save_series(tmp_path / "s", voxels(), FrameOfReferenceUID=None))
        with pytest.raises(SaveError, match="does not say where"):
            write_labels(tmp_path / "m.dcm", drawn(), like=scan)

    def test_an_older_mask_stays_if_saving_fails(self, tmp_path, segments, scan):
        before = segments.read_bytes()
        with pytest.raises(SaveError):
            write_labels(segments, np.full((6, 5, 4), 300), like=scan)
        assert segments.read_bytes() == before
        assert not [found for found in tmp_path.iterdir() if found.name.startswith(".saving")]

    def test_source_images_that_are_gone_are_named(self, tmp_path, scan):
        scan.header.frames[0].path.unlink()
        with pytest.raises(ReadError, match="not there any more"):
            write_labels(tmp_path / "m.dcm", drawn(), like=scan)

    def test_nothing_that_is_said_names_the_patient(self, tmp_path, recwarn):
        scan = read_volume(save_series(tmp_path / "s", voxels(), PatientName="Doe"))
        write_labels(tmp_path / "m.dcm", drawn(), like=scan)
        assert TestPrivate.names_nobody("".join(str(one.message) for one in recwarn))
