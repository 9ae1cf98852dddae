"""DICOM: series, multi-frame images and segmentations; patients' names and ids are never taken out of a header."""

from napari_medattn.data.dicom.files import is_dicom
from napari_medattn.data.dicom.read import read, read_series
from napari_medattn.data.dicom.segmentation import write_labels
from napari_medattn.data.dicom.series import Series, list_series, series_of
from napari_medattn.data.dicom.source import DicomSource

__all__ = ["DicomSource", "Series", "is_dicom", "list_series", "read", "read_series", "series_of", "write_labels"]
