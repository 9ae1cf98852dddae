"""The benchmark of the journal measures what it says it does."""

from __future__ import annotations

import numpy as np

from napari_medattn.bench.journal import JournalCost, measure_journal, organ


def test_each_stroke_is_measured_and_kept():
    cost = measure_journal(side=48, strokes=5, brush=6)
    assert len(cost.milliseconds) == len(cost.working) == 5
    assert min(cost.milliseconds) > 0
    assert cost.file_share > 0 < cost.base_share


def test_a_slow_stroke_or_a_large_file_misses_its_target():
    good = JournalCost([1.0] * 200, [1.0] * 200, 0.001, 0.01)
    slow = JournalCost([9.0] * 200, [1.0] * 195 + [9.0] * 5, 0.02, 0.01)
    assert [row.ok for row in good.rows(64)] == [True, True, True, True]
    assert [row.ok for row in slow.rows(64)] == [False, False, False, True]


def test_the_mask_holds_three_classes():
    assert np.unique(organ(32)).tolist() == [0, 1, 2]
