from __future__ import annotations

import numpy as np
import pytest

from sqznet.core import threshold

CONFIDENCES = np.array([0.55, 0.65, 0.9, 0.97, 1.0], np.float32)
HITS = np.array([False, True, True, False, True])


def test_each_threshold_has_its_answers_and_their_accuracy():
    rows = {row["threshold"]: row for row in threshold.table(CONFIDENCES, HITS)}
    assert (rows[0]["n"], rows[0]["share"], rows[0]["accuracy"]) == (5, 1.0, 0.6)
    assert (rows[0.6]["n"], rows[0.6]["accuracy"]) == (4, 0.75)
    assert (rows[0.98]["n"], rows[0.98]["share"], rows[0.98]["accuracy"]) == (1, 0.2, 1.0)
    assert rows[0]["accuracy_interval_95"][0] < 0.6 < rows[0]["accuracy_interval_95"][1]


def test_thresholds_without_an_answer_have_no_row():
    assert [row["threshold"] for row in threshold.table(np.array([0.15]), np.array([True]))] == [0.0, 0.1]


@pytest.mark.parametrize(("wanted", "expected"), [(0.5, 0.0), (0.7, 0.6), (0.9, 0.98), (1.0, 0.98)])
def test_the_lowest_threshold_with_the_accuracy_is_chosen(wanted, expected):
    row = threshold.lowest(threshold.table(CONFIDENCES, HITS), wanted)
    assert row is not None and row["threshold"] == expected


def test_no_threshold_may_have_the_accuracy():
    assert threshold.lowest(threshold.table(CONFIDENCES, np.zeros(5, bool)), 0.1) is None


def test_an_int8_file_can_reach_every_threshold():
    assert max(threshold.THRESHOLDS) <= 255 / 256
