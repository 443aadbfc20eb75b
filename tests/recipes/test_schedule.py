from __future__ import annotations

import pytest

from sqznet import recipes
from sqznet.core.errors import InputError
from sqznet.recipes import schedule

ARTICLE_TRAIN = 1_231_167  # ILSVRC's training photographs less 50 of each class


@pytest.mark.parametrize(
    ("epoch", "expected"), [(0, 1e-2), (49, 1e-2), (50, 1e-3), (64, 1e-3), (65, 1e-4), (75, 1e-5), (79, 1e-5)]
)
def test_article_divides_by_ten_at_50_65_and_75(epoch, expected):
    plan = schedule.plan(recipes.ARTICLE, ARTICLE_TRAIN)
    assert plan.learning_rate(plan.epoch_start(epoch)) == pytest.approx(expected)
    assert plan.learning_rate(plan.epoch_end(epoch) - 1) == pytest.approx(expected)


@pytest.mark.parametrize(("step", "expected"), [(0, 0.04), (85_000, 0.02), (169_999, 0.04 / 170_000)])
def test_paper_falls_linearly_to_zero_over_170000_steps(step, expected):
    plan = schedule.plan(recipes.PAPER, ARTICLE_TRAIN)
    assert plan.total_steps == 170_000
    assert plan.learning_rate(step) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("records", "batch", "ends"),
    [(1000, 100, [10, 20, 30]), (1050, 100, [11, 21, 32]), (100, 100, [1]), (199, 100, [2, 4, 6])],
)
def test_an_epoch_ends_with_the_step_that_holds_its_last_record(records, batch, ends):
    plan = schedule.plan(recipes.Recipe(global_batch_size=batch, epochs=len(ends)), records)
    assert [plan.epoch_end(epoch) for epoch in range(plan.epochs)] == ends
    assert plan.total_steps == ends[-1]
    for epoch, end in enumerate(ends):
        assert (end - 1) * batch < (epoch + 1) * records <= end * batch
        assert {plan.epoch_of(step) for step in range(plan.epoch_start(epoch), end)} == {epoch}


def test_a_run_counted_in_steps_may_end_within_an_epoch():
    plan = schedule.plan(recipes.Recipe(global_batch_size=100, total_steps=25), 1000)
    assert (plan.epochs, plan.epoch_end(2)) == (3, 25)


def test_warm_up_rises_to_the_peak_and_the_cosine_falls_from_it():
    recipe = recipes.Recipe(global_batch_size=10, epochs=10, warmup_epochs=2, schedule="cosine", learning_rate=1.0)
    plan = schedule.plan(recipe, 100)
    rates = [plan.learning_rate(step) for step in range(plan.total_steps)]
    assert rates.index(max(rates)) == 20
    assert rates[20] == pytest.approx(1.0)
    assert rates[:20] == sorted(rates[:20]) and rates[0] > 0
    assert rates[20:] == sorted(rates[20:], reverse=True) and rates[-1] < 0.001


def test_training_sizes_follow_the_epochs():
    recipe = recipes.Recipe(train_sizes=((0, 64), (2, 96)), global_batch_size=10)
    plan = schedule.plan(recipe, 100)
    assert [plan.image_size(epoch) for epoch in range(4)] == [64, 64, 96, 96]


def test_a_split_smaller_than_a_batch_is_refused():
    with pytest.raises(InputError, match="has 100 records, fewer than one global batch of 128"):
        schedule.plan(recipes.ARTICLE, 100)
