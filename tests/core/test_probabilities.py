"""Calibration error, likelihood, Brier score, and the fit of a temperature."""

from __future__ import annotations

import numpy as np
import pytest

from sqznet.core import metrics, probabilities


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def drawn(n: int, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and labels drawn from softmax(logits / temperature)."""
    random = np.random.default_rng(0)
    logits = random.normal(0, 4, (n, 5))
    cumulated = softmax(logits / temperature).cumsum(axis=1)
    return logits, (cumulated < random.random((n, 1))).sum(axis=1).clip(max=4)


def test_bins_have_equal_mass_and_rise():
    random = np.random.default_rng(1)
    bins = probabilities.reliability(random.random(1000), random.integers(0, 2, 1000))
    assert len(bins) == 15
    assert {each.n for each in bins} == {66, 67}
    assert [each.confidence for each in bins] == sorted(each.confidence for each in bins)


def test_the_calibration_error_is_the_weighted_distance_of_confidence_and_accuracy():
    confidences, hits = np.repeat([0.5, 0.9], [150, 150]), np.r_[np.ones(75), np.zeros(75), np.ones(105), np.zeros(45)]
    bins = probabilities.reliability(confidences, hits)
    error = probabilities.calibration_error(bins)
    assert error == pytest.approx(0.5 * 0.0 + 0.5 * 0.2)


def test_records_with_equal_confidence_share_their_hits_in_any_order():
    confidences, hits = np.full(100, 0.75), np.repeat([1, 0], [75, 25])
    for order in (slice(None), slice(None, None, -1)):
        bins = probabilities.reliability(confidences, hits[order])
        assert probabilities.calibration_error(bins) == pytest.approx(0)


def test_fewer_records_than_bins_make_fewer_bins():
    assert [each.n for each in probabilities.reliability(np.array([0.4, 0.8]), np.array([0, 1]))] == [1, 1]
    assert probabilities.reliability(np.zeros(0), np.zeros(0)) == []


def test_log_losses_and_brier_scores_are_those_of_the_definition():
    rows, labels = np.array([[0.7, 0.2, 0.1], [0.1, 0.1, 0.8]], np.float32), np.array([0, 1])
    np.testing.assert_allclose(probabilities.log_losses(rows, labels), -np.log([0.7, 0.1]), rtol=1e-6)
    expected = [0.3**2 + 0.2**2 + 0.1**2, 0.1**2 + 0.9**2 + 0.8**2]
    np.testing.assert_allclose(probabilities.brier_scores(rows, labels), expected, rtol=1e-6)


def test_a_probability_that_is_rounded_to_zero_counts_as_half_a_step():
    rows, labels = np.array([[0.0, 1.0]], np.float32), np.array([0])
    assert probabilities.log_losses(rows, labels, step=1 / 256)[0] == pytest.approx(np.log(512))
    assert np.isfinite(probabilities.log_losses(rows, labels)[0])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_the_fit_finds_the_temperature_that_labels_were_drawn_with(temperature):
    logits, labels = drawn(20_000, temperature)
    fitted = probabilities.fit_temperature(logits, labels)
    assert fitted == pytest.approx(temperature, rel=0.05)
    losses = [
        probabilities.log_losses(softmax(logits / each), labels).mean()
        for each in (fitted, fitted * 1.01, fitted / 1.01)
    ]
    assert min(losses) == losses[0]


def test_records_that_are_all_right_or_at_random_have_no_temperature():
    logits, _ = drawn(100, 1.0)
    for labels in (logits.argmax(axis=1), logits.argmin(axis=1)):
        with pytest.raises(ValueError, match=r"no temperature from 0\.05 to 20 has the least NLL"):
            probabilities.fit_temperature(logits, labels)


def test_precision_recall_and_f1_are_those_of_the_definition_and_averages_skip_absent_classes():
    found = metrics.ByClass.of(np.array([[8, 2, 0], [1, 4, 0], [0, 0, 0]]))
    np.testing.assert_allclose(found.precision, [8 / 9, 4 / 6, 0])
    np.testing.assert_allclose(found.recall, [0.8, 0.8, 0])
    np.testing.assert_allclose(found.f1, [16 / 19, 8 / 11, 0])
    means = found.macro()
    assert means["balanced_accuracy"] == means["macro_recall"] == pytest.approx(0.8)
    assert means["macro_f1"] == pytest.approx((16 / 19 + 8 / 11) / 2)
