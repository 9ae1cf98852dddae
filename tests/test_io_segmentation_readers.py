"""A DICOM SEG that we wrote, as other programs open it: names, places and voxels of each segment."""

from __future__ import annotations

import highdicom as hd
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from napari_medattn.data import Volume, read_volume, write_labels
from tests.dicom_tools import save_series, voxels

NAMES = ("background", "liver", "Niere links", "blood vessel")


@pytest.fixture
def labels() -> np.ndarray:
    return np.random.default_rng(5).integers(0, len(NAMES), (6, 5, 4)).astype(np.uint8)


@pytest.fixture
def scan(tmp_path) -> Volume:
    return read_volume(save_series(tmp_path / "scan", voxels()))


@pytest.fixture
def segments(tmp_path, scan, labels):
    write_labels(tmp_path / "mask.dcm", labels, like=scan, class_names=NAMES)
    return tmp_path / "mask.dcm"


class TestNames:
    def test_highdicom_finds_each_segment_by_its_name(self, segments, labels):
        found = hd.seg.segread(segments)
        for number, name in enumerate(NAMES[1:], 1):
            assert found.get_segment_numbers(segment_label=name) == [number]
            part = found.get_volume(segment_numbers=[number], combine_segments=False)
            assert np.count_nonzero(part.array) == np.count_nonzero(labels == number)

    def test_pydicom_finds_them_in_order_with_colours_of_their_own(self, segments):
        found = pydicom.dcmread(segments).SegmentSequence
        assert [(one.SegmentNumber, one.SegmentLabel) for one in found] == list(enumerate(NAMES[1:], 1))
        assert len({tuple(one.RecommendedDisplayCIELabValue) for one in found}) == len(NAMES) - 1

    def test_background_is_no_segment(self, segments):
        assert NAMES[0] not in [one.SegmentLabel for one in pydicom.dcmread(segments).SegmentSequence]


class TestSimpleITK:
    def test_it_opens_frame_by_frame_as_pydicom_does(self, segments):
        found = sitk.GetArrayFromImage(sitk.ReadImage(str(segments)))
        np.testing.assert_array_equal(found > 0, pydicom.dcmread(segments).pixel_array > 0)

    def test_its_frames_add_up_to_the_mask(self, segments, labels):
        image, header = sitk.ReadImage(str(segments)), pydicom.dcmread(segments)
        frames = sitk.GetArrayFromImage(image) > 0
        numbers = [
            frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber
            for frame in header.PerFrameFunctionalGroupsSequence
        ]
        counts = {number: int(frames[np.array(numbers) == number].sum()) for number in set(numbers)}
        assert counts == {number: int(np.count_nonzero(labels == number)) for number in range(1, len(NAMES))}

    def test_pixels_of_one_segment_have_the_size_and_place_of_the_scans(self, tmp_path, scan):
        """ITK takes frames of several segments for frames without a place."""
        write_labels(tmp_path / "one.dcm", np.ones(scan.grid.shape, np.uint8), like=scan, class_names=NAMES[:2])
        found = sitk.ReadImage(str(tmp_path / "one.dcm"))
        np.testing.assert_allclose(found.GetSpacing(), scan.grid.spacing[::-1])
        corners = [found.TransformIndexToPhysicalPoint((0, 0, z)) for z in range(6)]
        ours = [np.array(scan.grid.to_world((z, 0, 0))) * (-1, -1, 1) for z in range(6)]
        np.testing.assert_allclose(sorted(map(tuple, corners)), sorted(map(tuple, ours)), atol=1e-4)
