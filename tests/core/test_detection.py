from __future__ import annotations

import numpy as np
import pytest

from sqznet.core import detection


def test_the_area_counts_pairs_and_equal_scores_half():
    own, foreign = np.array([0.9, 0.5, 0.2]), np.array([0.5, 0.1])
    pairs = [(a > b) + 0.5 * (a == b) for a in own for b in foreign]
    assert detection.auroc(own, foreign) == pytest.approx(np.mean(pairs))
    assert detection.auroc(own, own) == 0.5


def test_a_threshold_lets_at_least_the_share_pass():
    own = np.arange(1, 101) / 100
    assert detection.threshold_at(own, 0.95) == 0.06 and detection.threshold_at(own, 1.0) == 0.01
    assert detection.threshold_at(np.array([0.3, 0.3, 0.1]), 0.5) == 0.3


def test_the_false_positives_are_foreign_records_above_that_threshold():
    own = np.arange(1, 101) / 100
    assert detection.fpr_at_tpr(own, np.array([0.05, 0.06, 0.5, 0.01])) == 0.5


def test_the_energy_is_the_logarithm_of_the_sum_of_exponentials():
    logits = np.array([[1.0, 2.0, 3.0], [1000.0, 0.0, 0.0]], np.float32)
    np.testing.assert_allclose(detection.energy(logits), [np.log(np.exp([1, 2, 3]).sum()), 1000])


def test_an_interval_holds_the_value_and_is_the_same_each_time():
    rng = np.random.default_rng(1)
    own, foreign = rng.normal(1, 1, 200), rng.normal(0, 1, 150)
    found = detection.measured(detection.auroc, own, foreign)
    low, high = found.interval_95
    assert low < found.value < high and found == detection.measured(detection.auroc, own, foreign)
    assert 0.04 < high - low < 0.16  # 1.96 standard errors of Hanley and McNeil 1982 to both sides are 0.1


def test_a_paired_difference_of_equal_scores_is_zero():
    rng = np.random.default_rng(1)
    scores = rng.normal(1, 1, 50), rng.normal(0, 1, 50)
    assert detection.difference(detection.auroc, scores, scores) == detection.Figure(0.0, (0.0, 0.0))
    better = scores[0] + 1, scores[1]
    assert detection.difference(detection.auroc, better, scores).interval_95[0] > 0
