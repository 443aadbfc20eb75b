from __future__ import annotations

import numpy as np

from sqznet.data.survey import label_errors


def test_labels_that_the_model_contradicts_come_first():
    random = np.random.default_rng(0)
    truth = random.integers(0, 4, 400)
    probabilities = random.dirichlet([1, 1, 1, 1], 400) * 0.05
    probabilities[np.arange(400), truth] += 0.95
    labels = truth.copy()
    wrong = random.choice(400, 20, replace=False)
    labels[wrong] = (labels[wrong] + 1) % 4
    found = label_errors.suspects(labels, probabilities)
    assert {each.record for each in found[:20]} == set(wrong.tolist())
    assert all(each.likely == truth[each.record] for each in found[:20])
    assert [each.margin for each in found] == sorted(each.margin for each in found)


def test_labels_that_agree_with_the_model_are_not_suspect():
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.3, 0.7]])
    assert label_errors.suspects(np.array([0, 0, 1]), probabilities) == []


def test_a_class_without_records_is_never_likely():
    probabilities = np.array([[0.1, 0.0, 0.9], [0.6, 0.4, 0.0], [0.2, 0.8, 0.0]])
    assert all(each.likely != 2 for each in label_errors.suspects(np.array([0, 0, 1]), probabilities))
