from __future__ import annotations

import numpy as np
import pytest

from sqznet.core import metrics


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [(50, 100, 0.4038, 0.5962), (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (81, 263, 0.2553, 0.3662)],
)
def test_wilson_interval_matches_published_values(hits, n, low, high):
    # 81 of 263: Newcombe 1998, Statistics in Medicine 17, table I.
    assert metrics.wilson_interval(hits, n) == pytest.approx((low, high), abs=1e-4)


def test_top1_and_top5_count_by_rank():
    probabilities = np.array([[0.4, 0.3, 0.1, 0.08, 0.07, 0.05]] * 6, np.float32)
    score = metrics.score(probabilities, np.arange(6))
    assert (score.n, score.top1_hits, score.top5_hits) == (6, 1, 5)
    assert score.confusion[:, 0].tolist() == [1] * 6


def test_equal_probabilities_rank_in_the_order_of_the_classes():
    score = metrics.score(np.full((10, 10), 0.1, np.float32), np.arange(10))
    assert (score.top1_hits, score.top5_hits) == (1, 5)  # no better than always saying the first
    assert score.confusion[:, 0].tolist() == [1] * 10


@pytest.mark.parametrize(
    ("gained", "lost", "n", "low", "high"),
    # By hand: (lost - gained) / (n + 2) plus and minus 1.959964 sqrt(sum - difference^2 / (n + 2)) / (n + 2).
    [(0, 0, 100, -0.0192, 0.0192), (2, 12, 1000, 0.0024, 0.0175)],
)
def test_the_interval_of_a_paired_difference(gained, lost, n, low, high):
    differences = np.array([-1] * gained + [1] * lost + [0] * (n - gained - lost))
    assert metrics.paired_interval(differences) == pytest.approx((low, high), abs=1e-4)


def test_with_fewer_than_six_classes_top5_is_sure_for_the_last_rank_only_if_ranked():
    score = metrics.score(np.array([[0.7, 0.2, 0.1]], np.float32), np.array([2]))
    assert (score.top1, score.top5) == (0.0, 1.0)


def test_nan_is_refused():
    with pytest.raises(ValueError, match="not numbers"):
        metrics.score(np.array([[np.nan, 1.0]]), np.array([0]))


def test_a_drop_is_what_the_first_loses_against_the_second():
    labels = np.zeros(1000, np.int64)
    right, wrong = [0.6, 0.4], [0.4, 0.6]
    first = metrics.score(np.array([right] * 2 + [wrong] * 12 + [right] * 986), labels)
    second = metrics.score(np.array([wrong] * 2 + [right] * 12 + [right] * 986), labels)
    lost, (low, high) = metrics.drop(first, second)
    assert lost == pytest.approx(0.010) and 0 < low < lost < high < 0.02
    won, interval = metrics.drop(second, first)
    assert won == -lost and interval == (-high, -low)


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return (powers / powers.sum(axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize("classes", [2, 10, 1000])
@pytest.mark.parametrize("sharpness", [0.0, 0.5, 5.0, 50.0])
def test_probabilities_pass_in_every_type_that_files_have(classes, sharpness):
    rows = softmax(np.random.default_rng(classes).normal(0, sharpness, (50, classes)))
    metrics.check_probabilities(rows)
    metrics.check_probabilities(rows.astype(np.float16).astype(np.float32))
    steps = np.clip(np.round(rows * 256), 0, 255)  # int8: of 1,000 classes, all may round to 0
    metrics.check_probabilities((steps / 256).astype(np.float32), step=1 / 256)


@pytest.mark.parametrize(
    ("row", "step", "message"),
    [
        (
            [12.5, -3.25, 0.5],
            0.0,
            r"image 2 of 2 the values are -3.25 to 12.5 with sum 9.75; .* Probably these are logits",
        ),
        ([-0.1, -2.5, -4.0], 0.0, "Probably these are logits"),  # log-probabilities
        ([0.9, 0.05, 1.05], 0.0, "Probably these are logits"),
        ([0.9, 0.8, 0.1], 0.0, r"with sum 1.8; .* Probably each class has a score of its own, as after a sigmoid"),
        ([0.0, 0.0, 0.0], 0.0, "with sum 0; expected 0 to 1 with sum 1"),
        ([0.9, 0.8, 0.1], 1 / 256, "with sum 1.8"),
        ([62.5, 30.0, 7.5], 0.0, "with sum 100"),
        ([np.nan, 0.5, 0.5], 0.0, r"puts out values that are not numbers \(NaN or infinite\) for image 2 of 2"),
        ([np.inf, 0.0, 0.0], 0.0, "are not numbers"),
    ],
)
def test_what_are_no_probabilities_is_refused_with_the_row_and_what_it_probably_is(row, step, message):
    rows = np.array([[0.25, 0.25, 0.5], row], np.float32)
    with pytest.raises(ValueError, match=message):
        metrics.check_probabilities(rows, step)


@pytest.mark.parametrize(
    ("n", "total", "max_drop", "said"),
    [
        (28, 28, 0.005, "28 records cannot show a loss of 0.5 points: one record is 3.57 points, and even with"),
        (28, 28, 0.005, "That takes 390 records: give another --split or build a larger set (this split has 28)"),
        (5, 42, 0.005, "That takes 390 records: give another --split or build a larger set (this split has 42)"),
        (5, 390, 0.005, "That takes 390 records: give --records=0"),
        (28, 5000, 0.005, "That takes 390 records: give --records=0"),
        (193, 193, 0.01, "193 records cannot show a loss of 1 point: even with no answer changed the loss may be 1.01"),
        (194, 194, 0.01, None),
        (390, 390, 0.005, None),
        (
            28,
            28,
            0.0,
            "no number of records can show that nothing is lost: with 28, even with no answer changed the loss",
        ),
        (28, 28, None, None),  # no loss was named
        (1, 1, 1.0, None),
    ],
)
def test_records_that_cannot_show_a_loss_say_so(n, total, max_drop, said):
    found = metrics.too_few_records(n, total, max_drop)
    assert found is None if said is None else said in found


def test_the_records_that_a_loss_takes_are_those_of_its_interval():
    for max_drop in (0.001, 0.005, 0.01, 0.03):
        n = metrics.records_for(max_drop)
        widths = [metrics.paired_interval(np.zeros(each, int))[1] for each in (n, n - 1)]
        assert widths[0] <= max_drop < widths[1]


def test_a_tally_of_batches_is_the_score_of_all():
    random = np.random.default_rng(0)
    probabilities = random.dirichlet(np.ones(7), 20).astype(np.float32)
    labels = random.integers(0, 7, 20)
    tally = metrics.Tally(7)
    for start in range(0, 20, 8):
        tally.add(probabilities[start : start + 8], labels[start : start + 8])
    whole, score = metrics.score(probabilities, labels), tally.score()
    assert np.array_equal(score.hits, whole.hits) and np.array_equal(score.confusion, whole.confusion)
    assert (score.n, score.top1_hits, score.top5_hits) == (20, whole.top1_hits, whole.top5_hits)
