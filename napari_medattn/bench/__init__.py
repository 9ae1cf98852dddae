"""Measurements that anybody can repeat: ratios of two things timed in turn in one run, because machines are noisy."""

from napari_medattn.bench.row import Row

__all__ = ["Row"]
